"""The daemon and a second model of the ROM agree on random CSFs and FITs: a shortened `make corpus`."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.model import fits, shapes
from tests.model.corpus import Outcome, case, fit_judged, flash_judged, judged
from tests.model.faults import FAULTS
from tests.model.rom import Refused, Rom

SEED = 20260
CASES = 240


def wrong(outcomes: list[Outcome]) -> list[str]:
    return [
        f"case {one.number}, {one.fault}: {one.verdict.lower()}: board: {one.board}; daemon: {one.daemon}"
        for one in outcomes
        if one.verdict.isupper()
    ]


def test_what_a_board_refuses_of_random_csfs_is_refused() -> None:
    """And what it takes is taken, but for the reasons that are written down."""
    outcomes = [judged(case(SEED, number), number) for number in range(CASES)]
    assert wrong(outcomes) == []
    verdicts = Counter(one.verdict for one in outcomes)
    assert verdicts["both accept"] > CASES // 6
    assert verdicts["both refuse"] > CASES // 4


def test_what_a_board_refuses_of_random_fits_does_not_hold() -> None:
    """And what it boots holds."""
    outcomes = [fit_judged(SEED, number) for number in range(CASES // 2)]
    assert wrong(outcomes) == []
    assert Counter(one.verdict for one in outcomes)["both accept"] > CASES // 12


def test_a_fit_behind_an_spl_meets_its_keys() -> None:
    """The ROM keeps what the SPL's CSF installed: another SRK, another key in its slot are refused."""
    outcomes = [flash_judged(SEED, number) for number in range(CASES // 4)]
    assert wrong(outcomes) == []
    assert Counter(one.verdict for one in outcomes)["both accept"] > CASES // 24
    assert any("target occupied" in (one.board or "") for one in outcomes)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_is_noticed_by_both_or_is_none(name: str) -> None:
    """Each in a CSF of its own, whatever the seed above happens to choose."""
    outcomes = []
    for number in range(4):
        chance = random.Random(f"{name}/{number}")
        made = shapes.right(chance)
        FAULTS[name](chance, made)
        made.fault = name
        outcomes.append(judged(made, number + 1))
    assert wrong(outcomes) == []


def test_the_seed_decides_the_cases() -> None:
    """But for the keys, which are new each time."""
    for number in range(5):
        one, again = case(SEED, number), case(SEED, number)
        assert (one.fault, one.image, len(one.commands)) == (again.fault, again.image, len(again.commands))
    assert case(SEED, 0).image != case(SEED + 1, 0).image


def test_the_model_takes_what_is_right() -> None:
    """A model that refuses everything would agree with a daemon that does."""
    for number in range(20):
        made = shapes.right(random.Random(number))
        rom = Rom(made.fuses, made.memory)
        rom.authenticate_image(
            shapes.BASE, shapes.BASE, shapes.SIZE + shapes.ROOM, shapes.BASE + shapes.SIZE, made.blob()
        )
        assert sum(size for _, size in rom.authenticated) == shapes.SIZE
        fit = fits.right(random.Random(number))
        assert fits.board(fit, fit.file())[0] is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other_fuses", "HAB_INV_CERTIFICATE"),
        ("changed_commands", "HAB_INV_SIGNATURE"),
        ("changed_image", "HAB_INV_SIGNATURE"),
        ("hashed_srk", "HAB_INV_KEY"),
        ("csf_by_another_slot", "HAB_INV_COMMAND"),
    ],
)
def test_the_model_refuses_what_is_wrong_by_the_manuals_name(name: str, reason: str) -> None:
    """And for no other reason."""
    chance = random.Random(name)
    made = shapes.right(chance)
    FAULTS[name](chance, made)
    rom = Rom(made.fuses, made.memory)
    with pytest.raises(Refused, match=reason):
        rom.run_csf(made.blob())
