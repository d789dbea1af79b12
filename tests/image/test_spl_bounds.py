"""What an i.MX 8M's ROM just takes of an SPL's header, and what it no longer does."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden
from tests.image.test_plan_errors import at, refused
from tests.image.test_vendor_firmware import behind

SPL = golden.spl("mm")
OWN = 0x7E0FC0
ENTRY, SELF, CSF = (struct.unpack_from("<I", SPL, place)[0] for place in (0x04, 0x14, 0x18))
START = struct.unpack_from("<I", SPL, 0x20)[0]


@pytest.mark.parametrize("room", [0x3FF, 0x400, 0x1FFF, 0x2000, 0x2060, 0x4000])
def test_the_rom_loads_0x400_bytes_of_a_csf_at_least(room: int) -> None:
    """And no more than 0x2000 are for it."""
    data = at(SPL[: CSF - OWN], 0x24, CSF - START + room)
    if room < 0x400:
        assert "it would not be loaded completely" in refused(data)
    else:
        (part,) = plan(data).signings
        assert (part.csf_room, part.csf_offset) == (min(room, 0x2000), CSF - OWN)


@pytest.mark.parametrize("distance", [0, 0x100, 0x400, 0xC00, 0x1000, 0x2000])
def test_the_ivt_is_where_boot_devices_have_it(distance: int) -> None:
    """Behind the start of what is loaded."""
    data = at(at(SPL, 0x20, OWN - distance), 0x24, CSF - OWN + distance + 0x2000)
    if distance in (0, 0x400, 0x1000):
        assert plan(data).signings == plan(SPL).signings
    else:
        assert "which fits no boot device" in refused(data)


def test_the_csf_begins_with_the_end_of_the_file_at_last() -> None:
    """One byte less, and something that is signed is not there."""
    assert plan(SPL[: CSF - OWN]).signings == plan(SPL).signings
    assert "The file is truncated" in refused(SPL[: CSF - OWN - 1])


@pytest.mark.parametrize("place", [0x20, 0x1000, CSF - OWN - 12, CSF - OWN - 8, CSF - OWN])
def test_boot_data_are_between_ivt_and_csf(place: int) -> None:
    """All 12 bytes of them."""
    moved = at(at(SPL, place, SPL[0x20:0x2C]), 0x10, OWN + place)
    if place <= CSF - OWN - 12:
        assert plan(moved).signings[0].blocks == plan(SPL).signings[0].blocks
    else:
        assert "its boot data at" in refused(moved)


@pytest.mark.parametrize(("entry", "good"), [(0x1C, False), (0x20, True), (-4, True), (0, False)])
def test_the_entry_point_is_between_ivt_and_csf(entry: int, good: bool) -> None:
    """The ROM jumps there."""
    address = CSF + entry if entry <= 0 else OWN + entry
    data = at(SPL, 0x04, address)
    if good:
        assert plan(data).signings[0].ivt.entry == address
    else:
        assert f"its entry point at {address:#x}" in refused(data)


@pytest.mark.parametrize("place", [0x400, 0x1A000, 0xFFC00, 0x100000])
def test_the_spl_is_within_1_mib_behind_hdmi_firmware(place: int) -> None:
    """Nothing is that long."""
    data = golden.signed_hdmi()[0x400:0x440].ljust(place, b"\0") + golden.spl("mq")
    if place < 0x100000:
        assert plan(data).signings[0].ivt.offset == place
    else:
        assert "is not followed by the IVT of an SPL" in refused(data)


def test_hdmi_firmware_ends_where_its_padding_begins() -> None:
    """That is what runs without a signature that can be checked here."""
    for front, place in ((0, 0x1A000), (0x400, 0x1A400)):
        data = behind(front, place)
        (foreign,) = plan(data).foreign
        assert foreign == (front, len(data[:place].rstrip(b"\0")) - front)
