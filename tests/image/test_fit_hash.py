"""The SPL's hash of the FIT's tree: where it is found, and what is told of what stands around it."""

from __future__ import annotations

import hashlib

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden
from tests.image.test_plan_errors import at, refused

NEW = golden.flash("mm", "nxp-new")
FIT = golden.fit_offset("mm")
CSF = 0x2A400
HASH = hashlib.sha256(NEW[FIT : FIT + golden.tree_size(NEW[FIT:])]).digest()
WITHOUT = NEW.replace(HASH, bytes(32))


def regions(data: bytes) -> list[tuple[int, int, str]]:
    """What stands between the SPL's IVT and its CSF."""
    return [(one.offset, one.length, one.name) for one in plan(data).regions if 0x20 <= one.offset < CSF]


@pytest.mark.parametrize("distance", [0x20, 0x24, 0x200, 0x21F, 0x220, 0x221, 0x240])
def test_it_is_within_the_last_sector_before_the_csf(distance: int) -> None:
    """It ends 0x200 bytes before it at most: imx-mkimage pads the SPL to sectors."""
    data = at(WITHOUT, CSF - distance, HASH)
    if distance > 0x220:
        assert "the SPL does not hold the SHA-256" in refused(data)
        return
    place = CSF - distance
    found = regions(data)
    assert found[:3] == [
        (0x20, place - 0x18000 - 0x20, "SPL"),
        (place - 0x18000, 0x18000, "DDR firmware"),
        (place, 0x20, "hash of the FIT's tree"),
    ]
    assert found[3:] == ([(place + 0x20, distance - 0x20, "end of the SPL")] if distance > 0x20 else [])
    assert not any("are not empty" in note for note in plan(data).notes)


@pytest.mark.parametrize(("before", "told"), [(32, True), (4, True), (1, True), (0, False)])
def test_what_may_be_another_hash_before_it_is_told_of(before: int, told: bool) -> None:
    """By its last four bytes: DDR firmware is padded there."""
    data = at(WITHOUT, CSF - 0x40, HASH)
    for place in {32: range(32), 4: (28,), 1: (31,), 0: (27,)}[before]:
        data = at(data, CSF - 0x60 + place, b"\x13")
    assert any("are not empty" in note for note in plan(data).notes) is told


def test_nothing_but_the_hash_again_stands_behind_it() -> None:
    """Else that is the one that SPL compares with."""
    assert plan(at(at(WITHOUT, CSF - 0x60, HASH), CSF - 0x40, HASH)).signings == plan(NEW).signings
    for place in (CSF - 0x40, CSF - 1):
        assert "the SPL does not hold the SHA-256" in refused(at(at(WITHOUT, CSF - 0x60, HASH), place, b"\x13"))


def test_an_spl_without_ddr_firmware_has_one_part() -> None:
    """What is before the hash is no more than that."""
    fit = golden.fit_ivt("mm")
    digest = hashlib.sha256(fit[: golden.tree_size(fit)]).digest()
    both = [(0x20, 4, "SPL"), (0x24, 0x18000, "DDR firmware")]
    for place, expected in ((0x18020, [(0x20, 0x18000, "SPL with DDR firmware")]), (0x18024, both)):
        head = golden.spl("mm", code=golden.filler("spl", place - 0x40) + digest, second=0x60000)
        data = head.ljust(FIT, b"\0") + fit
        assert data[place : place + 32] == digest
        assert [one for one in regions(data) if one[0] < place] == expected
