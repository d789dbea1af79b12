"""Where a host may write a DCD for serial download, and which chips it clears the pointer on."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from digsigd import hab
from digsigd.image.chips import find
from digsigd.image.errors import ImageError
from digsigd.image.options import CHIPS_32
from digsigd.image.regions import RegionMap
from digsigd.image.rom import Header
from digsigd.image.sdp import download, with_pointer
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import signed
from tests.image.kinds_judged import at, is_good, planned, why_not

U_BOOT = kinds.imximage()
PLACE = 0x910000
# The length of the DCD, which is at 0x2c.
LENGTH = 0x28


def tried(address: int, start: int = 0x877FF000, chip: str | None = None) -> tuple[str, list[str]]:
    """What is wrong with this address for a DCD, and the notes where nothing is."""
    own = start + 0x400
    header = Header(hab.Ivt(0, own + 0x100, own + 0x2C, own + 0x20, own, own + 0x1000), start, 0x4000, 0)
    regions = RegionMap(bytes(0x1000))
    try:
        found = download(regions, header, (0x2C, LENGTH), address, find(chip) if chip else None)
    except ImageError as error:
        return error.what, []
    assert found.block == hab.Block(address, 0x2C, LENGTH)
    return "", regions.notes


def test_a_dcd_is_written_to_the_chips_own_memory() -> None:
    """Behind the ROM, and before the memory that the DCD is to start; that of i.MX 7ULP is among it."""
    for address in (0x100000, 0x8FFFFC, PLACE, 0x0FFFFFFC, 0x2F000000, 0x2F010000, 0x2FFFFFFC):
        assert tried(address)[0] == "", f"{address:#x}"
    for address in (0, 0x9100, 0xFFFFC):
        assert "that is the chip's ROM" in tried(address)[0]
    for address in (0x10000000, 0x2EFFFFFC, 0x30000000, 0x5E000000, 0xAF000000, 0x17800000, 0x97800000):
        assert "that only works after the DCD has run" in tried(address)[0], f"{address:#x}"


def test_an_address_has_32_bits_and_is_a_multiple_of_4() -> None:
    """With all of the DCD."""
    top = (1 << 32) - LENGTH
    assert "that only works after the DCD has run" in tried(top)[0]
    for address in (top + 4, 1 << 32, PLACE + 1, PLACE + 2, PLACE + 3):
        assert "is not a 32-bit address on a multiple of 4" in tried(address)[0]


def test_a_dcd_may_stand_right_beside_what_is_sent() -> None:
    """That begins with the file: with the IVT, where that is first."""
    start, end = 0x908000, 0x90C000
    for address, good in (
        (start + 0x400 - LENGTH, True), (start + 0x404 - LENGTH, False), (start + 0x400, False), (end - 4, False),
        (end, True),
    ):  # fmt: skip
        assert ("both must be in memory" in tried(address, start)[0]) is not good


def test_the_usual_address_is_told_where_one_is_known() -> None:
    """Of a chip that has one."""
    assert "the usual address for the DCD of i.MX 6UltraLite is 0x910000" in " ".join(tried(0x907000, chip="imx6ul")[1])
    for address, chip in ((PLACE, "imx6ul"), (0x907000, None), (0x907000, "vf610")):
        notes = tried(address, chip=chip)[1]
        assert len(notes) == 1
        assert f"-dcdaddr {address:#x}" in notes[0]
    assert not find("vf610").dcd


@pytest.mark.parametrize("chip", CHIPS_32)
def test_uuu_clears_the_pointer_on_the_older_chips(chip: str) -> None:
    """libuuu/sdp.cpp: i.MX 6Quad to Solo, SoloLite and SoloX; on others it is asked to."""
    cleared = chip in {"imx6q", "imx6d", "imx6qp", "imx6dp", "imx6dl", "imx6s", "imx6sl", "imx6sx"}
    plan = replace(planned(U_BOOT, sdp=PLACE), possible=(find(chip),))
    assert (with_pointer(plan) is None) is cleared


def test_chips_that_the_pointer_may_stay_on_are_named_where_others_are_possible() -> None:
    """And other notes stay."""
    plan = planned(U_BOOT, sdp=PLACE)
    plan = replace(plan, notes=("one", *plan.notes, "two"))
    for names, said in (
        (("imx6q", "imx6ul"), "without -cleardcd (correct on i.MX 6UltraLite only): the pointer"),
        (("imx6ul", "imx6q", "imx6ull"), "(correct on i.MX 6UltraLite or i.MX 6ULL only)"),
        (("imx6ul", "imx6ull"), "without -cleardcd: the pointer to the DCD is signed and must stay; from flash"),
        ((), "without -cleardcd: the pointer to the DCD is signed and must stay; from flash"),
    ):
        found = with_pointer(replace(plan, possible=tuple(find(name) for name in names)))
        assert found is not None
        assert (found.notes[0], found.notes[-1], len(found.notes)) == ("one", "two", len(plan.notes))
        assert said in found.notes[1]
        assert found.masks == ()
    assert with_pointer(planned(U_BOOT)) is None
    assert with_pointer(replace(planned(U_BOOT), possible=())) is None
    assert struct.unpack_from(">H", U_BOOT, 0x2D) == (LENGTH,)


def test_a_forgotten_address_is_told_of_a_dcd_of_any_length() -> None:
    """By the length of the block that is at no place of the image."""
    pairs = struct.pack(">2I", 0x021B0800, 0xA1390003) * 40
    long = struct.pack(">BHBBHB", 0xD2, 8 + len(pairs), 0x40, 0xCC, 4 + len(pairs), 4) + pairs
    data = at(U_BOOT, 0x2C, long)
    (mask,) = planned(data, sdp=PLACE).masks
    sent = signed(at(data, mask.offset, mask.data), planned(data, sdp=PLACE))
    whole = at(sent, mask.offset, data[mask.offset : mask.offset + 4])
    assert is_good(whole, sdp=PLACE)
    assert f"{PLACE:#x}+{len(long):#x} is signed" in why_not(whole)
    assert f"try --sdp {PLACE:#x}" in why_not(whole)
