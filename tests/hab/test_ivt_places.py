"""Where IVTs are looked for, and in which order they are told."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.hab.ivt import looks_like_ivt
from tests.hab.test_image_layout import LOAD, ivt

PLACES = (0, 0x400, *(0x1000 * number for number in range(1, 17)))


@pytest.mark.parametrize("place", PLACES)
def test_an_ivt_stands_where_boot_devices_have_it(place: int) -> None:
    """And on multiples of 4 KiB up to 64 KiB; everything else is at an end of a block."""
    data = bytes(place) + ivt(LOAD + place, LOAD) + bytes(0x20000 - place)
    block = hab.Block(LOAD - 4, 4, len(data) - 8) if place else hab.Block(LOAD, 0, len(data) - 4)
    block = hab.Block(LOAD + block.offset, block.offset, block.length)
    assert [one.offset for one in hab.find_ivts([block], [hab.File.of(data)])] == [place]


@pytest.mark.parametrize("place", [4, 0x3FC, 0x404, 0x800, 0xFFC, 0x1004, 0xFFFC, 0x10004, 0x11000])
def test_an_ivt_elsewhere_is_no_matter(place: int) -> None:
    """It is some image's that the block holds."""
    data = bytes(place) + ivt(LOAD + place, LOAD) + bytes(0x20000 - place)
    assert hab.find_ivts([hab.Block(LOAD, 0, len(data))], [hab.File.of(data)]) == ()


def test_ivts_are_told_in_the_order_of_the_files() -> None:
    """Whatever the order of the blocks, and each once."""
    first, second = (ivt(LOAD + at, LOAD) for at in (0, 0x100))
    data = first + bytes(0xE0) + second
    files = [hab.File.of(data), hab.File.of(ivt(0x50000000, LOAD))]
    blocks = [hab.Block(0x50000000, 0, 0x20, 1), hab.Block(LOAD + 0x100, 0x100, 0x20), hab.Block(LOAD, 0, 0x20)]
    for order in (blocks, blocks[::-1], blocks * 2):
        found = hab.find_ivts(order, files)
        assert [(one.file, one.offset) for one in found] == [(0, 0), (0, 0x100), (1, 0)]


def test_an_ivt_by_itself_stands_at_the_start_of_its_file() -> None:
    """Unless it is told otherwise."""
    found = hab.Ivt.parse(ivt(LOAD, LOAD + 0x20, dcd=LOAD + 0x40, boot_data=LOAD + 0x30))
    assert found == hab.Ivt(0, LOAD, LOAD + 0x40, LOAD + 0x30, LOAD, LOAD + 0x20, 0)
    assert (found.base, found.offset_of(LOAD + 4)) == (LOAD, 4)
    elsewhere = hab.Ivt.parse(ivt(LOAD, LOAD), 0x400, 1)
    assert (elsewhere.base, elsewhere.file) == (LOAD - 0x400, 1)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (ivt(0, 0), True),
        (ivt(0, 0) + b"x", True),
        (ivt(0, 0)[:-1], False),
        (ivt(0, 0, version=0x4F), True),
        (ivt(0, 0, version=0x50), False),
        (ivt(0, 0, version=0x00), False),
        (b"\xd1\0\x21" + ivt(0, 0)[3:], False),
        (b"\xd0\0\x20" + ivt(0, 0)[3:], False),
    ],
)
def test_an_ivt_is_known_by_its_first_four_bytes(data: bytes, looks: bool) -> None:
    """Where there are 32."""
    assert looks_like_ivt(data) is looks
