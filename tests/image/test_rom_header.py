"""IVT, boot data and DCD as a boot ROM takes them, word by word, and what it refuses.

Sources: HABv4 API Reference Manual, 3.4 and "Image Vector Table"; U-Boot, include/imximage.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.regions import RegionMap
from digsigd.image.rom import check, dcd_of, peek

OWN = 0x877FF400
CSF = 0x1000


@dataclass(frozen=True)
class Words:
    """An image of 0x2000 bytes by its words; addresses of None are where mkimage has them."""

    own: int = OWN
    entry: int | None = None
    second: int = 0
    dcd: int = 0
    boot_data: int | None = None
    csf: int | None = None
    reserved: int = 0
    start: int | None = None
    end: int | None = None
    plugin: int = 0
    place: int = 0
    size: int = 0x2000

    def made(self) -> bytearray:
        """The bytes; boot data are written last, wherever they are."""
        own = self.own
        csf = own + CSF if self.csf is None else self.csf
        start = own - 0x400 if self.start is None else self.start
        end = csf + 0x2000 if self.end is None else self.end
        at = own + 0x20 if self.boot_data is None else self.boot_data
        entry = own + 0x100 if self.entry is None else self.entry
        data = bytearray(self.place + self.size)
        head = struct.pack("<7I", entry, self.second, self.dcd, at, own, csf, self.reserved)
        data[self.place : self.place + 0x20] = b"\xd1\0\x20\x40" + head
        place = self.place + at - own
        if place >= 0:
            data[place : place + 12] = struct.pack("<3I", start, end - start, self.plugin)
        return data[: self.place + self.size]


def why(words: Words, data: bytearray | None = None) -> str:
    """Why the ROM would not start it; nothing where it would."""
    regions = RegionMap(bytes(words.made() if data is None else data))
    header = peek(regions, words.place)
    assert header is not None
    try:
        check(regions, header, "Build it again.")
    except ImageError as error:
        return f"{error.what} | {error.hint}"
    return ""


def dcd(words: Words, data: bytearray) -> tuple[int, int] | str | None:
    """Where its DCD is, or what is wrong with it."""
    regions = RegionMap(bytes(data))
    header = peek(regions, words.place)
    assert header is not None
    try:
        return dcd_of(regions, header, "Build it again.")
    except ImageError as error:
        return error.what


@pytest.mark.parametrize("place", [0, 0x100])
def test_boot_data_are_read_wherever_they_are_behind_the_start_of_the_ivt(place: int) -> None:
    """All 12 bytes of them; an IVT without boot data is none of a ROM's."""
    good = Words(place=place)
    last = OWN + good.size - 12
    for address, found in (
        (OWN - 4, False), (OWN, True), (OWN + 0x20, True), (last, True), (last + 1, False), (last + 12, False),
    ):  # fmt: skip
        words = replace(good, boot_data=address)
        head = words.made()
        head[place : place + 4] = b"\xd1\0\x20\x40"
        assert (peek(RegionMap(bytes(head)), place) is not None) is found, f"{address:#x}"
    nowhere = replace(good, own=0, boot_data=0, start=0x400).made()
    nowhere[place : place + 4] = b"\xd1\0\x20\x40"
    assert peek(RegionMap(bytes(nowhere)), place) is None
    assert peek(RegionMap(bytes(good.size + place)), place) is None


def test_boot_data_stand_between_ivt_and_csf_without_a_flag() -> None:
    """Each of these is refused for them."""
    assert why(Words()) == ""
    for address in (OWN + 0x1C, OWN + CSF - 11, OWN + CSF - 8, OWN + CSF, OWN + CSF + 8):
        text = why(Words(boot_data=address, start=0 if address == OWN + 0x1C else None))
        assert f"the IVT at 0x0 has its boot data at {address:#x}, not in the image" in text
    assert why(Words(boot_data=OWN + CSF - 12)) == ""
    for flag in (2, 3, 0x80000000):
        assert f"has its boot data at {OWN + 0x20:#x}, with the flag {flag:#x}" in why(Words(plugin=flag))


def test_a_plugin_is_told_by_boot_data_behind_the_ivt() -> None:
    """Words of the IVT itself are no flag."""
    assert "is for a plugin (flag 0x1 in the boot data at 0x20)" in why(Words(plugin=1))
    inside = Words(entry=OWN + 0x100, dcd=1, boot_data=OWN + 4, start=OWN + 0x100, end=OWN + 0x100, plugin=1)
    assert "not in the image" not in why(inside)
    assert f"has its boot data at {OWN + 4:#x}, with the flag 0x1" in why(inside)


def test_reserved_words_are_nothing_in_all_their_bytes() -> None:
    """Both of them."""
    for bit in range(32):
        assert f"and {1 << bit:#x} and 0x0 in its reserved words" in why(Words(second=1 << bit))
        assert f"and 0x0 and {1 << bit:#x} in its reserved words" in why(Words(reserved=1 << bit))


def test_the_entry_point_stands_between_ivt_and_csf() -> None:
    """And the CSF on a multiple of 4."""
    for entry, good in ((0, False), (0x1C, False), (0x1F, False), (0x20, True), (CSF - 1, True), (CSF, False)):
        text = why(Words(entry=OWN + entry))
        assert (text == "") is good
        assert (f"has its entry point at {OWN + entry:#x}" in text) is not good
    for csf, good in ((CSF - 4, True), (CSF - 3, False), (CSF - 2, False), (CSF - 1, False)):
        assert (why(Words(csf=OWN + csf)) == "") is good


@pytest.mark.parametrize(("start", "end", "good"), [
    (0x900000, 0xA00000, True), (0x900000, 0xA00001, False), (0x900000, 0xA00004, False),
    (0x9FF000, 0xA01000, False), (0x9FE000, 0xA00001, False), (0x9FE000, 0xA00000, True),
    (0x8FFFFF, 0xA00004, True), (0x8FF000, 0xA10000, True), (0xA00000, 0xA10000, True), (0xA01000, 0xA10000, True),
])  # fmt: skip
def test_memory_on_the_chip_ends_before_0xa00000(start: int, end: int, good: bool) -> None:
    """An image that begins in it ends in it; i.MX 6Quad has it twice, from 0x900000 on."""
    own = start if start & 0xFFF else start + 0x400
    csf = (own + 0xC00) // 4 * 4
    text = why(Words(own=own, start=start, end=end, csf=csf))
    assert ("the memory on the chip ends before 0xa00000" in text) is not good


@pytest.mark.parametrize("place", [0, 0x400])
def test_an_image_without_a_csf_gets_digis_hint_where_it_ends_with_its_boot_data(place: int) -> None:
    """On a multiple of 4: a CSF can be put behind it then."""
    for size in range(0x1F00, 0x1F0D):
        for end in (OWN + size, OWN + size + 4):
            text = why(Words(csf=0, place=place, size=size, end=end))
            assert "has no CSF pointer" in text
            assert ("as Digi's signing script does" in text) is (end == OWN + size and size % 4 == 0)
    text = why(Words(csf=0, place=place, end=OWN + 0x2000))
    assert (
        f"write {OWN + 0x2000:#x} to {place + 0x18:#x} in the file, and 0x4400 instead of 0x2400 to {place + 0x24:#x}"
        in text
    )


def test_a_dcd_stands_between_ivt_and_csf() -> None:
    """Else what stands at its place does not matter."""
    command = b"\xd2\0\4\x40"
    for place, good in ((0x1C, False), (0x20, True), (0x100, True), (CSF - 4, True), (CSF - 3, False), (CSF, False),
                        (CSF + 4, False)):  # fmt: skip
        words = Words(dcd=OWN + place, boot_data=OWN + 0x40)
        data = words.made()
        data[place : place + 4] = command
        found = dcd(words, data)
        if good:
            assert found == (place, 4)
        else:
            assert found == f"the IVT at 0x0 has its DCD at {OWN + place:#x}, not in the image"
    assert dcd(Words(), Words().made()) is None


def test_a_dcd_that_begins_in_the_boot_data_is_over_them() -> None:
    """Whatever their length looks like."""
    for place, good in ((0x24, False), (0x28, False), (0x2C, True)):
        words = Words(dcd=OWN + place)
        data = words.made()
        data[place : place + 4] = b"\xd2\0\4\x40"
        found = dcd(words, data)
        assert found == (place, 4) if good else "over its boot data at" in str(found)
