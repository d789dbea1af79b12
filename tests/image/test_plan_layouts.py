"""Every published layout is planned with the numbers that the makers' own tools and pages give."""

from __future__ import annotations

import itertools
import mmap
import struct
import tempfile
from collections.abc import Iterator

import pytest

from digsigd import hab
from digsigd.image.model import Plan, Signing
from digsigd.image.plan import plan
from tests.helpers import golden

KERNEL = 0x40480000
# imx-mkimage, lf-6.6.3, iMX8M/soc.mak and its output: SPL, its IVT, ATF, TEE; FIT and its CSF in flash.bin for SD.
TABLE = {
    "mm": (0x7E1000, 0x7E0FC0, 0x920000, 0xBE000000, 0x57C00, 0x58C20),
    "mn": (0x912000, 0x911FC0, 0x960000, 0x56000000, 0x58000, 0x59020),
    "mp": (0x920000, 0x91FFC0, 0x970000, 0x56000000, 0x58000, 0x59020),
    "mq": (0x7E1000, 0x7E0FC0, 0x910000, 0xFE000000, 0x57C00, 0x58C20),
}


def patched(data: bytes, found: Plan) -> bytes:
    """The file as it is signed, with empty CSFs."""
    whole = bytearray(data)
    for patch in found.patches:
        assert patch.offset <= len(whole)
        whole[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(whole).ljust(found.size, b"\0")


def signed(data: bytes, found: Plan) -> bytes:
    """The file with something in each room that looks like a CSF and fills it."""
    whole = bytearray(patched(data, found))
    for part in found.signings:
        room = part.csf_room
        whole[part.csf_offset : part.csf_offset + room] = (b"\xd4\x00\x58\x43" * (room // 4 + 1))[:room]
    return bytes(whole)


def blocks(part: Signing) -> list[tuple[int, int, int]]:
    return [(block.address, block.offset, block.length) for block in part.blocks]


def check(data: bytes, found: Plan) -> None:
    """What holds for every plan, whatever the layout."""
    assert found.size >= len(data)
    place = 0
    for region in found.regions:
        assert region.offset == place
        assert region.length > 0
        assert region.name
        place = region.end
    assert place == found.size
    whole = patched(data, found)
    for part in found.signings:
        assert part.csf_offset + part.csf_room <= found.size
        assert part.csf_offset == part.ivt.offset_of(part.ivt.csf)
        assert hab.Ivt.parse(whole[part.ivt.offset : part.ivt.offset + 0x20], part.ivt.offset) == part.ivt
        # The server's own check, with the room that it allows the CSF.
        layout = hab.check_layout([part.blocks], [hab.File.of(whole)])
        assert layout.room is None or layout.room >= part.csf_room
        for block in part.blocks:
            assert not (block.offset < part.csf_offset + part.csf_room and part.csf_offset < block.end)
    covered = [(block.offset, block.end) for part in found.signings for block in part.blocks]
    for start, length in found.must:
        assert any(first <= start and start + length <= last for first, last in covered)
    rooms = [(part.csf_offset, part.csf_offset + part.csf_room) for part in found.signings]
    for (_, end), (start, _) in itertools.pairwise(sorted(rooms)):
        assert end <= start


def every_flash() -> Iterator[object]:
    for soc, layout, boot in itertools.product(golden.SOCS, golden.LAYOUTS, golden.BOOTS):
        if layout == "u-boot" and boot != "sd":
            continue
        if layout == "binman" and (boot == "emmc_fastboot" or (boot == "flexspi" and soc != "mm")):
            continue
        yield pytest.param(soc, layout, boot, id=f"{soc}-{layout}-{boot}")


@pytest.mark.parametrize(("soc", "layout", "boot"), list(every_flash()))
@pytest.mark.parametrize("tee", [True, False], ids=["tee", "no-tee"])
def test_every_flash_bin_is_planned(soc: str, layout: str, boot: str, tee: bool) -> None:
    """SPL first, then the FIT, then its tree where that has a signature of its own; all at their makers' places."""
    data = golden.flash(soc, layout, boot=boot, tee=tee)
    found = plan(data)
    check(data, found)
    assert found.soc == soc
    assert not found.patches
    assert [part.name for part in found.signings] == ["SPL", "FIT"] + ["FIT-FDT"] * (layout == "nxp-new")
    assert [part.unlock for part in found.signings] == [True] + [False] * (len(found.signings) - 1)
    spl, fit = found.signings[:2]
    where = 0x1000 if boot == "flexspi" else 0
    assert len(spl.blocks) == 1
    assert spl.ivt.offset == where
    assert spl.csf_offset == spl.blocks[0].end
    assert spl.csf_room == 0x2000
    assert fit.csf_room == 0x1FE0
    if layout == "binman":
        assert len(fit.blocks) == 1
        assert fit.blocks[0].address == golden.FIT_ADDRESS
    else:
        assert fit.blocks[0].offset == golden.fit_offset(soc, boot)
        assert len(fit.blocks) == 4 + tee
        offsets = [block.offset for block in fit.blocks]
        assert offsets == sorted(offsets)
    for again in (signed(data, found), patched(data, found)):
        repeated = plan(again)
        assert repeated.signings == found.signings
        assert repeated.must == found.must
        assert repeated.size == found.size
    old = [note for note in plan(signed(data, found)).replaced if "already holds a CSF" in note]
    assert len(old) == len(found.signings)


@pytest.mark.parametrize("soc", golden.SOCS)
def test_the_numbers_are_those_of_the_table(soc: str) -> None:
    """SD and eMMC, a tree of at most 4 KiB: docs of imx-mkimage's own output."""
    spl_load, self_address, atf, tee, fit_at, csf_at = TABLE[soc]
    found = plan(golden.flash(soc, "nxp-new"))
    spl, fit, tree = found.signings
    assert blocks(spl)[0][:2] == (self_address, 0)
    assert spl.ivt.entry == spl_load
    assert fit.csf_offset == csf_at
    assert blocks(fit)[0] == (0x401FADC0, fit_at, 0x1020)
    by_address = {address: offset for address, offset, _ in blocks(fit)}
    assert {0x40200000, atf, tee} <= set(by_address)
    assert by_address[0x40200000] == fit_at + 0x5000
    # csf_examples/mx8m/csf_fit_fdt.txt of uboot-imx: 0x401fadc0 0x57c00 0x3020.
    assert blocks(tree) == [(0x401FADC0, fit_at, 0x3020)]
    assert tree.csf_offset == csf_at + 0x2000


def test_the_example_of_the_guide_has_its_very_blocks() -> None:
    """mx8m_secure_boot.txt, 1.3 and 1.4: i.MX 8M Quad, order of the images and sizes as there."""
    parts = (
        golden.Part("uboot@1", golden.filler("u-boot", 0x9AAC8), "standalone", 0x40200000),
        golden.Part("atf@1", golden.filler("atf", 0x9139), "firmware", 0x910000, 0x910000),
        golden.Part("tee@1", golden.filler("tee", 0x4D268), "firmware", 0xFE000000, 0xFE000000),
        golden.Part("fdt@1", golden.filler("dtb", 0x6DCF), "flat_dt"),
    )
    config = golden.Config("config@1", "uboot@1", ("atf@1", "tee@1"), ("fdt@1",))
    fit = golden.with_fit_ivt(golden.mkimage(parts, (config,), 0x3000), signed_tree=False)
    code = golden.filler("spl", 0x2E600 - 0x400 - 0x30 + 0x200)
    head = golden.spl("mq", code=code, second=0x60000, hdmi=True, header=0x30)
    found = plan(head.ljust(0x57C00, b"\0") + fit)
    spl, second = found.signings
    assert found.soc == "mq"
    assert blocks(spl)[0][:2] == (0x7E0FD0, 0x1A000)
    assert second.csf_offset == 0x58C20
    assert blocks(second) == [
        (0x401FCDC0, 0x57C00, 0x1020),
        (0x40200000, 0x5AC00, 0x9AAC8),
        (0x910000, 0xF56C8, 0x9139),
        (0xFE000000, 0xFE804, 0x4D268),
        (0x4029AAC8, 0x14BA6C, 0x6DCF),
    ]


def test_flexspi_moves_everything_behind_its_configuration() -> None:
    """soc.mak: the Mini has an SPL address of its own for it; the FIT stands at 0x60000 of the flash."""
    for soc, address in (("mm", 0x7E1FC0), ("mn", 0x911FC0), ("mp", 0x91FFC0), ("mq", 0x7E0FC0)):
        found = plan(golden.flash(soc, boot="flexspi"))
        spl, fit, _ = found.signings
        assert blocks(spl)[0][:2] == (address, 0x1000)
        assert blocks(fit)[0] == (0x401FADC0, 0x60000, 0x1020)
        kind = "QSPI" if soc == "mq" else "FlexSPI"
        assert any(region.name == f"{kind} configuration" for region in found.regions)
        assert kind in found.layout


def test_the_qspi_configuration_is_known_in_either_byte_order() -> None:
    """U-Boot's cmd_qspihdr.c and imx-mkimage's fspi_packer.sh write the words of it differently."""
    data = golden.flash("mq", "nxp-new", boot="flexspi")
    assert data[0x5FC:0x600] == b"\x01\xee\xff\xc0"
    other = data[:0x5FC] + b"\xc0\xff\xee\x01" + data[0x600:]
    found = plan(other)
    check(other, found)
    assert found.signings == plan(data).signings


def test_hdmi_firmware_is_known_and_left_alone() -> None:
    """It is NXP's, signed by NXP; the SPL stands behind it."""
    for layout in ("nxp-old", "nxp-hash", "nxp-new"):
        data = golden.flash("mq", layout, hdmi=True)
        found = plan(data)
        check(data, found)
        assert found.soc == "mq"
        assert found.regions[0].name == "HDMI or DisplayPort firmware, signed by NXP"
        assert found.regions[0].length == 0x1A000
        assert found.signings[0].ivt.offset == 0x1A000
        assert all(start >= 0x1A000 for start, _ in found.must)
    bare = golden.spl("mq", hdmi=True)
    check(bare, plan(bare))
    assert plan(bare).soc == "mq"


def test_the_map_names_everything() -> None:
    """As people call it, and the hash and DDR firmware where they can be told apart."""
    names = [region.name for region in plan(golden.flash("mp", "nxp-new")).regions]
    assert names == [
        "IVT",
        "SPL",
        "DDR firmware",
        "hash of the FIT's tree",
        "end of the SPL",
        "room for the CSF of the SPL",
        "padding",
        "FIT tree",
        "padding",
        "IVT of the FIT",
        "room for the CSF of the FIT",
        "IVT of the FIT-FDT",
        "room for the CSF of the FIT-FDT",
        "U-Boot (uboot-1)",
        "DTB (fdt-1)",
        "padding",
        "ATF (atf-1)",
        "padding",
        "TEE (tee-1)",
    ]
    old = [region.name for region in plan(golden.flash("mp", "nxp-old")).regions]
    assert old[:3] == ["IVT", "SPL with DDR firmware", "room for the CSF of the SPL"]


def test_what_must_be_signed_is_all_that_is_run() -> None:
    """SPL with its IVT, the tree with its IVT, and each image that is loaded."""
    found = plan(golden.flash("mm", "nxp-new"))
    spl, fit, _ = found.signings
    assert found.must == tuple((offset, length) for _, offset, length in blocks(spl) + blocks(fit))


@pytest.mark.parametrize("soc", golden.SOCS)
@pytest.mark.parametrize("boot", golden.BOOTS)
def test_an_spl_alone_is_planned(soc: str, boot: str) -> None:
    """As in builds with a dual bootloader. The Mini's and the Quad's are alike."""
    data = golden.spl(soc, boot=boot)
    if boot == "flexspi":
        data = golden.packed_for_flexspi(soc, data)
    found = plan(data)
    check(data, found)
    assert found.layout.startswith("SPL")
    assert found.soc == (soc if soc in ("mn", "mp") or (soc, boot) == ("mm", "flexspi") else None)
    assert plan(data, load_address=found.signings[0].ivt.entry).signings == found.signings


def test_an_spl_with_the_bytes_before_its_ivt_is_planned() -> None:
    """As it is on SD cards behind 0x8000, and as tools other than mkimage leave it."""
    data = bytes(0x400) + golden.flash("mm", "nxp-new")
    found = plan(data)
    check(data, found)
    assert found.signings[0].ivt.offset == 0x400
    assert [part.csf_offset - 0x400 for part in found.signings] == [
        part.csf_offset for part in plan(data[0x400:]).signings
    ]


def test_an_image_of_another_family_with_an_ivt_is_planned_by_it() -> None:
    """U-Boot for i.MX 6ULL: tools/imximage.c. It is no SPL of i.MX 8M, and its CSF unlocks nothing."""
    address, size = 0x877FF400, 0x81C00
    head = golden.ivt(address + 0xC00, address, address + size, boot_data=address + 0x20, dcd=address + 0x2C)
    head += struct.pack("<3I", address - 0x400, 0x400 + size + 0x2000, 0) + b"\xd2\x01\xe8\x40"
    data = head + golden.filler("u-boot.imx", size - len(head))
    found = plan(data)
    check(data, found)
    assert found.layout == "image with an IVT"
    assert found.soc is None
    assert blocks(found.signings[0]) == [(address, 0, size)]
    assert not found.signings[0].unlock
    assert found.size == size + 0x2000


def test_a_fit_alone_is_planned() -> None:
    """mkimage_imx8 -fit_ivt u-boot.itb 0x40200000 0x0: as within a flash.bin, from 0 on."""
    for soc in golden.SOCS:
        data = golden.fit_ivt(soc)
        found = plan(data)
        check(data, found)
        assert found.soc == soc
        assert [part.name for part in found.signings] == ["FIT", "FIT-FDT"]
        assert blocks(found.signings[0])[0] == (0x401FADC0, 0, 0x1020)
        assert found.signings[0].csf_offset == 0x1020
        assert plan(data, load_address=0x401FADC0).signings == found.signings
    old = golden.fit_ivt("mm", signed_tree=False)
    assert blocks(plan(old).signings[0])[0] == (0x401FCDC0, 0, 0x1020)


def test_a_fit_without_an_ivt_gets_one_for_the_address_given() -> None:
    """With external data as csf.sh makes it, with embedded data as binman does."""
    data = golden.itb("mm", external=0x3000)
    found = plan(data, load_address=0x401FCDC0)
    check(data, found)
    ready = golden.with_fit_ivt(data, signed_tree=False)
    assert plan(ready).signings == found.signings
    assert [patch.offset for patch in found.patches] == [0x1000]

    data = golden.itb("mm", external=None)
    found = plan(data, load_address=golden.FIT_ADDRESS)
    check(data, found)
    assert patched(data, found)[: found.signings[0].csf_offset] == golden.binman_fit(data)
    assert plan(golden.binman_fit(data)).signings == found.signings


def test_a_fit_in_a_flash_bin_gets_its_ivt_in_place() -> None:
    """Where mkimage left a hole for it."""
    whole = golden.flash("mm", "u-boot")
    bare = whole[:0x58C00] + bytes(0x20) + whole[0x58C20:]
    found = plan(bare, load_address=0x401FCDC0)
    check(bare, found)
    assert found.signings == plan(whole).signings


@pytest.mark.parametrize("soc", golden.SOCS)
def test_a_fit_behind_an_spl_without_an_ivt_is_signed_for_u_boot_s_address(soc: str) -> None:
    """U-Boot before 2024.10 makes no IVT, and all its boards have one address; the note says that it is not told."""
    whole = golden.flash(soc, "binman")
    place = golden.fit_offset(soc)
    bare = whole[:place] + golden.itb(soc, external=None, names="u-boot")
    found = plan(bare)
    check(bare, found)
    assert found.signings == plan(whole).signings
    assert "CONFIG_SPL_LOAD_FIT_ADDRESS" in " ".join(found.notes)
    other = plan(bare, load_address=0x48000000)
    assert other.signings[1].blocks[0].address == 0x48000000
    assert "CONFIG_SPL_LOAD_FIT_ADDRESS" not in " ".join(other.notes)


def test_leftovers_behind_a_tree_are_signed_with_it() -> None:
    """Old mkimage wrote nothing there, and left what was in the file."""
    whole = bytearray(golden.flash("mm", "nxp-old"))
    end = golden.fit_offset("mm") + golden.tree_size(bytes(whole[golden.fit_offset("mm") :]))
    whole[end : end + 3] = b"\x13\x14\x15"
    found = plan(bytes(whole))
    check(bytes(whole), found)
    assert [one.name for one in found.regions if one.offset == end] == ["leftovers, signed unchanged"]


def test_a_fit_of_binman_without_cst_ends_with_its_ivt() -> None:
    """The room for the CSF is behind the end of the file then."""
    short, whole = golden.flash("mm", "binman", signed_room=False), golden.flash("mm", "binman")
    found = plan(short)
    check(short, found)
    assert found.size == len(whole) == len(short) + 0x1FE0
    assert found.signings == plan(whole).signings


def test_a_kernel_is_padded_and_gets_its_ivt() -> None:
    """mx8m_secure_boot.txt, 3: block `load 0 size+0x20`."""
    data = golden.kernel(0x210000)
    found = plan(data, load_address=KERNEL)
    check(data, found)
    (part,) = found.signings
    assert blocks(part) == [(KERNEL, 0, 0x210020)]
    assert (part.csf_offset, part.csf_room) == (0x210020, 0x1FE0)
    assert patched(data, found)[:0x210020] == golden.kernel_with_ivt(KERNEL, 0x210000)
    assert not part.unlock


def test_a_kernel_with_an_ivt_needs_no_address() -> None:
    """The IVT tells it, and another one asked for is a mistake."""
    data = golden.kernel_with_ivt(0x40400000)
    found = plan(data)
    check(data, found)
    assert not found.patches
    assert blocks(found.signings[0])[0][0] == 0x40400000
    assert plan(data, load_address=0x40400000).signings == found.signings
    again = plan(signed(data, found))
    assert again.signings == found.signings
    assert not again.patches


def test_a_kernel_as_long_as_its_header_says_is_not_padded() -> None:
    """Then only the IVT is added."""
    data = golden.kernel(0x200000, 0x200000)
    assert [patch.offset for patch in plan(data, load_address=KERNEL).patches] == [0x200000]


def test_a_mapped_file_is_planned_without_being_copied() -> None:
    """What is sliced off stays small, whatever the file's size."""
    largest = 0

    class Watched:
        def __init__(self, data: mmap.mmap) -> None:
            self.data = data

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, part: slice, /) -> bytes:
            nonlocal largest
            found = self.data[part]
            largest = max(largest, len(found))
            return found

    data = golden.flash("mm", "binman")
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.truncate(64 << 20)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = plan(Watched(mapped))
    assert found.signings == plan(data).signings
    assert largest <= 1 << 16
