"""What is not known for certain is refused, with what was seen, where, and what to do."""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
from pathlib import Path

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from tests.helpers import golden

FIT = 0x57C00
NEW = golden.flash("mm", "nxp-new")
OLD = golden.flash("mm", "nxp-old")
SPL = golden.spl("mm")
KERNEL = golden.kernel_with_ivt()
BINMAN = golden.flash("mm", "binman")


def refused(data: bytes, *, load_address: int | None = None, configuration: str | None = None) -> str:
    """What and hint in one; there always is a hint."""
    with pytest.raises(ImageError) as caught:
        plan(data, load_address=load_address, configuration=configuration)
    assert caught.value.hint
    text = f"{caught.value.what} | {caught.value.hint}"
    assert text.isprintable()
    return text


def at(data: bytes, offset: int, change: bytes | int) -> bytes:
    """With other bytes, or another little-endian word, there."""
    part = struct.pack("<I", change) if isinstance(change, int) else change
    return data[:offset] + part + data[offset + len(part) :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(golden.kernel()), "gzip data"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd data"),
        (b"\x7fELF" + bytes(100), "an ELF file"),
        (b"\x27\x05\x19\x56" + bytes(100), "the header of the uImage at 0x0 has the CRC"),
        (bytes(510) + b"\x55\xaa" + bytes(1000), "the image of a disk"),
        (b"\xd4\x00\x58\x43" + bytes(100), "a CSF"),
        (b"\0\xa0\0\x87\x10" + bytes(6) + b"\1\x90" + bytes(0x83) + b"\0\x10\0\x90" + bytes(12), "AHAB containers"),
        (b"\x1b[31mhello, here is nothing to sign" + bytes(100), "the data at 0x0 are unknown: 1b 5b 33 31"),
        (bytes(0x100), "the data at 0x0 are unknown: 00"),
        (b"", "0x0 bytes"),
        (bytes(0x3F), "0x3f bytes"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, says: str) -> None:
    """As far as its first bytes tell."""
    assert says in refused(data)


def test_a_file_beyond_512_mib_is_refused() -> None:
    """Before any of it is read."""

    class Endless:
        def __len__(self) -> int:
            return (512 << 20) + 1

        def __getitem__(self, part: slice, /) -> bytes:
            raise AssertionError(part)

    with pytest.raises(ImageError, match="has 0x20000001 bytes"):
        plan(Endless())


@pytest.mark.parametrize(
    ("offset", "word", "says"),
    [
        (0x18, 0, "has no CSF pointer"),
        (0x18, 0x7E0FFF, "its entry point at 0x7e1000 and its CSF at 0x7e0fff"),
        (0x18, 0x7E1000 + (1 << 24), "which has only"),
        (0x04, 0x7E0FC0, "its entry point at 0x7e0fc0"),
        (0x04, 0x900000, "its entry point at 0x900000"),
        (0x1C, 7, "0x7 in its last word"),
        (0x10, 0, "its boot data at 0x0, not in the image"),
        (0x10, 0x7E0FD0, "its boot data at 0x7e0fd0, not in the image"),
        (0x0C, 0x910000, "its DCD at 0x910000, not in the image"),
        (0x28, 1, "is for a plugin (flag 0x1"),
        (0x20, 0x7E0000, "load from 0x7e0000, which fits no boot device"),
        (0x24, 0x26E00, "it would not be loaded completely"),
        (0x08, 0x50000, "the second loader at 0x50000, but nothing follows the SPL"),
        (0x14, 0x7E0FC4, "IVT"),
    ],
)
def test_an_spl_whose_header_does_not_fit_is_refused(offset: int, word: int, says: str) -> None:
    """Each word of the IVT and the boot data."""
    assert says in refused(at(SPL, offset, word))


def test_an_spl_without_the_room_of_its_csf_is_refused() -> None:
    """Cut short within the signed part; where only the room is missing, there is nothing to lose."""
    assert "The file is truncated" in refused(SPL[:0x10000])
    assert plan(SPL[:-0x2000]).signings == plan(SPL).signings


def test_hdmi_firmware_alone_is_not_signed() -> None:
    """Neither as NXP delivers it, nor as it stands in flash.bin."""
    for data in (golden.signed_hdmi(), golden.signed_hdmi()[0x400:]):
        says = refused(data)
        assert "which only NXP can sign, is not followed by the IVT of an SPL" in says


def test_a_flexspi_configuration_without_an_ivt_behind_it_is_refused() -> None:
    """The ROM looks for one there."""
    for soc, kind in (("mm", "FlexSPI"), ("mn", "FlexSPI"), ("mq", "QSPI")):
        data = golden.packed_for_flexspi(soc, bytes(0x100))
        assert f"a {kind} configuration at" in refused(data)
        assert "no IVT at 0x1000" in refused(data)


@pytest.mark.parametrize("data", [NEW, OLD, BINMAN, SPL], ids=["new", "old", "binman", "spl"])
def test_data_behind_the_end_are_refused(data: bytes) -> None:
    """Nothing would sign them. Padding is no data."""
    for fill in (b"\0", b"\xff"):
        assert plan(data + fill * 0x400).signings == plan(data).signings
    says = refused(data + bytes(0x400) + b"\x01")
    place = len(data) + 0x400
    assert f"the data at {place:#x} are unknown: 01" in says or f"unknown data at {place:#x}: 01." in says


def test_an_archive_behind_the_image_is_told_of() -> None:
    """CompuLab's builds put one there, on a block of 512 bytes; anywhere else it is unknown data."""
    archive = gzip.compress(b"a configuration" * 100)
    for data in (OLD, BINMAN):
        padded = data.ljust(-(-len(data) // 0x200) * 0x200 + 0x4000, b"\0")
        found = plan(padded + archive)
        assert found.signings == plan(data).signings
        assert found.regions[-1].name == "archive after the image, not read by boards"
        assert "no board reads it" in " ".join(found.notes)
        assert "unknown data" in refused(padded + b"\0" + archive)
    assert "gzip data" in refused(SPL.ljust(0x57C00, b"\0") + archive)


def test_data_between_the_parts_are_refused() -> None:
    """Between SPL and FIT, and between images."""
    assert "at 0x40000 is a legacy uImage" in refused(at(NEW, 0x40000, b"\x27\x05\x19\x56"))
    assert "the data at 0x40001 are unknown: 13" in refused(at(NEW, 0x40001, b"\x13"))
    # Three bytes between the DTB and the ATF.
    assert "unknown data at 0xfe4da: 13" in refused(at(NEW, 0xFE4DA, b"\x13"))


def test_a_room_with_something_else_in_it_is_refused() -> None:
    """A CSF is replaced, anything else is not known."""
    for place, name in ((0x2A400, "SPL"), (0x58C20, "FIT"), (0x5AC20, "FIT-FDT")):
        assert f"room for the CSF of the {name} at {place:#x}, is 81" in refused(at(NEW, place + 4, b"\x81"))
        assert f"the room for the CSF of the {name} at {place:#x} already holds a CSF" in "".join(
            plan(at(NEW, place, b"\xd4\x00\x58\x43\x01")).replaced
        )
        assert "neither padding nor a CSF" in refused(at(NEW, place, b"\xd4\x00\x58\x13"))


def test_a_fit_elsewhere_than_the_spl_has_it_is_refused() -> None:
    """ROMs of version 1 have its place in the SPL's IVT."""
    assert struct.unpack_from("<I", NEW, 8)[0] == FIT
    moved = NEW[:0x50000] + bytes(0x400) + NEW[0x50000:]
    assert f"places the second loader at {FIT:#x}, but the FIT is at {FIT + 0x400:#x}" in refused(moved)
    assert plan(at(moved, 8, 0)).signings[1].ivt.offset == 0x59000


def test_a_tree_that_changed_is_refused() -> None:
    """The SPL with its hash would do so on the board."""
    place = NEW.index(b"U-Boot (64-bit)")
    says = refused(at(NEW, place, b"V"))
    wanted = hashlib.sha256(at(NEW, place, b"V")[FIT : FIT + golden.tree_size(NEW[FIT:])]).hexdigest()
    assert f"the SPL does not hold the SHA-256 of the FIT's tree at {FIT:#x} ({wanted})" in says
    assert "CSF at 0x2a400" in says
    assert "Run imx-mkimage again" in says


def test_an_spl_without_a_hash_is_told_of() -> None:
    """Nothing says that there has to be one, before LFU-573."""
    assert any("CVE-2023-39902" in note for note in plan(OLD).notes)
    assert not any("CVE" in note for note in plan(NEW).notes + plan(BINMAN).notes)
    changed = golden.flash("mm", "nxp-hash")
    changed = at(changed, changed.index(b"U-Boot (64-bit)"), b"V")
    assert any("CVE-2023-39902" in note for note in plan(changed).notes)


def test_a_hash_that_was_appended_twice_is_told_of() -> None:
    """imx-mkimage appends to u-boot-spl-ddr.bin at every run, and SPL compares with the first."""
    fit = golden.itb("mm")
    good = hashlib.sha256(fit[: golden.tree_size(fit)]).digest()
    for hashes, warned in (([good], False), ([good, good], False), ([b"\x77" * 32, good], True)):
        code = golden.spl_code(padded=True) + b"".join(hashes)
        head = golden.spl("mm", code=code, second=golden.SECOND_LOADER)
        found = plan(head.ljust(FIT, b"\0") + golden.with_fit_ivt(fit))
        assert any("earlier run of imx-mkimage" in note for note in found.notes) == warned
    code = golden.spl_code(padded=True) + good + b"\x77" * 32
    head = golden.spl("mm", code=code, second=golden.SECOND_LOADER)
    assert "does not hold the SHA-256" in refused(head.ljust(FIT, b"\0") + golden.with_fit_ivt(fit))


@pytest.mark.parametrize(
    ("offset", "word", "says"),
    [
        (0x04, 0x401FADC4, "puts the FIT at 0x401fadc0, but its entry point is 0x401fadc4"),
        (0x04, 0x401FBDC0, "its entry point is 0x401fbdc0"),
        (0x14, 0x401FBDC4, "U-Boot does not accept the IVT at"),
        (0x18, 0x401FBDE4, "U-Boot does not accept the IVT at"),
        (0x08, 1, "reserved 0x1 and 0x0"),
        (0x1C, 1, "reserved 0x0 and 0x1"),
        (0x0C, 4, "DCD 0x4"),
        (0x10, 4, "boot data 0x4"),
        (0x04, 0, "entry 0x0"),
        (0x00, 0, "where the IVT of the FIT at 0x57c00 belongs"),
    ],
)
def test_an_ivt_of_a_fit_that_does_not_fit_is_refused(offset: int, word: int, says: str) -> None:
    """U-Boot's validate_ivt would refuse it as well, or HAB look for other bytes."""
    assert says in refused(at(NEW, 0x58C00 + offset, word))


def test_the_two_ivts_of_a_fit_belong_together() -> None:
    """Both are for one place in memory."""
    second = 0x5AC00
    assert "they do not belong to the same FIT" in refused(at(NEW, second + 4, 0x401FADC4))
    moved = at(at(NEW, second + 0x14, 0x401FFDC0), second + 0x18, 0x401FFDE0)
    assert "they do not belong to the same FIT" in refused(moved)
    assert "unknown data at 0x5ac04" in refused(at(NEW, second, 0))


def test_a_tree_that_grew_over_its_ivt_is_refused() -> None:
    """imx-mkimage writes the IVT over the images then."""
    parts, _ = golden.parts("mm")
    names = tuple(part.name for part in parts)
    configs = tuple(golden.Config(f"config-{n}" + "x" * 200, names[0], names[2:], (names[1],)) for n in range(10))
    fit = golden.mkimage(parts, configs, 0x2000)
    assert 0x1000 < golden.tree_size(fit) < 0x2000
    says = refused(golden.with_fit_ivt(fit, signed_tree=False))
    assert "no room for a CSF" in says
    assert "mkimage -E -p 0x6000" in says
    short = golden.with_fit_ivt(golden.mkimage(parts, configs, 0x4100))
    assert "only 0xe0 bytes for its CSF before uboot-1 at 0x4100" in refused(short)
    right = plan(golden.with_fit_ivt(golden.mkimage(parts, configs, 0x6000)))
    assert [block.length for block in (right.signings[0].blocks[0], right.signings[1].blocks[0])] == [0x2020, 0x4020]


def test_images_behind_the_tree_without_a_fixed_place_are_refused() -> None:
    """An SPL with HAB reads them elsewhere: board_spl_fit_size_align counts the room for the CSF in."""
    says = refused(golden.mkimage(*golden.parts("mm"), None, "-E"), load_address=0x401FADC0)
    assert "have data-offset" in says
    assert "mkimage -E -p 0x5000" in says


def test_load_addresses_are_asked_for_where_nothing_tells_them() -> None:
    """And never guessed."""
    for data in (golden.kernel(), golden.itb("mm"), golden.itb("mm", external=None)):
        assert "Pass the load address" in refused(data)


@pytest.mark.parametrize("address", [0x401FADC1, -4, 1 << 32, 0xFFFFF000])
def test_load_addresses_are_addresses(address: int) -> None:
    """Of 32 bits, with all of the image."""
    for data in (golden.kernel(), golden.itb("mm"), golden.itb("mm", external=None)):
        assert f"the load address {address:#x} is not a 32-bit address" in refused(data, load_address=address)


def test_another_load_address_than_that_of_the_image_is_refused() -> None:
    """One of the two is wrong."""
    assert "Leave out the load address" in refused(NEW, load_address=0x40480000)
    assert "Leave out the load address" in refused(BINMAN, load_address=0x40480000)
    assert "Leave out the load address" in refused(SPL, load_address=0x40480000)
    assert "the load address 0x40400000 was given" in refused(KERNEL, load_address=0x40400000)


def test_boot_data_that_go_beyond_the_memory_on_the_chip_are_refused() -> None:
    """The ROM has no other yet."""
    assert "the memory on the chip ends before" in refused(at(SPL, 0x24, 0x0F000000))


@pytest.mark.parametrize("dcd", [b"\0\0\0\0", b"\xd2\xff\xff\x40", b"\xcc\0\x04\x40"])
def test_a_dcd_that_is_none_is_refused(dcd: bytes) -> None:
    """HAB would run it."""
    own = struct.unpack_from("<I", SPL, 0x14)[0]
    plan(at(at(SPL, 0x100, b"\xd2\0\x04\x40"), 0x0C, own + 0x100))
    assert "has its DCD at" in refused(at(at(SPL, 0x100, dcd), 0x0C, own + 0x100))


def test_a_device_tree_of_a_board_is_said_to_be_one(tmp_path: Path) -> None:
    """Digi's scripts sign such; it is not a FIT that was built wrongly."""
    (tmp_path / "board.dts").write_text('/dts-v1/; / { compatible = "fsl,imx6ul"; cpus { }; };')
    done = subprocess.run(["dtc", "-O", "dtb", "board.dts"], cwd=tmp_path, check=True, capture_output=True)
    says = refused(done.stdout.ljust(0x1000, b"\0"))
    assert "is for a board, it is not a FIT" in says
    assert "mkimage" not in says


@pytest.mark.parametrize("address", [0x44000000, 0x48000000, 0x40200000, 0x400F0000])
def test_a_fit_with_external_data_that_is_not_right_before_u_boot_is_refused(address: int) -> None:
    """U-Boot since v2023.07 checks it there before its data are loaded; older SPLs have it below U-Boot."""
    fit = golden.itb("mm", external=0x3000)
    bare = golden.flash("mm", "u-boot")
    for data in (fit, bare[:0x58C00] + bytes(0x20) + bare[0x58C20:]):
        says = refused(data, load_address=address)
        assert "before the data are loaded" in says
        assert "CONFIG_IMX_HAB" in says
    assert "before the data are loaded" in refused(
        fit.ljust(0x1000, b"\0")[:0x1000] + golden.ivt(address, address + 0x1000, address + 0x1020) + fit[0x1020:]
    )


def test_configurations_are_asked_for_only_where_there_are_some() -> None:
    """By the names they have."""
    assert "has no configuration 'nope'" in refused(NEW, configuration="nope")
    assert "It has config-1." in refused(NEW, configuration="nope")
    for data in (SPL, golden.kernel()):
        assert "configuration 'config-1' does not exist" in refused(data, configuration="config-1")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (at(KERNEL, 0x210000, b"\0"), "at 0x210000 is 00 00 20 41 00 00 48 40 instead of an IVT"),
        (at(KERNEL, 0x210004, 0x40400000), "with the entry point 0x40400000"),
        (at(at(KERNEL, 0x210014, 0x40692000), 0x210018, 0x40692020), "which puts the kernel at 0x40482000"),
        (at(KERNEL, 0x210018, 0x40690024), "U-Boot does not accept the IVT at"),
        (golden.kernel() + bytes(0x200000), "the file 0x3f2345"),
        (KERNEL + b"\x13", "neither padding nor a CSF"),
        (KERNEL + b"\xd4\x00\x58\x43" + bytes(0x2000) + b"\x13", "unknown data at 0x212024"),
        (at(KERNEL, 0x10, 0), "an image size of 0x0 bytes"),
        (at(KERNEL, 0x14, 1), "an image size of 0x100210000 bytes"),
    ],
)
def test_a_kernel_that_was_changed_is_refused(data: bytes, says: str) -> None:
    """Its IVT stands at the size in its header, or nothing does."""
    assert says in refused(data)
