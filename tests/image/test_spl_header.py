"""What tells an SPL for i.MX 8M, what may stand before it, and a DCD in it."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.regions import RegionMap
from digsigd.image.spl import Spl, find_spl
from tests.helpers import golden
from tests.image.kinds_judged import at

SPL = golden.spl("mm")
OWN = 0x7E0FC0
ENTRY, CSF = (struct.unpack_from("<I", SPL, place)[0] for place in (0x04, 0x18))
END = CSF - OWN  # where the CSF belongs in the file


def tried(data: bytes) -> tuple[Spl | None, RegionMap] | str:
    """What the ROM loads, and all that was found, or why it does not."""
    regions = RegionMap(data)
    try:
        return find_spl(regions), regions
    except ImageError as error:
        return error.what


def found(data: bytes) -> tuple[Spl, RegionMap]:
    result = tried(data)
    assert not isinstance(result, str), result
    spl, regions = result
    assert spl is not None
    return spl, regions


def test_an_i_mx_8m_is_told_by_the_version_or_the_entry_point() -> None:
    """Of its IVT; others have neither."""
    usual = sorted({0x7E1000, 0x7E2000, 0x912000, 0x920000})
    for version, entry, is_8m in (
        (0x41, ENTRY + 0x100, True), (0x40, ENTRY + 0x100, False), (0x42, ENTRY + 0x100, False),
        (0x43, ENTRY + 0x40, False), (0x40, ENTRY, True), (0x41, ENTRY, True),
    ):  # fmt: skip
        assert found(at(at(SPL, 3, bytes([version])), 4, entry))[0].is_8m is is_8m
    for entry in usual:
        delta = entry - ENTRY
        moved = at(at(at(at(SPL, 4, entry), 0x10, OWN + delta + 0x20), 0x14, OWN + delta), 0x18, CSF + delta)
        start = struct.unpack_from("<I", SPL, 0x20)[0]
        assert found(at(at(moved, 0x20, start + delta), 3, b"\x40"))[0].is_8m


def test_an_image_of_a_disk_has_nothing_before_the_ivt() -> None:
    """All of the 0x400 bytes."""
    assert found(bytes(0x400) + SPL)[0].ivt.offset == 0x400
    assert found(b"\xff" * 0x400 + SPL)[0].ivt.offset == 0x400
    for place in (0, 1, 0x200, 0x3FF):
        result = tried(at(bytes(0x400) + SPL, place, b"\x13"))
        assert isinstance(result, tuple)
        assert result[0] is None


def test_firmware_for_hdmi_is_told_by_the_flag_in_its_boot_data() -> None:
    """Where they are all in the file, behind its IVT."""
    head = golden.signed_hdmi()[0x400:0x42C]
    own = struct.unpack_from("<I", head, 0x14)[0]
    assert struct.unpack_from("<I", head, 0x28) == (2,)
    near = at(head, 0x10, own + 0x20)
    assert "HDMI or DisplayPort firmware at 0x0" in str(tried(near))
    for size in range(0x20, 0x2C):
        assert "HDMI" not in str(tried(near[:size]))
        assert "HDMI" not in str(tried(bytes(0x400) + near[:size]))
    # No boot data: what is read for them would be the IVT itself.
    without = at(at(at(near, 0x10, 0), 0x14, 0), 0x08, 2)
    assert "HDMI" not in str(tried(without))


def test_boot_data_before_its_ivt_are_none_of_an_spl() -> None:
    """Whatever they say."""
    data = golden.signed_hdmi()[0x400:].ljust(0x1A000, b"\0") + at(SPL, 0x10, OWN - 0x20)
    assert "has its boot data at 0x7e0fa0, not in the image" in str(tried(at(data, 0x1A000 - 0x20 + 8, 2)))


def test_the_spl_is_behind_the_firmware() -> None:
    """Not before it, or at the end of the file."""
    data = golden.signed_hdmi()[0x400:].ljust(0x1A000, b"\0") + SPL
    data = data.ljust(golden.aligned(len(data), 0x400), b"\0") + SPL[:0x400]
    assert found(data)[0].ivt.offset == 0x1A000


def test_firmware_without_a_csf_is_told_of() -> None:
    """One of its IVTs has it between itself and the end of the firmware, with something in it."""
    size = 0x1A000
    firmware = golden.signed_hdmi()[0x400:].ljust(size, b"\0")
    own = struct.unpack_from("<I", firmware, 0x14)[0]

    def told(place: int, pointer: int | None = None) -> bool:
        data = at(firmware, 0x18, own + place if pointer is None else pointer)
        if place >= 0x20:
            data = at(data.ljust(place + 4, b"\0"), place, b"\xd4\0\4\x40")[: max(size, place + 4)]
        data = data[:size] + at(SPL, 0, SPL[:4]) + bytes(0x400)
        if place > size:
            data = at(data, place, b"\xd4\0\4\x40")
        return any("points to a CSF within it" in note for note in found(data)[1].notes)

    assert not told(0x1000)
    assert not told(size - 5)
    assert told(size - 4)
    assert told(size - 3)
    assert told(size + 0x1000)
    assert told(0)
    assert told(0x1000, 0)


@pytest.mark.parametrize(("start", "length", "good"), [
    (0, 0x2000, True), (0x7E0FC0, 0xA00000 - 0x7E0FC0, True), (0x7E0FC0, 0xA00001 - 0x7E0FC0, False),
])  # fmt: skip
def test_memory_on_the_chip_ends_before_0xa00000(start: int, length: int, good: bool) -> None:
    """An image that begins below it ends there."""
    if start:
        assert ("ends before 0xa00000" in str(tried(at(at(SPL, 0x20, start), 0x24, length)))) is not good
        return
    delta = 0xA00000 - OWN
    for more, fits in ((0, True), (-4, False), (4, True)):
        own = OWN + delta + more
        moved = at(at(at(at(SPL, 4, own + 0x40), 0x10, own + 0x20), 0x14, own), 0x18, own + END)
        moved = at(at(moved, 0x20, own), 0x24, END + 0x2000)
        assert ("ends before 0xa00000" in str(tried(moved))) is not fits


def with_dcd(place: int, length: int, tag: bytes = b"\xd2") -> bytes:
    """The SPL with a DCD that does nothing; its boot data are at 0x40."""
    data = at(at(SPL, 0x40, SPL[0x20:0x2C]), 0x10, OWN + 0x40)
    data = at(data, 0x0C, OWN + place)
    return at(data, place, tag + struct.pack(">HB", length, 0x41)) if place > 0 else data


@pytest.mark.parametrize(("place", "length", "why"), [
    (-4, 4, "not in the image"), (0x08, 4, "not in the image"), (0x1C, 4, "not in the image"),
    (0x20, 4, ""), (0x100, 4, ""), (0x100, 3, "not a DCD"), (0x100, 0, "not a DCD"), (0x100, 1768, ""),
    (0x100, 1769, "not a DCD"),
    (END - 4, 4, ""), (END - 4, 5, "not a DCD"), (END - 8, 8, ""), (END, 4, "not in the image"),
    (END + 4, 4, "not in the image"),
])  # fmt: skip
def test_a_dcd_has_4_to_1768_bytes_between_ivt_and_csf(place: int, length: int, why: str) -> None:
    """Else HAB refuses it."""
    data = with_dcd(place, length)
    if place == 0x1C:
        data = at(data, 0x1C, 0)
    result = tried(data)
    if why:
        assert f"has its DCD at {OWN + place:#x}" in str(result)
        assert why in str(result)
    else:
        assert isinstance(result, tuple)


def test_a_dcd_begins_with_its_tag() -> None:
    """Another one is none."""
    for tag in (b"\xd1", b"\xd3", b"\0"):
        assert "is not a DCD, and HAB refuses it" in str(tried(with_dcd(0x100, 4, tag)))


def test_the_configuration_of_the_flash_is_drawn_where_it_is() -> None:
    """At the start or 0x400 behind it, up to the IVT."""
    for place, tag_at, tag, name in (
        (0, 0, b"FCFB", "FlexSPI"), (0x400, 0x400, b"FCFB", "FlexSPI"),
        (0x400, 0x5FC, struct.pack("<I", 0xC0FFEE01), "QSPI"), (0x400, 0x5FC, struct.pack(">I", 0xC0FFEE01), "QSPI"),
    ):  # fmt: skip
        spl, regions = found(at(bytes(0x1000), tag_at, tag) + SPL)
        assert (spl.front, spl.ivt.offset) == (name, 0x1000)
        first = regions.found[0]
        assert (first.offset, first.end, first.name) == (place, 0x1000, f"{name} configuration")
        assert f"{name} configuration at {place:#x}, but no IVT at 0x1000" in str(tried(at(bytes(0x2000), tag_at, tag)))


def test_the_rom_loads_0x400_bytes_of_a_csf() -> None:
    """Or it has no room for one."""
    start = struct.unpack_from("<I", SPL, 0x20)[0]
    for room in (0x3FE, 0x3FF, 0x400, 0x401):
        result = tried(at(SPL, 0x24, CSF - start + room))
        if room < 0x400:
            assert "it would not be loaded completely" in str(result)
        else:
            assert found(at(SPL, 0x24, CSF - start + room))[0].room == room
