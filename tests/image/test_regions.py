"""Reading a file in pieces finds what reading it whole does, and the map of it has a name for every byte."""

from __future__ import annotations

import hashlib

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.model import Patch, Region
from digsigd.image.regions import LEFTOVERS, PADDING, RegionMap, aligned, digest, first_used, last_used

PIECE = 1 << 16
PLACES = (0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 5)
SIZE = 2 * PIECE + 6


@pytest.mark.parametrize("place", PLACES)
def test_the_first_and_the_last_byte_that_is_no_padding_are_found(place: int) -> None:
    """Wherever they are, from wherever the search begins, and up to where it ends."""
    for fill in (b"\0", b"\xff"):
        data = bytearray(fill * SIZE)
        data[place] = 0x13
        for start in PLACES:
            assert first_used(bytes(data), start, SIZE) == (place if start <= place else None)
            assert first_used(bytes(data), 0, start) == (place if place < start else None)
            assert last_used(bytes(data), start) == (place + 1 if place < start else 0)
        assert last_used(bytes(data), SIZE) == place + 1


def test_a_digest_is_over_what_was_asked_for() -> None:
    """In one piece or several."""
    data = bytes(number * 7 % 251 for number in range(SIZE))
    for start in PLACES:
        for length in (0, 1, PIECE - 1, PIECE, PIECE + 1):
            assert digest(data, start, length) == hashlib.sha256(data[start : start + length]).digest()


def test_numbers_are_aligned_up() -> None:
    """One that is aligned stays."""
    assert [aligned(value, 8) for value in (0, 1, 7, 8, 9)] == [0, 8, 8, 8, 16]


def test_the_map_has_a_name_for_every_byte() -> None:
    """Padding between what is known, before it and behind it; leftovers where a signature goes over them."""
    regions = RegionMap(bytes(4) + b"\x13" * 4 + bytes(4) + b"\x14\x15" + bytes(6))
    regions.add(4, 4, "a part")
    regions.add(8, 0, "nothing")
    size, drawn = regions.finish([(0, 16)])
    assert size == 20
    assert drawn == (Region(0, 4, PADDING), Region(4, 4, "a part"), Region(8, 12, LEFTOVERS))
    for covered in ([], [(0, 8)], [(0, 13)], [(13, 16)], [(0, 12), (14, 20)]):
        with pytest.raises(ImageError, match="unknown data at 0x"):
            regions.finish(covered)
    for fits in ([(12, 14)], [(0, 13), (13, 14)], [(13, 20), (0, 13)]):
        assert regions.finish(fits)[0] == 20


def test_parts_may_touch_and_not_overlap() -> None:
    """And the file grows to where the last of them ends."""
    regions = RegionMap(b"\x13" * 8)
    regions.add(4, 8, "second")
    regions.add(0, 4, "first")
    assert regions.finish([]) == (12, (Region(0, 4, "first"), Region(4, 8, "second")))
    regions.add(11, 1, "third")
    with pytest.raises(ImageError, match="overlap in the file"):
        regions.finish([])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xd4\0\x04\x40", "a CSF"),
        (b"\xd4\0\x04\x4f" + b"\x13" * 12, "a CSF"),
        (b"\xd4\0\x04\x30", "neither"),
        (b"\xd4\0\x04\xc0", "neither"),
        (b"\xd5\0\x04\x40", "neither"),
        (bytes(16), "padding"),
        (b"\xff" * 16, "padding"),
        (bytes(15) + b"\1", "neither"),
    ],
)
def test_a_room_holds_a_csf_or_padding(content: bytes, what: str) -> None:
    """It ends where it ends."""
    regions = RegionMap(bytes(8) + content.ljust(16, b"\0") + b"\x13" * 8)
    if what == "neither":
        with pytest.raises(ImageError, match="neither padding nor a CSF"):
            regions.add_room(8, 16, "room")
    else:
        regions.add_room(8, 16, "room")
        assert regions.found == [Region(8, 16, "room")]
        assert len(regions.signed) == (what == "a CSF")


def test_a_room_may_be_behind_the_file() -> None:
    """Wholly or in part."""
    regions = RegionMap(bytes(8))
    regions.add_room(4, 16, "room")
    regions.add_room(20, 16, "other room")
    assert regions.finish([])[0] == 36
    assert regions.signed == []


def test_what_is_read_has_all_that_is_to_be_written() -> None:
    """Of patches before the read, within it, and behind it; the file ends where the image does."""
    regions = RegionMap(bytes(range(16)))
    regions.patches.append(Patch(14, b"abcd", "why"))
    regions.masks.append(Patch(2, b"yz", "why"))
    whole = b"\0\1yz" + bytes(range(4, 14)) + b"abcd" + bytes(2)
    for start in range(22):
        for length in range(22):
            assert regions.read(start, length, 20) == whole[start : start + length]


def test_the_last_byte_of_a_piece_is_looked_at() -> None:
    """However little of it there is."""
    for more in (1, 2):
        assert last_used(bytes(PIECE) + bytes(more - 1) + b"\1", PIECE + more) == PIECE + more


def test_what_begins_a_csf_is_four_bytes() -> None:
    """Fewer at the end of the file are none."""
    for size in (1, 2, 3):
        with pytest.raises(ImageError, match="neither padding nor a CSF"):
            RegionMap(bytes(4) + b"\xd4\0\x04\x40"[:size]).add_room(4, 0x100, "room")
    regions = RegionMap(bytes(4) + b"\xd4\0\x04\x40")
    regions.add_room(4, 0x100, "room")
    assert regions.signed == ["the room at 0x4 already holds a CSF, which signing replaces"]


def test_commands_behind_the_room_are_none_of_its_csf() -> None:
    """Whatever its header says of its length."""
    unlock, decrypt = bytes([0xB2, 0, 8, 0x1D]) + bytes(4), bytes([0xCA, 0, 12, 0, 0, 0xA3, 0, 0]) + bytes(4)
    data = b"\xd4\x01\0\x43" + unlock * 3 + decrypt
    for room, encrypted in ((len(data), True), (len(data) - 12, False)):
        regions = RegionMap(data)
        regions.add_room(0, room, "room")
        assert bool(regions.encrypted) is encrypted
