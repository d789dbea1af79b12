"""What the ROMs of i.MX 6 and 7 just take of an image's header, and what they no longer do."""

from __future__ import annotations

import struct

import pytest

from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import at, blocks, planned, refused

U_BOOT = kinds.imximage(dcd_of=None)
BASE = 0x877FF400
CSF = kinds.csf_offset(U_BOOT)
LENGTH = 0x400 + CSF  # what is loaded up to the CSF


@pytest.mark.parametrize("room", [0x3FF, 0x400, 0x3FFF, 0x4000, 0x5000])
def test_the_rom_loads_0x400_bytes_of_a_csf_at_least(room: int) -> None:
    """And no more than 0x4000 are for it."""
    data = at(U_BOOT, 0x24, LENGTH + room)
    if room < 0x400:
        assert "in the CSF (the CSF belongs at" in refused(data)
    else:
        assert planned(data).signings[0].csf_room == min(room, 0x4000)


@pytest.mark.parametrize("distance", [0, 0x100, 0x200, 0x400, 0x800, 0x1000])
def test_the_ivt_is_where_boot_devices_have_it(distance: int) -> None:
    """Behind the start of what is loaded."""
    data = at(at(U_BOOT, 0x20, BASE - distance), 0x24, CSF + distance + 0x2060)
    if distance in (0, 0x100, 0x400, 0x1000):
        assert planned(data).signings[0].blocks == planned(U_BOOT).signings[0].blocks
    else:
        assert "which fits no boot device" in refused(data)


@pytest.mark.parametrize("place", [0x20, 0x24, CSF - 12, CSF - 8, CSF])
def test_boot_data_are_between_ivt_and_csf(place: int) -> None:
    """All 12 bytes of them."""
    moved = at(at(U_BOOT, place, U_BOOT[0x20:0x2C]), 0x10, BASE + place)
    if place <= CSF - 12:
        assert blocks(planned(moved)) == blocks(planned(U_BOOT))
    else:
        assert refused(moved)


@pytest.mark.parametrize(("address", "good"), [
    (BASE + 0x1C, False), (BASE + 0x20, True), (BASE + CSF - 4, True), (BASE + CSF, False),
])  # fmt: skip
def test_the_entry_point_is_between_ivt_and_csf(address: int, good: bool) -> None:
    """The ROM jumps there; a distance of less than 0x100 is that of an i.MX 8M."""
    if good:
        assert planned(at(U_BOOT, 0x04, address), "imx6ul" if address > BASE + 0x100 else None).signings
    else:
        assert f"its entry point at {address:#x}" in refused(at(U_BOOT, 0x04, address))


@pytest.mark.parametrize("odd", [1, 2, 3])
def test_the_csf_is_on_a_multiple_of_4(odd: int) -> None:
    """HAB takes no other."""
    assert "has its entry point" in refused(at(U_BOOT, 0x18, BASE + CSF - odd))


@pytest.mark.parametrize("missing", [0, 1, 0xFFF, 0x1000])
def test_a_file_ends_less_than_a_page_before_its_csf(missing: int) -> None:
    """The rest is zeros, which are written."""
    data = U_BOOT[: CSF - missing]
    if missing == 0x1000:
        assert "The file is truncated" in refused(data)
    else:
        patches = [(patch.offset, patch.data) for patch in planned(data).patches]
        assert patches == ([(CSF - missing, bytes(missing))] if missing else [])
        assert planned(data).signings == planned(U_BOOT).signings


def test_a_file_without_its_entry_point_was_cut_short() -> None:
    """However near the end of the image is."""
    small = kinds.imximage(size=0x123, dcd_of=None)
    csf = kinds.csf_offset(small)
    entry = csf - 0xF00
    data = at(small, 0x04, BASE + entry)
    assert "The file is truncated" in refused(data[:entry])
    assert planned(data[: entry + 1]).patches


def with_dcd(place: int, length: int) -> bytes:
    """u-boot.imx with a DCD of so many bytes that does nothing."""
    dcd = struct.pack(">BHB", 0xD2, length, 0x40).ljust(max(4, min(length, CSF - place)), b"\0")
    return at(at(U_BOOT, place, dcd), 0x0C, BASE + place)


@pytest.mark.parametrize(("place", "length", "good"), [
    (0x2C, 3, False), (0x2C, 4, True), (0x2C, 1768, True), (0x2C, 1769, False),
    (0x1000, 4, True), (CSF - 8, 8, True), (CSF - 8, 9, False), (CSF - 4, 4, True), (CSF - 3, 4, False),
])  # fmt: skip
def test_a_dcd_has_4_to_1768_bytes_in_the_image(place: int, length: int, good: bool) -> None:
    """All of them before the CSF."""
    data = with_dcd(place, length)
    if good:
        regions = [(one.offset, one.length) for one in planned(data).regions if one.name == "DCD"]
        assert regions == [(place, length)]
    else:
        assert "A DCD begins with d2 and has 4 to 1768 bytes" in refused(data)


@pytest.mark.parametrize(("length", "good"), [(0x20, True), (0x21, False), (0x2C, False), (0x40, False)])
def test_a_dcd_is_not_over_the_boot_data(length: int, good: bool) -> None:
    """It may be right before them, or right behind them."""
    data = with_dcd(0x40, length)
    data = at(at(data, 0x60, U_BOOT[0x20:0x2C]), 0x10, BASE + 0x60)
    if good:
        assert [one.name for one in planned(data).regions[1:5]] == ["image header", "DCD", "boot data", "code"]
        assert planned(with_dcd(0x2C, length)).regions
    else:
        assert "over its boot data at 0x877ff460" in refused(data)
