"""Blocks, IVTs and CSFs at the very bounds: the last byte that fits, and the first that does not."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from tests.hab.test_image_layout import IMAGE, LOAD, WHOLE, ivt, kernel, layout, refused, with_boot_data


def files(*contents: bytes) -> list[hab.File]:
    return [hab.File.of(one) for one in contents]


def test_a_block_may_end_with_the_address_space() -> None:
    """2 to the 32nd is behind its last byte."""
    assert layout(IMAGE.data, [hab.Block(0xFFFFF000, 0x1000, 0x1000)], require_ivt=False).room is None
    refused("blocks", IMAGE.data, [hab.Block(0xFFFFF001, 0x1000, 0x1000)], require_ivt=False)


def test_a_block_does_not_begin_before_the_file() -> None:
    """Callers count in the file, and may count wrong."""
    assert "is empty" in refused("blocks", IMAGE.data, [hab.Block(0x7E0FBC, -4, 0x2000)])


def test_of_several_rooms_the_largest_counts_in_any_order() -> None:
    """Whichever IVT comes first."""
    small, block = kernel(0x1000, 0x100, self_address=0x50001000, csf=0x50001020, entry=0x50000000)
    large, second = kernel(0x1000, 0x2000)
    blocks = [[hab.Block(0x50000000, 0, block.length)], [hab.Block(LOAD, len(small), second.length)]]
    found = layout(small + large, *blocks)
    assert found.room == len(large) - second.length
    assert found.bound == "the file ends"


@pytest.mark.parametrize(("count", "what"), [(1, "the file"), (2, "the files")])
def test_what_is_signed_too_often_is_told(count: int, what: str) -> None:
    """Of one file, or of all together."""
    half = hab.Block(0, 0, 0x100)
    with pytest.raises(hab.VerificationError, match=rf"more than 2 times the {0x100 * count} of {what}$"):
        hab.check_layout([[half]] * (2 * count) + [[hab.Block(0, 0, 1)]], files(*[bytes(0x100)] * count))
    with pytest.raises(hab.VerificationError, match="no block covers an IVT"):
        hab.check_layout([[half]] * (2 * count), files(*[bytes(0x100)] * count))


def test_an_ivt_that_no_block_covers_is_found_in_any_file() -> None:
    """As far as its end, wherever blocks of other files are."""
    table = ivt(LOAD, LOAD + 0x20)
    elsewhere = hab.Block(0x900000, 0, 0x400)
    for data in (table, bytes(0x400) + table, bytes(0x400) + table + bytes(0x100)):
        with pytest.raises(hab.VerificationError, match=f"there is one at {data.index(table):#x} in the file, for the"):
            hab.check_layout([[elsewhere]], files(bytes(0x800), data))
    with pytest.raises(hab.VerificationError, match=r"nor U-Boot accepts the image$"):
        hab.check_layout([[elsewhere]], files(bytes(0x800), (bytes(0x400) + table)[:-1]))


@pytest.mark.parametrize(
    ("start", "length", "covered"),
    [(0x400, 0x20, True), (0x400, 0x1F, False), (0x401, 0x20, False), (0x3FF, 0x21, True), (0, 0x420, True)],
)
def test_an_ivt_for_another_address_is_told_where_a_block_covers_it(start: int, length: int, covered: bool) -> None:
    """All of it: then the addresses do not fit each other; else a block is missing."""
    data = bytes(0x400) + ivt(LOAD, LOAD + 0x20) + bytes(0x100)
    says = refused("ivt", data, [hab.Block(0x900000 + start, start, length)])
    assert ("puts it at 0x900400" in says) is covered
    assert ("there is one at 0x400" in says) is not covered


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_what_is_shorter_than_the_header_of_a_dcd_is_none(length: int) -> None:
    """And has no place of its own in serial download; a DCD without commands has."""
    head = bytes([0xD2, 0, length, 0x41]) + bytes(0x10)
    data = IMAGE.data[:0x1000] + head + IMAGE.data[0x1000 + len(head) :]
    there = hab.Block(0x910000, 0x1000, length)
    if length >= 4:
        assert layout(data, [WHOLE], [there]).room == 0x2000
    else:
        assert "is outside of that" in refused("blocks", data, [WHOLE], [there])


def test_a_csf_may_stand_where_the_file_begins() -> None:
    """Before what it signs; one byte earlier it is in no file."""
    data = bytes(0x1000) + ivt(LOAD + 0x1000, LOAD, entry=LOAD + 0x1020) + bytes(0x100)
    block = hab.Block(LOAD + 0x1000, 0x1000, 0x120)
    assert layout(data, [block]).room == 0x1000
    before = data[:0x1018] + struct.pack("<I", LOAD - 1) + data[0x101C:]
    assert "before the start of the file" in refused("room", before, [block])


def test_a_dcd_that_only_names_itself_has_four_bytes() -> None:
    """A length of less is what a header without an end has."""
    for length in (0, 3, 4):
        data, block = kernel(0x1000, 0x2000, dcd=LOAD + 0xFFC)
        data = data[:0xFFC] + struct.pack(">BHB", 0xD2, length, 0x41) + data[0x1000:]
        assert layout(data, [block]).room == 0x2000


def test_a_block_of_another_file_is_not_what_the_rom_loads() -> None:
    """Even with the address and the offset that a block of the image would have."""
    there = hab.Block(IMAGE.address + 0x1000, 0x1000, 0x100)
    head = hab.Block(IMAGE.address, 0, 0x1000)
    assert hab.check_layout([[head, there]], files(IMAGE.data, bytes(0x2000))).room == 0x2000
    elsewhere = hab.Block(there.address, there.offset, there.length, 1)
    with pytest.raises(hab.VerificationError, match="is not what the ROM loads to 0x7e1fc0"):
        hab.check_layout([[head, elsewhere]], files(IMAGE.data, bytes(0x2000)))


def test_a_csf_may_be_the_first_thing_that_the_rom_loads() -> None:
    """Before the IVT, where boot devices have 1 KiB for other things."""
    csf = IMAGE.address - 0x400
    image = with_boot_data(IMAGE.data, csf, 0x4400)
    data = bytes(0x400) + image[:0x18] + struct.pack("<I", csf) + image[0x1C:]
    assert layout(data, [hab.Block(IMAGE.address, 0x400, 0x2000)]).room == 0x400


def test_blocks_of_other_files_leave_the_room_for_the_csf() -> None:
    """Whatever is in those files where the CSF is in its own."""
    data, block = kernel(0x1000, 0x2000)
    for offset in (0x1000, 0x1020, 0x1800):
        tree = hab.Block(0x48000000, offset, 0x100, 1)
        assert hab.check_layout([[block, tree]], files(data, bytes(0x2000))).room == 0x2000
