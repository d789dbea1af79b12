"""What HAB finds in memory when it checks a CSF: where an IVT points, what the ROM has loaded, and the CSF itself."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from tests.hab.test_image_layout import IMAGE, LOAD, WHOLE, kernel, layout, refused, with_boot_data


def test_an_entry_point_that_no_block_covers_is_refused() -> None:
    """Its first word; 0 is none, and in the CSF there is no code."""
    table = hab.Block(IMAGE.address, 0, 0x40)
    says = refused("ivt", IMAGE.data, [table])
    assert "the entry point that the IVT at 0x0 points to, 4 bytes in memory at 0x7e1000: HAB refuses" in says
    refused("ivt", IMAGE.data, [table, hab.Block(IMAGE.address + 0x40, 0x40, 3)])
    for commands in ([[table, hab.Block(IMAGE.address + 0x40, 0x40, 4)]], [[table], [WHOLE]]):
        assert layout(IMAGE.data, *commands).room == 0x2000
    for entry in (0, IMAGE.address + 0x2000, IMAGE.address - 4, IMAGE.address + 0x1FFD):
        data = IMAGE.data[:4] + struct.pack("<I", entry) + IMAGE.data[8:]
        assert f"4 bytes in memory at {entry:#x}:" in refused("ivt", data, [WHOLE])


def test_an_entry_point_may_be_in_any_block() -> None:
    """Of another command and from elsewhere in the file, as the parts of a FIT are."""
    data, block = kernel(0x1000, 0x2000)
    data = data[:0x1004] + struct.pack("<I", 0x920010) + data[0x1008:]
    refused("ivt", data, [block])
    assert layout(data, [block], [hab.Block(0x920000, 0x1800, 0x40)]).ivts


def test_a_block_that_is_not_what_the_rom_loads_is_refused() -> None:
    """Where the boot data says that the ROM loads the file, address and offset go together."""
    head = hab.Block(IMAGE.address, 0, 0x100)
    says = refused("blocks", IMAGE.data, [head, hab.Block(IMAGE.address + 0x100, 0x180, 0x100)])
    assert "0x7e10c0 0x180 0x100 is not what the ROM loads to 0x7e10c0" in says
    assert says.endswith("that is at 0x100 in the file")
    refused("blocks", IMAGE.data, [head], [hab.Block(IMAGE.address - 0xFF, 0x100, 0x100)])
    refused("blocks", IMAGE.data, [head], [hab.Block(IMAGE.address + 0x3FFF, 0x100, 0x100)])
    for address in (IMAGE.address - 0x100, IMAGE.address + 0x4000, IMAGE.address + 0x3F01, 0x920000):
        says = refused("blocks", IMAGE.data, [head, hab.Block(address, 0x200, 0x100)])
        assert "the boot data at 0x20 in the file make the ROM load 0x7e0fc0 to 0x7e4fc0, but the block" in says
        assert "is outside of that" in says


@pytest.mark.parametrize(
    ("start", "length", "says"),
    [
        (0, 0, "the block 0x7e0fc0 0x0 0x2000 is outside"),
        (0, 0x30, "the block 0x7e0fc0 0x0 0x2000 is outside"),
        (0, 0x1000, "the block 0x7e0fc0 0x0 0x2000 is outside"),
        (0, 0x2000, "has its CSF at 0x7e2fc0: it would not be loaded whole"),
        (0, 0x2200, "has its CSF at 0x7e2fc0: it would not be loaded whole"),
        (0, 0x23FF, "has its CSF at 0x7e2fc0: it would not be loaded whole"),
        (4, 0x4000, "but the IVT at 0x0 is for 0x7e0fc0: it must be at the start, or 0x100, 0x400, 0x1000 after it"),
        (-4, 0x4000, "but the IVT at 0x0 is for 0x7e0fc0: it must be at the start"),
        (-0x2000, 0x8000, "but the IVT at 0x0 is for 0x7e0fc0: it must be at the start"),
        (0x1000000, 0x4000, "but the IVT at 0x0 is for 0x7e0fc0: it must be at the start"),
    ],
)
def test_boot_data_that_do_not_load_all_of_it_are_refused(start: int, length: int, says: str) -> None:
    """The blocks, and the CSF behind them, from a start that a boot device has."""
    data = with_boot_data(IMAGE.data, IMAGE.address + start, length)
    told = refused("blocks", data, [WHOLE])
    assert "boot data" in told
    assert says in told


def test_boot_data_may_count_what_boot_devices_have_before_the_ivt() -> None:
    """And must leave as much more for the CSF."""
    for before in (0, 0x100, 0x400, 0x1000):
        assert layout(with_boot_data(IMAGE.data, IMAGE.address - before, 0x2400 + before), [WHOLE]).room == 0x400
        assert "not be loaded whole" in refused(
            "blocks", with_boot_data(IMAGE.data, IMAGE.address - before, 0x23FF + before), [WHOLE]
        )


@pytest.mark.parametrize("csf", [IMAGE.address - 0x100, IMAGE.address + 0x3C01, IMAGE.address + 0x4000])
def test_a_csf_outside_of_what_the_rom_loads_is_refused(csf: int) -> None:
    """HABv4 API, 3.4: it lies within the image bounds."""
    data = b"\0" * 0x400 + IMAGE.data[:0x18] + struct.pack("<I", csf) + IMAGE.data[0x1C:]
    block = hab.Block(IMAGE.address, 0x400, 0x2000)
    assert "has its CSF at" in refused("blocks", data, [block])


def test_a_csf_that_the_rom_runs_is_for_nothing_that_is_loaded_later() -> None:
    """SPL and FIT under one CSF: DRAM does not work yet."""
    data, block = kernel(0x1000, 0x2000)
    second = hab.Block(LOAD, len(IMAGE.data), block.length)
    for commands in ([[WHOLE, second]], [[WHOLE], [second]], [[second], [WHOLE]]):
        assert "needs a separate CSF" in refused("blocks", IMAGE.data + data, *commands)


def test_a_block_of_another_file_is_not_in_what_the_rom_loads() -> None:
    """Unless it is the DCD of serial download: the ROM reads one image."""
    dcd = bytes([0xD2, 0, 0x30, 0x41]).ljust(0x30, b"\x01")
    files = [hab.File.of(IMAGE.data), hab.File.of(dcd)]
    whole = hab.Block(IMAGE.address, 0, 0x2000)
    assert hab.check_layout([[whole], [hab.Block(0x910000, 0, 0x30, 1)]], files).room == 0x2000
    short = hab.Block(IMAGE.address, 0, 0x1000)
    for address in (IMAGE.address + 0x1000, 0x910000):
        with pytest.raises(hab.VerificationError, match="blocks: "):
            hab.check_layout([[short], [hab.Block(address, 0, 0x20, 1)]], files)


def test_a_later_stage_may_have_several_files() -> None:
    """A kernel and its device tree, each loaded to its place, under the kernel's CSF."""
    data, block = kernel(0x1000, 0)
    files = [hab.File.of(data), hab.File.of(bytes(0x800))]
    tree = hab.Block(0x48000000, 0, 0x800, 1)
    assert hab.check_layout([[block, tree]], files) == hab.check_layout([[block], [tree]], files)
    assert hab.check_layout([[tree, block]], files).ivts == (hab.Ivt(0x1000, LOAD, 0, 0, LOAD + 0x1000, LOAD + 0x1020),)
    swapped = [hab.Block(b.address, b.offset, b.length, 1 - b.file) for b in (block, tree)]
    assert hab.check_layout([swapped], files[::-1]).ivts[0].file == 1
    with pytest.raises(hab.VerificationError, match="ends at 0x801, but the file at 0x800"):
        hab.check_layout([[block, hab.Block(0x48000000, 1, 0x800, 1)]], files)
    with pytest.raises(hab.VerificationError, match="overlap in memory"):
        hab.check_layout([[block, hab.Block(LOAD + 0x1000, 0, 0x800, 1)]], files)


def test_boot_data_longer_than_the_file_tells_nothing_of_what_is_behind_it() -> None:
    """Images that run in flash have the length of the flash there; what else is in it, this file does not say."""
    head = hab.Block(IMAGE.address, 0, 0x100)
    data = IMAGE.data[:0x24] + struct.pack("<I", 0x800000) + IMAGE.data[0x28:]
    assert layout(data, [head, hab.Block(IMAGE.address + 0x4000, 0x200, 0x100)]).room == 0x2000
    refused("blocks", data, [head, hab.Block(IMAGE.address + 0x3FFF, 0x200, 0x100)])


def test_boot_data_end_within_the_address_space() -> None:
    """A length of all ones covers every block and the CSF, and no ROM loads so much."""
    most = (1 << 32) - IMAGE.address
    assert layout(with_boot_data(IMAGE.data, IMAGE.address, most), [WHOLE]).room == 0x2000
    for length in (most + 1, 0xFFFFFFFF):
        says = refused("blocks", with_boot_data(IMAGE.data, IMAGE.address, length), [WHOLE])
        assert "which is beyond the 32-bit address space" in says


def test_the_room_for_the_csf_ends_with_the_address_space() -> None:
    """There is nothing behind the last address, whatever the file has there."""
    load = 0xFFFFE000
    data, _ = kernel(0x1000, 0, entry=load, self_address=load + 0x1000, csf=load + 0x1020)
    found = layout(data, [hab.Block(load, 0, 0x1020)])
    assert found.room == 0xFE0
    with pytest.raises(hab.VerificationError, match="then the 32-bit address space ends"):
        hab.check_room(found, 0xFE1)


def test_blocks_of_two_commands_that_overlap_in_memory_are_the_same_there() -> None:
    """HAB runs all commands of a CSF on one memory, and nothing is loaded between them."""
    data, block = kernel(0x1000, 0x2000)
    assert layout(data, [block], [hab.Block(LOAD + 0x10, 0x10, 0x100)]).room == 0x2000
    says = refused("blocks", data, [block], [hab.Block(LOAD + 0x10, 0x100, 0x100)])
    assert "0x40480000 0x0 0x1020 and 0x40480010 0x100 0x100 overlap in memory but have different bytes there" in says
    files = [hab.File.of(data), hab.File.of(data)]
    with pytest.raises(hab.VerificationError, match="overlap in memory"):
        hab.check_layout([[block], [hab.Block(LOAD, 0, 0x100, 1)]], files)


def test_what_the_rom_does_not_load_may_be_anywhere() -> None:
    """A FIT's and a kernel's IVT have no boot data: U-Boot puts their parts where it likes."""
    data, block = kernel(0x1000, 0x2000)
    low = hab.Block(LOAD - 0x800, 0x1800, 0x100)
    assert layout(data, [block, low]).ivts


def test_a_block_over_the_csf_in_memory_is_refused() -> None:
    """Wherever its bytes are in the file; where the CSF is, the ROM hashes the CSF."""
    data, block = kernel(0x1000, 0x2000)
    for address in (LOAD + 0x1020, LOAD + 0x1021 - 0x40):
        over = hab.Block(address, 0x1800, 0x40)
        assert "covers 0x40481020 in memory, where the IVT at 0x1000 has its CSF" in refused(
            "blocks", data, [block], [over]
        )
    assert layout(data, [block], [hab.Block(LOAD + 0x1420, 0x1C20, 0x40)]).room == 0x400
    assert layout(data + bytes(0x8000), [block], [hab.Block(LOAD + 0x1520, 0x8000, 0x40)]).room == 0x500


def test_of_several_ivts_one_must_fit_memory() -> None:
    """A CSF is for one of them; the parts of the other may be loaded over this one later."""
    data, block = kernel(0x1000, 0x2000)
    other, _ = kernel(0x1000, 0x2000, self_address=0x50001000, csf=0x50001020, entry=0x50000000)
    second = hab.Block(0x50000000, len(data), block.length)
    over_one = hab.Block(LOAD + 0x1020, len(data) + 0x1800, 0x100)
    assert len(layout(data + other, [block], [second, over_one]).ivts) == 2
    over_both = hab.Block(0x50001020, len(data) + 0x1900, 0x100)
    assert "where the IVT at 0x1000 has its CSF" in refused(
        "blocks", data + other, [block, second], [over_one], [over_both]
    )


def test_the_room_is_that_of_the_csf_that_the_rom_runs() -> None:
    """An IVT without boot data, in what the ROM loads, has a CSF of a later stage: its room is another's."""
    end = IMAGE.address + 0x1000
    inner = struct.pack("<8I", 0x412000D1, end - 0x40, 0, 0, 0, end - 0x20, IMAGE.address + 0x3000, 0)
    data = with_boot_data(IMAGE.data[:0xFE0] + inner + IMAGE.data[0x1000:], IMAGE.address, 0x2500)
    for size in (0x3000, 0x4000):
        found = layout(data[:size], [hab.Block(IMAGE.address, 0, 0x1000)])
        assert (len(found.ivts), found.room) == (2, 0x500)


def test_a_dcd_for_serial_download_stands_where_nothing_else_is_loaded() -> None:
    """One memory cannot hold it and the image, or the CSF; other bytes than a DCD are refused there."""
    dcd = bytes([0xD2, 0, 0x30, 0x41]).ljust(0x30, b"\x01")
    data = IMAGE.data[:0x100] + dcd + IMAGE.data[0x130:]
    image = hab.Block(IMAGE.address, 0, 0x800)
    for address in (0x910000, IMAGE.address - 0x30, IMAGE.address + 0x4000):
        there = hab.Block(address, 0x100, 0x30)
        assert layout(data, [image], [there]).room
        for changed in (b"\xd1" + dcd[1:], dcd[:2] + b"\x2f" + dcd[3:]):
            refused("blocks", data[:0x100] + changed + data[0x130:], [image], [there])
    for address in (IMAGE.address - 0x2F, IMAGE.address + 0x1000, IMAGE.address + 0x3FFF):
        says = refused("blocks", data, [image], [hab.Block(address, 0x100, 0x30)])
        assert "is a DCD at" in says
        assert "Both have to be in memory" in says
    assert layout(data, [image], [hab.Block(IMAGE.address + 0x100, 0x100, 0x30)]).room == 0x2000


def test_a_dcd_for_serial_download_is_that_of_the_ivt() -> None:
    """Where the IVT points to one, that one is downloaded; tools that clear the pointer have told nobody which."""
    dcd = bytes([0xD2, 0, 0x30, 0x41]).ljust(0x30, b"\x01")
    other = dcd[:-1] + b"\x02"
    data = IMAGE.data[:0x100] + dcd + other + dcd + IMAGE.data[0x190:]
    pointing = data[:0xC] + struct.pack("<I", IMAGE.address + 0x100) + data[0x10:]
    image = hab.Block(IMAGE.address, 0, 0x800)
    for offset in (0x100, 0x160):
        assert layout(pointing, [image, hab.Block(0x910000, offset, 0x30)]).room == 0x2000
    there = hab.Block(0x910000, 0x130, 0x30)
    assert layout(data, [image, there]).room == 0x2000
    refused("blocks", pointing, [image, there])


def test_a_dcd_is_neither_an_entry_point_nor_over_the_csf() -> None:
    """It is data for the ROM, and stands where nothing else does."""
    dcd = bytes([0xD2, 0, 0x30, 0x41]).ljust(0x30, b"\x01")
    data = IMAGE.data[:4] + struct.pack("<I", 0x910010) + IMAGE.data[8:0x100] + dcd + IMAGE.data[0x130:]
    there = hab.Block(0x910000, 0x100, 0x30)
    assert "no block covers the entry point" in refused("ivt", data, [hab.Block(IMAGE.address, 0, 0x800), there])
    data, block = kernel(0x1000, 0x2000)
    data = data[:0x100] + dcd + data[0x130:]
    assert layout(data, [block, hab.Block(0x910000, 0x100, 0x30)]).room == 0x2000
    over = hab.Block(LOAD + 0x1020, 0x100, 0x30)
    assert "has its CSF" in refused("blocks", data, [block, over])


def test_boot_data_that_no_block_covers_is_refused() -> None:
    """The ROM follows it before anything is authenticated. One block must have all of it, from where the IVT is."""
    blocks = [hab.Block(IMAGE.address, 0, 0x28), hab.Block(IMAGE.address + 0x28, 0x28, 0x1000)]
    assert "no block covers the boot data" in refused("ivt", IMAGE.data, blocks)
    code = hab.Block(IMAGE.address + 0x40, 0x40, 4)
    assert layout(IMAGE.data, [hab.Block(IMAGE.address, 0, 0x2C), code]).room == 0x2000
    elsewhere = hab.Block(IMAGE.address + 0x20, 0x100, 0x100)
    says = refused("ivt", IMAGE.data, [hab.Block(IMAGE.address, 0, 0x20), elsewhere])
    assert "the boot data that the IVT at 0x0 points to, 12 bytes in memory at 0x7e0fe0" in says
    data, block = kernel(0x1000, 0x2000, boot_data=0x900000)
    assert "12 bytes in memory at 0x900000" in refused("ivt", data, [block])


def test_a_dcd_that_no_block_covers_is_refused() -> None:
    """All of its length."""
    dcd = bytes([0xD2, 0, 0x30, 0x41])
    data, block = kernel(0x1000, 0x2000, dcd=LOAD + 0x100)
    data = data[:0x100] + dcd + data[0x104:]
    assert layout(data, [block]).room == 0x2000
    first = hab.Block(LOAD, 0, 4)
    for short in (hab.Block(LOAD + 0x110, 0x110, 0xF10), hab.Block(LOAD + 0x101, 0x101, 0xF1F)):
        says = refused("ivt", data, [first, short])
        assert "no block covers the DCD that the IVT at 0x1000 points to, 4 bytes in memory at 0x40480100" in says
    parts = [hab.Block(LOAD, 0, 0x12F), hab.Block(LOAD + 0x12F, 0x12F, 0xEF1)]
    assert "48 bytes in memory at 0x40480100" in refused("ivt", data, parts)


@pytest.mark.parametrize("length", [0xF21, 0xFFFF])
def test_a_dcd_longer_than_its_block_is_refused(length: int) -> None:
    """Or than the file."""
    data, block = kernel(0x1000, 0x2000, dcd=LOAD + 0x100)
    data = data[:0x100] + struct.pack(">BHB", 0xD2, length, 0x41) + data[0x104:]
    assert f"{length} bytes in memory at 0x40480100" in refused("ivt", data, [block])


def test_a_dcd_outside_of_all_blocks_is_refused() -> None:
    """Before the file, behind it, and anywhere else."""
    for address in (LOAD - 0x100, LOAD + 0x1020, 0x910000):
        data, block = kernel(0x1000, 0x2000, dcd=address)
        assert "no block covers the DCD" in refused("ivt", data, [block])


def test_two_commands_see_the_same_bytes_at_one_place() -> None:
    """By where the file puts them: address and offset go together, and a sum of them says nothing."""
    data, block = kernel(0x1000, 0x2000)
    part = hab.Block(LOAD + 0x2000, 0x1800, 0x40)
    same = hab.Block(LOAD + 0x2010, 0x1810, 0x40)
    assert layout(data, [block], [part], [same]).ivts
    for other in (hab.Block(LOAD + 0x2010, 0x1800, 0x40), hab.Block(LOAD + 0x2010, 0x17F0, 0x40)):
        assert "both have to be in memory" in refused("blocks", data, [block], [part], [other])


def test_of_several_ivts_the_dcd_of_one_may_be_downloaded() -> None:
    """Each has a pointer of its own to one."""
    dcds = [bytes([0xD2, 0, 0x10, 0x41]).ljust(0x10, fill) for fill in (b"\x01", b"\x02", b"\x03")]
    start, size = 0x7E0FC0, 0x1020

    def table(self_address: int, dcd: int) -> bytes:
        words = (start + 0x40, 0, dcd, start + 0x20, self_address, start + size, 0)
        return b"\xd1\0\x20\x41" + struct.pack("<7I", *words)

    head = table(start, start + 0x80) + struct.pack("<3I", start, size + 0x2000, 0)
    head = head.ljust(0x80, b"\0") + b"".join(dcds)
    data = head.ljust(0x1000, b"\0") + table(start + 0x1000, start + 0x90)
    whole = hab.Block(start, 0, size)
    for place in (0x80, 0x90):
        found = layout(data, [whole], [hab.Block(0x910000, place, 0x10)])
        assert [one.offset for one in found.ivts] == [0, 0x1000]
    assert "outside of that" in refused("blocks", data, [whole], [hab.Block(0x910000, 0xA0, 0x10)])
