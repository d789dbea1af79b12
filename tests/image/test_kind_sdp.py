"""Files for serial download to a closed board: the DCD at its place, and no pointer to it in what is sent."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.model import Patch
from digsigd.image.sdp import Overlaid
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import Maker, signed
from tests.image.kinds_judged import at, blocks, is_good, planned, refused, why_not

DCD = kinds.dcd("ul")
U_BOOT = kinds.imximage()
SPL = kinds.spl(dcd_of="ul")
PLACE = 0x910000


def downloaded(data: bytes, address: int = PLACE) -> bytes:
    """Signed as the host sends it, and its pointer restored."""
    found = planned(data, sdp=address)
    (mask,) = found.masks
    sent = at(data, mask.offset, mask.data)
    return at(signed(sent, found), mask.offset, data[mask.offset : mask.offset + 4])


@pytest.mark.parametrize("data", [U_BOOT, kinds.nand_u_boot(), kinds.barebox(dcd_of="ul")], ids=["0", "0x400", "bb"])
def test_the_dcd_has_a_block_of_its_own(data: bytes) -> None:
    """`DCDADDR 2C LEN`, LEN the 16 bits behind its tag."""
    found = planned(data, sdp=PLACE)
    place = found.signings[0].ivt.offset
    assert blocks(found)[1] == (PLACE, place + 0x2C, len(DCD))
    assert blocks(found)[0] == blocks(planned(data))[0]
    assert struct.unpack_from(">H", data, place + 0x2D)[0] == len(DCD)
    assert [(mask.offset, mask.data) for mask in found.masks] == [(place + 0x0C, bytes(4))]
    assert any(f"-dcdaddr {PLACE:#x}" in note and "refuses this file" in note for note in found.notes)
    report = is_good(downloaded(data), sdp=PLACE)
    assert report.plan.signings[0].ivt.dcd == 0


def test_it_holds_for_serial_download_alone() -> None:
    """From flash the ROM sees the pointer; and no other file holds for serial download."""
    assert why_not(downloaded(U_BOOT))
    assert why_not(signed(U_BOOT), sdp=PLACE)
    assert why_not(downloaded(U_BOOT), sdp=PLACE + 0x1000)


def test_a_file_that_leaves_the_dcd_s_own_place_out_does_not_hold() -> None:
    """The pointer is 0 as it is sent, and what the host wrote to the other place is not signed."""
    found = planned(U_BOOT, sdp=PLACE)
    (mask,) = found.masks
    alone = Maker(blocks=lambda part: part.blocks[:1])
    sent = signed(at(U_BOOT, mask.offset, mask.data), found, makers={"image": alone})
    assert "not covered: 0x2c" in why_not(at(sent, mask.offset, U_BOOT[mask.offset : mask.offset + 4]), sdp=PLACE)


@pytest.mark.parametrize(("soc", "dcd"), [("imx6ul", "ul"), ("imx7d", "7")])
def test_signed_with_its_pointer_it_holds_where_uuu_does_not_clear_it(soc: str, dcd: str) -> None:
    """Digi's scripts sign it like that; what uuu has to do is told."""
    data = kinds.imximage(dcd_of=dcd)
    found = planned(data, soc, sdp=PLACE)
    both = signed(data, found)
    notes = " ".join(is_good(both, soc, sdp=PLACE).plan.notes)
    assert "without -cleardcd:" in notes
    assert "and -cleardcd to clear the pointer" not in notes
    assert why_not(both, soc)
    assert why_not(at(both, 0x2C + 0x10, b"\x13"), soc, sdp=PLACE)
    assert "without -cleardcd" not in " ".join(is_good(downloaded(data), sdp=PLACE).plan.notes)


@pytest.mark.parametrize("soc", ["imx6q", "imx6qp"])
def test_signed_with_its_pointer_it_fails_where_uuu_always_clears_it(soc: str) -> None:
    """What is checked then has 0 there."""
    data = kinds.imximage(0x17800000, dcd_of="q")
    assert why_not(signed(data, planned(data, soc, sdp=PLACE)), soc, sdp=PLACE)


@pytest.mark.parametrize("address", [0x877FF000, 0x12000000, 0x10000000])
def test_a_place_in_memory_that_the_dcd_has_to_start_is_refused(address: int) -> None:
    """It is not there when the host writes the DCD; nor is the ROM such a place, or an address without its 0x."""
    assert "the chip's ROM" in refused(U_BOOT, sdp=0x9100)
    assert "the chip's ROM" in refused(U_BOOT, sdp=910000)
    assert "only works after the DCD has run" in refused(U_BOOT, sdp=address)


def test_a_forgotten_sdp_is_told_of() -> None:
    """By a block as long as the DCD that is at no place of the image."""
    assert "try --sdp 0x910000" in why_not(downloaded(U_BOOT))
    assert "--sdp" not in why_not(at(downloaded(U_BOOT), 0x2D, b"\0\x04"))


def test_its_pointer_has_to_be_there() -> None:
    """By it the host finds the DCD; signed was 0."""
    data = downloaded(U_BOOT)
    assert "has no DCD" in why_not(at(data, 0x0C, 0), sdp=PLACE)
    assert "its DCD at 0x877ff430" in why_not(at(data, 0x0C, 0x877FF430), sdp=PLACE)


def test_no_changed_byte_of_the_dcd_holds() -> None:
    """It is signed twice."""
    data = downloaded(U_BOOT)
    for place in (0x2C, 0x2E, 0x34, 0x2C + len(DCD) - 1):
        assert why_not(at(data, place, bytes([data[place] ^ 1])), sdp=PLACE)


@pytest.mark.parametrize("address", [0x907400, 0x910000, 0x907400 - len(DCD) + 4, 0x915000])
def test_a_place_where_the_image_is_loaded_is_refused(address: int) -> None:
    """One memory cannot hold both."""
    data = kinds.spl(dcd_of="ul", size=0xC000)
    assert "both must be in memory" in refused(data, sdp=address).replace("one memory", "One memory")


def test_the_place_before_the_ivt_is_free() -> None:
    """Foundries' scripts take the start of the boot data, 0x400 before the IVT: that is not sent."""
    is_good(downloaded(SPL, 0x907000), sdp=0x907000)
    assert "is not a 32-bit address" in refused(SPL, sdp=0x907002)
    assert "is not a 32-bit address" in refused(SPL, sdp=0xFFFFFFFC)


def test_another_address_than_the_usual_one_is_told() -> None:
    """The one in use has to be asked for: uuu's."""
    assert any("usual address" in note for note in planned(SPL, "imx6ul", sdp=0x907000).notes)
    assert not any("usual address" in note for note in planned(U_BOOT, "imx6ul", sdp=PLACE).notes)


def test_images_without_a_dcd_need_no_file_of_their_own() -> None:
    """Nor do those that are several."""
    assert "has no DCD" in refused(kinds.spl(), sdp=PLACE)
    assert "over USB the ROM accepts a single image only" in refused(
        SPL.ljust(0x11000, b"\xff") + kinds.u_boot_ivt_img(), sdp=0x930000
    )


def test_a_file_with_other_bytes_in_it_is_not_copied() -> None:
    """What is read has the bytes, wherever it begins and ends."""
    data = bytes(range(64))
    over = Overlaid(data, (Patch(8, b"abcd", ""), Patch(62, b"yz", "")))
    whole = data[:8] + b"abcd" + data[12:62] + b"yz"
    assert len(over) == 64
    for start in range(66):
        for end in range(66):
            assert over[start:end] == whole[start:end]
    assert over[-3:] == whole[-3:]
    with pytest.raises(ValueError, match="contiguous bytes"):
        over[::2]
