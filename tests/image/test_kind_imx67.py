"""What mkimage makes for i.MX 6, 7 and 7ULP: planned as its log says, and nothing of it left out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import pytest

from digsigd import hab
from digsigd.image.model import Signing
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import Maker, failing, signed
from tests.image.kinds_judged import at, blocks, is_good, planned, refused, report_of, why_not, without

U_BOOT = kinds.imximage()
CSF = kinds.csf_offset(U_BOOT)
BASE = 0x877FF400
WITH_SPL = kinds.with_spl()


def test_the_blocks_are_those_of_the_build_log() -> None:
    """HAB Blocks: mx6_mx7_secure_boot.txt and mx6_mx7_spl_secure_boot.txt, 1.3."""
    assert blocks(planned(U_BOOT)) == [(BASE, 0, CSF)]
    assert planned(U_BOOT).must == ((0, CSF),)
    found = planned(U_BOOT)
    assert (found.signings[0].csf_offset, found.signings[0].csf_room) == (len(U_BOOT), 0x2060)
    spl = kinds.spl()
    assert blocks(planned(spl)) == [(0x907400, 0, kinds.csf_offset(spl))]
    second = planned(kinds.u_boot_ivt_img(0x17800000, size=0x6D123))
    assert blocks(second) == [(0x177FFFC0, 0, 0x6E020)]
    assert (second.signings[0].csf_offset, second.signings[0].csf_room) == (0x6E020, 0x2000)


def test_a_csf_behind_the_end_is_reached_by_zeros() -> None:
    """QSPI and NOR: 0x8e8 bytes. A file that ends a page before was cut short."""
    data = kinds.imximage(boot_from="qspi")
    found = planned(data)
    assert blocks(found) == [(0x87800000 - 0x718, 0, len(data) + 0x8E8)]
    assert [(patch.offset, len(patch.data)) for patch in found.patches] == [(len(data), 0x8E8)]
    assert found.patches[0].data.count(0) == 0x8E8
    assert "The file is truncated" in refused(data[:-0x800])
    assert "The file is truncated" in refused(U_BOOT[:-0x1000])
    assert "The file is truncated" in refused(U_BOOT[:0x800])


@pytest.mark.parametrize("csf", [0x2060, 0x2000, 0x4000, 0x400])
def test_the_room_is_what_the_boot_data_count(csf: int) -> None:
    """CONFIG_CSF_SIZE, Digi's, barebox's and SPSDK's."""
    found = planned(kinds.imximage(csf=csf))
    assert found.signings[0].csf_room == csf
    assert found.size == CSF + csf


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (0x400 + CSF, "right where the CSF begins"),
        (0x400 + CSF // 2, "in the middle of what is signed"),
        (0x400 + CSF + 0x200, "in the CSF"),
        (0, "in the middle of what is signed"),
    ],
)
def test_boot_data_that_leave_the_csf_out_are_refused(length: int, says: str) -> None:
    """With the very number that the scripts of vendors write there."""
    text = refused(at(U_BOOT, 0x24, length))
    assert says in text
    assert f"scripts of Digi and Foundries do: write {0x400 + CSF + 0x2000:#x} instead of {length:#x}" in text
    assert "length at 0x24 in the file" in text
    # What it says helps.
    planned(at(U_BOOT, 0x24, 0x400 + CSF + 0x2000))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((0x18, 0), "has no CSF pointer"),
        ((0x28, 1), "is for a plugin (flag 0x1"),
        ((0x28, 5), "with the flag 0x5"),
        ((0x04, BASE), "its entry point at 0x877ff400"),
        ((0x04, BASE + CSF), "its entry point"),
        ((0x08, 4), "in its reserved words"),
        ((0x1C, 4), "in its reserved words"),
        ((0x10, BASE + 0x10), "its boot data at 0x877ff410"),
        ((0x20, BASE - 0x300), "which fits no boot device"),
        ((0x0C, 0x910000), "its DCD at 0x910000, not in the image"),
        ((0x0C, BASE + 0x24), "its DCD at 0x877ff424"),
        ((0x2C, b"\xd3"), "but d3 00 28 40 is there"),
        ((0x2C, b"\xd2\xff\xff"), "has 4 to 1768 bytes"),
        ((0x04, 0x87800001), "an image for a Cortex-M"),
        ((0x00, b"\xd1\x00\x21"), "the data at 0x0 are unknown"),
    ],
)
def test_headers_that_do_not_fit_are_refused(change: tuple[int, int | bytes], says: str) -> None:
    """Each word of the IVT and the boot data, and the DCD."""
    assert says in refused(at(U_BOOT, *change))


def test_an_image_without_a_csf_is_told_what_vendors_write_into_it() -> None:
    """Digi's script takes the end of the file for the place of the CSF, and counts it in the boot data."""
    data = kinds.imximage(csf=0)
    text = refused(data)
    assert f"{BASE + len(data):#x} to 0x18 in the file" in text
    assert f"{0x400 + len(data) + 0x2000:#x} instead of {0x400 + len(data):#x} to 0x24" in text
    made = at(at(data, 0x18, BASE + len(data)), 0x24, 0x400 + len(data) + 0x2000)
    is_good(signed(made))
    assert "Digi" not in refused(data + bytes(0x400))


def test_a_plugin_is_refused_with_the_reason() -> None:
    """It has no CSF pointer either, and that is not what is wrong with it."""
    data = at(kinds.imximage(csf=0), 0x28, 1)
    assert "the ROM calls it to load the rest" in refused(data)
    assert "Plugins are not signed" in refused(data)


def test_the_m4_of_7ulp_is_refused_with_the_reason() -> None:
    """Its fuses and its HAB are not confirmed; filled in or not."""
    for own in (0x04001000, 0x1FFD1000):
        head = golden.ivt(own + 0x1001, own, own + 0x4000, boot_data=own + 0x20)
        head += struct.pack("<3I", own - 0x1000, 0x7000, 0)
        data = (bytes(0x1000) + head).ljust(0x2000, b"\0") + golden.filler("m4", 0x3000)
        assert "the M4 of i.MX 7ULP, which has a separate HAB and separate SRK fuses" in refused(data)
        assert "the M4 of i.MX 7ULP" in refused(at(data, 0x1018, 0))
        assert "the M4 of i.MX 7ULP" in refused(data, "imx7ulp")


def test_what_is_in_front_is_known() -> None:
    """NAND's marker, zeros, and the configuration of QSPI; none of it is signed."""
    for data, place, front in (
        (kinds.nand_spl(), 0x400, "NAND"),
        (kinds.nand_u_boot(), 0x400, ""),
        (kinds.qspi(kinds.imximage(boot_from="qspi")), 0x1000, "QSPI"),
    ):
        found = planned(data)
        assert found.signings[0].ivt.offset == place
        assert found.signings[0].blocks[0].offset == place
        assert front in found.layout
    assert "no IVT at 0x400" in refused(b"\0\0\0\0FCB \x01".ljust(0x400, b"\0") + bytes(0x1000))
    other = at(kinds.nand_u_boot(), 0x200, b"\x13")
    assert any("are not signed, and the ROM does not read them" in note for note in planned(other).notes)
    is_good(signed(other))
    assert "the image of a disk" in refused(at(other, 0x1FE, b"\x55\xaa"))


def test_what_the_rom_loads_in_front_of_the_ivt_may_be_signed_too() -> None:
    """It is in memory by then, where the boot data say."""
    whole = Maker(blocks=lambda _: [hab.Block(BASE - 0x400, 0, 0x400 + CSF)])
    is_good(signed(kinds.nand_u_boot(), makers={"image": whole}))
    moved = bytes(0x1000) + U_BOOT
    for count, good in ((0x400, True), (0x404, False)):
        front = Maker(blocks=lambda _, count=count: [hab.Block(BASE - count, 0x1000 - count, count + CSF)])  # type: ignore[misc]
        report = report_of(signed(moved, makers={"image": front}))
        assert isinstance(report, Report)
        assert report.holds is good, failing(report)


def test_an_spl_and_what_it_loads_have_a_csf_each() -> None:
    """u-boot-ivt.img at CONFIG_SPL_PAD_TO, or a FIT."""
    found = planned(WITH_SPL)
    assert [part.name for part in found.signings] == ["SPL", "U-Boot"]
    assert blocks(found, 1) == [(0x177FFFC0, 0x11000, 0x6E020)]
    fit = kinds.with_spl(second=golden.binman_fit(kinds.fit32(), 0x84000000))
    found = planned(fit)
    assert [part.name for part in found.signings] == ["SPL", "FIT"]
    assert blocks(found, 1)[0][:2] == (0x84000000, 0x11000)
    # Its room is cut by what follows.
    tight = kinds.with_spl(pad_to=len(kinds.spl()) + 0xC00)
    assert planned(tight).signings[0].csf_room == 0xC00
    assert "CONFIG_SPL_PAD_TO" in refused(kinds.with_spl(pad_to=len(kinds.spl()) + 0x400 - 0x400))


def test_a_second_part_that_an_spl_with_hab_refuses_is_named() -> None:
    """u-boot.img has no IVT; nor has anything else that is no FIT."""
    plain = kinds.uimage(golden.filler("u-boot", 0x5000), load=0x17800000, kind=5)
    assert "Use u-boot-ivt.img" in refused(kinds.with_spl(second=plain))
    assert "Use u-boot-ivt.img" in refused(plain)
    assert "the data at 0x11000 are unknown: 13" in refused(kinds.with_spl(second=b"\x13" * 0x1000))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: at(data, 0x0C, b"\0\x07\0\0"), "has the CRC"),
        (lambda data: data[:0x30000], "the IVT is missing there"),
        (lambda data: at(data, 0x6E000, b"\0"), "the IVT is missing there"),
        (lambda data: data[:-1], "the IVT is missing there"),
    ],
)
def test_a_uimage_that_was_changed_is_refused(change: Callable[[bytes], bytes], says: str) -> None:
    """Its header and its data have CRCs, and its IVT a place."""
    assert says in refused(change(kinds.u_boot_ivt_img()))
    whole = WITH_SPL[:0x11000] + change(kinds.u_boot_ivt_img())
    assert says in refused(whole)


def test_a_crc_that_does_not_fit_is_told() -> None:
    """SPL compares it where it is built so; what HAB checks is the signature."""
    data = at(kinds.u_boot_ivt_img(), 0x100, b"\x13")
    assert any("have the CRC" in note for note in planned(data).notes)
    assert not planned(kinds.u_boot_ivt_img()).notes
    is_good(signed(data))


def recrc(data: bytes, length: int | None = None, size: int | None = None) -> bytes:
    """A uImage with CRCs that fit what was changed in it."""
    import zlib

    body = data[0x40 : None if length is None else 0x40 + length]
    head = bytearray(data[:0x40])
    struct.pack_into(">I", head, 0x0C, struct.unpack_from(">I", head, 0x0C)[0] if size is None else size)
    struct.pack_into(">I", head, 0x18, zlib.crc32(body))
    struct.pack_into(">I", head, 4, 0)
    struct.pack_into(">I", head, 4, zlib.crc32(head))
    return bytes(head) + data[0x40:]


def test_the_ivt_of_a_uimage_is_that_of_its_load_address() -> None:
    """SPL hands HAB the address by the header."""
    data = kinds.u_boot_ivt_img()
    place = len(data) - 0x20
    for change in ((place + 0x14, 0x17900000), (place + 4, 0x17800004), (place + 0x18, 0x17900000), (place + 12, 4)):
        changed = recrc(at(data, *change))
        assert "IVT" in refused(changed)
    assert planned(recrc(data)).signings == planned(data).signings


ALL: dict[str, Callable[[], bytes]] = {
    "u-boot.imx": lambda: U_BOOT,
    "for QSPI": partial(kinds.imximage, boot_from="qspi"),
    "QSPI with its table": lambda: kinds.qspi(kinds.imximage(boot_from="qspi")),
    "SPL": kinds.spl,
    "SPL for NAND": kinds.nand_spl,
    "u-boot-nand.imx": kinds.nand_u_boot,
    "u-boot-ivt.img": kinds.u_boot_ivt_img,
    "u-boot-with-spl.imx": lambda: WITH_SPL,
}


@pytest.mark.parametrize("name", ALL)
def test_what_is_signed_holds_and_no_changed_byte_does(name: str) -> None:
    """The first and the last of each block, and of each part that its map names, unless it says that it is unsigned."""
    data = signed(ALL[name]())
    report = is_good(data)
    places = {place for part in report.plan.signings for one in part.blocks for place in (one.offset, one.end - 1)}
    for region in report.plan.regions:
        if any(word in region.name for word in ("padding", "not signed", "room")):
            continue
        places |= {region.offset, region.end - 1}
    for place in places:
        changed = at(data, place, bytes([data[place] ^ 1]))
        found = report_of(changed)
        assert isinstance(found, str) or not found.holds, f"{place:#x}"


def leaving_out(place: int, length: int) -> Maker:
    return Maker(blocks=lambda _: without(place, length, BASE, CSF))


@pytest.mark.parametrize(
    ("place", "length", "says"),
    [
        (0x20, 12, "boot data"),
        (0x2C, 4, "DCD"),
        (0x40, 8, "DCD"),
        (0xC00, 4, "entry point"),
        (CSF - 0x1000, 0x10, "not covered"),
    ],
)
def test_a_valid_csf_that_leaves_something_out_does_not_hold(place: int, length: int, says: str) -> None:
    """Whatever it is that the board reads: cst signs any blocks."""
    assert says in why_not(signed(U_BOOT, makers={"image": leaving_out(place, length)}))


def test_another_ivt_in_front_of_a_signed_image_does_not_hold() -> None:
    """It points to the CSF that is there, which is good, and starts something else."""
    good = signed(kinds.imximage(dcd_of=None))
    own = BASE - 0x1000
    head = golden.ivt(own + 0x100, own, BASE + CSF, boot_data=own + 0x20)
    head += struct.pack("<3I", own - 0x400, 0x400 + 0x1000 + CSF + 0x2060, 0)
    forged = (head.ljust(0x100, b"\0") + b"\x13" * 0x40).ljust(0x1000, b"\0") + good
    assert planned(forged).signings[0].csf_offset == 0x1000 + CSF
    assert "signed" in why_not(forged)


def test_a_second_part_without_a_csf_or_of_other_keys_does_not_hold() -> None:
    """However well the SPL is signed."""
    assert "not signed" in why_not(signed(WITH_SPL, makers={"U-Boot": None}))
    assert "not signed" in why_not(signed(WITH_SPL, makers={"SPL": None}))
    # The SPL's CSF covers it as well, where nothing is in memory yet.
    whole = hab.Block(0x907400, 0, kinds.csf_offset(WITH_SPL))
    both = Maker(blocks=lambda _: [whole, hab.Block(0x177FFFC0, 0x11000, 0x6E020)])
    assert why_not(signed(WITH_SPL, makers={"SPL": both, "U-Boot": None}))


def test_a_uimage_that_tells_spl_of_another_end_does_not_hold() -> None:
    """SPL looks for the IVT before it: one that covers less, of the same keys."""
    img = signed(kinds.u_boot_ivt_img())
    small = signed(kinds.u_boot_ivt_img(size=0x2F00))
    # Signed bytes of the small one are at its place; the header says the end of the large one.
    forged = small[:0x40] + small[0x40:].ljust(len(img) - 0x40, b"\0")
    size = struct.unpack_from(">I", img, 0x0C)[0]
    assert why_not(recrc(forged, 0x6E020 - 0x40, size))


def test_signing_parts_have_what_verification_asks_for() -> None:
    """A signing of these kinds covers all of its blocks."""
    for part in planned(WITH_SPL).signings:
        assert isinstance(part, Signing)
        assert not part.least


def test_boot_data_that_go_beyond_the_memory_on_the_chip_are_refused() -> None:
    """Whatever the silicon: there is no memory behind it."""
    assert "the memory on the chip ends before" in refused(at(kinds.spl(), 0x24, 0x0F000000), "imx6q")
    planned(at(kinds.spl(), 0x24, 0x40000), "imx6q")
