"""What of an image of barebox belongs to what: its header, firmware, IVTs, CSFs, and barebox proper."""

from __future__ import annotations

import struct

import pytest

from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import at, blocks, planned, refused

SIX = kinds.barebox()
EIGHT = kinds.barebox_8m()
BOTH = kinds.barebox_8m(flexspi="mm")
FRONT = "barebox's header, not signed"
FIRMWARE = "HDMI or DisplayPort firmware, signed by NXP"
ROOM = "room for the CSF of the barebox"
PROPER = "barebox proper, checked by the first part"
# PLUGIN_HDMI_SIZE.
HDMI = 0x1A000


def firmware() -> bytes:
    """signed_hdmi_imx8m.bin: its IVT is at 0x400, with the flag 2 in the boot data."""
    own = 0x32C00400
    head = b"\xd1\0\x20\x41" + struct.pack("<7I", 0x32C10000, 0, 0, own + 0x20, own, own + 0x40, 0)
    head += struct.pack("<3I", own - 0x400, 0x18000, 2)
    return (bytes(0x400) + head).ljust(HDMI, b"\x17")


def regions(data: bytes, soc: str | None = None) -> list[tuple[int, str]]:
    """Where each begins; they follow each other, and `planned` sees to that."""
    return [(one.offset, one.name) for one in planned(data, soc).regions]


def test_all_of_an_image_is_something() -> None:
    """With one IVT or two, and with and without a DCD."""
    assert regions(SIX) == [
        (0, FRONT), (0x400, "IVT"), (0x420, "boot data"), (0x42C, "DCD"), (0x454, "barebox"), (0x5C000, ROOM),
    ]  # fmt: skip
    assert regions(kinds.barebox(dcd_of=None), "imx6q") == [
        (0, FRONT), (0x400, "IVT"), (0x420, "boot data"), (0x42C, "barebox"), (0x5C000, ROOM),
    ]  # fmt: skip
    assert regions(EIGHT) == [
        (0, FRONT), (0x8400, "IVT"), (0x8420, "boot data"), (0x842C, "barebox"), (0x24000, ROOM), (0x26000, PROPER),
    ]  # fmt: skip
    assert regions(BOTH) == [
        (0, FRONT), (0x8400, "IVT"), (0x8420, "boot data"), (0x842C, "image header"), (0x9000, "IVT"),
        (0x9020, "boot data"), (0x902C, "barebox"), (0x25000, ROOM), (0x27000, f"{ROOM} for FlexSPI"),
        (0x29000, PROPER),
    ]  # fmt: skip


def test_what_its_header_is_for_is_told() -> None:
    """That of an image for FlexSPI has the configuration of the flash in it."""
    (note,) = planned(SIX).notes
    assert note == "the first 0x400 bytes are barebox's header, which the ROM does not use; they are not signed"
    note, _ = planned(BOTH).notes
    assert (
        "the first 0x8400 bytes are barebox's header with the configuration of the flash; they are not signed" in note
    )


def test_of_i_mx_8m_the_image_begins_at_once_or_behind_0x8000() -> None:
    """Where the ROM reads the SD card from; of i.MX 6 and 7, it always begins at once."""
    assert blocks(planned(kinds.barebox_8m(gap=0))) == [(0x7E1400, 0x400, 0x1BC00)]
    assert blocks(planned(kinds.barebox_8m(gap=0x8000))) == [(0x7E1400, 0x8400, 0x1BC00)]
    for gap in (0x1, 0x4000, 0x7FFF, 0x8001):
        assert "no IVT with boot data after it" in refused(kinds.barebox_8m(gap=gap))
    assert "no IVT with boot data after it" in refused(SIX[:0x400] + bytes(0x8000) + SIX[0x400:])


def test_only_of_i_mx_8m_there_is_an_ivt_for_flexspi() -> None:
    """What stands at its place in an image for others is code."""
    head = SIX[0x400:0x42C]
    data = at(at(SIX, 0x1000, head), 0x1010, 0x10001000 + 0x20)
    assert planned(data).notes == planned(SIX).notes
    assert regions(data) == regions(SIX)


@pytest.mark.parametrize("gap", [0, 0x8000])
def test_firmware_for_hdmi_is_there_once(gap: int) -> None:
    """Its IVT is no image's."""
    data = kinds.barebox_8m(gap=gap)
    front = data[:gap] if gap else data[:0x80]
    once = front + firmware()[len(front) - gap :] + data[gap:]
    header = [(0, FRONT)] if gap else []
    assert regions(once)[:-4] == [*header, (gap, FIRMWARE), (gap + HDMI, FRONT), (gap + HDMI + 0x400, "IVT")]
    assert planned(once).foreign[0] == (gap, HDMI)
    twice = front + firmware()[len(front) - gap :] + firmware() + data[gap:]
    assert f"the IVT at {gap + HDMI + 0x400:#x} for 0x32c00400 has its entry point" in refused(twice)


def test_a_second_ivt_without_a_csf_is_told_of() -> None:
    """No pointer, or one to what is not loaded."""
    csf, end = 0x7E1000 + 0x1D000 + 0x2000, 0x7E1000 + 0x1D000 + 0x4000
    for pointer, one in ((0, True), (end, True), (end + 4, True), (csf, False)):
        found = planned(at(BOTH, 0x9018, pointer))
        assert [part.name for part in found.signings] == ["barebox", "barebox for FlexSPI"][: 1 if one else 2]
        assert any("the IVT at 0x9000, for FlexSPI, has no CSF" in note for note in found.notes) is one


@pytest.mark.parametrize("loaded", [0x400, 0x1000, 0x1FFF, 0x2000, 0x2001, 0x4000])
def test_a_csf_has_what_is_loaded_of_it_and_0x2000_bytes_at_most(loaded: int) -> None:
    """CSF_LEN of imx-image.c."""
    data = at(SIX, 0x424, 0x5C000 + loaded)[: 0x5C000 + min(loaded, 0x2000)]
    assert planned(data).signings[0].csf_room == min(loaded, 0x2000)
    assert planned(at(EIGHT, 0x8424, 0x1C000 + loaded)).signings[0].csf_room == min(loaded, 0x2000)


@pytest.mark.parametrize("distance", [0x400, 0x1000, 0x1FFC, 0x2000, 0x3000])
@pytest.mark.parametrize("first", [True, False])
def test_the_csf_that_comes_first_ends_where_the_other_begins(distance: int, *, first: bool) -> None:
    """Whichever IVT it is of."""
    csf = 0x7E1000 + 0x1D000
    pointers = (csf, csf + distance) if first else (csf + distance, csf)
    data = at(at(BOTH, 0x8418, pointers[0]), 0x9018, pointers[1])
    data = at(data, 0x25000, b"\xd4\0\4\x40".ljust(distance, b"\0") + b"\xd4\0\4\x40")
    # What is loaded has to hold the second one whole.
    data = at(at(data, 0x8424, 0x1D000 + 0x6000), 0x9024, 0x1D000 + 0x6000)
    found = planned(data)
    rooms = [(one.csf_offset, one.csf_room) for one in found.signings]
    front, back = (0x25000, min(distance, 0x2000)), (0x25000 + distance, 0x2000)
    assert rooms == ([front, back] if first else [back, front])
    assert {block.end for one in found.signings for block in one.blocks} == {0x25000}


def test_the_chip_is_told_by_the_dcd_if_there_is_one() -> None:
    """And the layout tells that it is for serial download."""
    assert refused(SIX, "imx6ull").startswith("according to its DCD, the image is for i.MX 6Quad")
    assert refused(kinds.barebox(dcd_of=None), "imx8mm").startswith("the image is for")
    assert planned(SIX).layout == "barebox"
    assert planned(SIX, sdp=0x910000).layout == "barebox for serial download"


def test_an_image_that_mended_silicon_refuses_is_told_of() -> None:
    """Where it is loaded to memory on the chip."""
    notes = [planned(kinds.barebox(0x907000, dcd_of="ul", size=size), "imx6ul").notes for size in (0x9000, 0x10000)]
    assert [any("INV_ADDRESS" in note for note in some) for some in notes] == [False, True]
