"""The options of a plan, and what the planner of a kind of image returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from digsigd.image.chips import CHIPS, Chip, Unconfirmed
from digsigd.image.errors import ImageError
from digsigd.image.fit_plan import FitOptions
from digsigd.image.model import Signing

_MOST_LISTED = 4


@dataclass(frozen=True, slots=True)
class Options(FitOptions):
    """Options with the chip of the boards, if known; `sdp` is the address of the DCD for serial download."""

    chip: Chip | None = None
    sdp: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What an image is signed for: `chip`; `title` names all chips that are signed for in the same way.

    `chip` is None if neither the image nor the user gives it, and `ask` then says why it is needed. `possible` are all
    chips that the image can be for, empty if unknown.
    """

    chip: Chip | None
    title: str = ""
    ask: str = ""
    possible: tuple[Chip, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """The plan of one kind of image: `layout` is the name to show."""

    layout: str
    signings: tuple[Signing, ...]
    target: Target


def of_families(*families: str) -> tuple[str, ...]:
    """Return the names of all chips of these families."""
    return tuple(chip.name for chip in CHIPS if chip.family in families)


# What mkimage's imximage and barebox's imx-image make images of 32 bits for.
CHIPS_32 = of_families("i.MX 6", "i.MX 7", "i.MX 7ULP", "Vybrid")
CHIPS_8M = of_families("i.MX 8M")


def settle(chip: Chip | None, named: Sequence[str], what: str) -> Target:
    """Return the chip to sign for, of those whose names the image gives (`named`, empty if unknown).

    Several chips are one target if they are signed for in the same way. Raises `ImageError` if the user's `chip` is
    none of them.
    """
    possible = [one for one in CHIPS if one.name in named]
    if chip is not None:
        if possible and chip not in possible:
            raise ImageError(
                f"{what} is for {_listed(possible)}, but {chip.title} was given",
                hint="Check the image, and the chip that --soc names.",
            )
        return Target(chip, chip.title, possible=(chip,))
    if possible and len({_manner(one) for one in possible}) == 1:
        return Target(possible[0], _listed(possible), possible=tuple(possible))
    if possible:
        ask = f"{what} is for {_listed(possible)}, which are signed for in different ways"
        return Target(None, ask=ask, possible=tuple(possible))
    return Target(None, ask=f"{what} does not show which chip it is for, and chips are signed for in different ways")


def _manner(chip: Chip) -> tuple[object, ...]:
    engine = chip.engine_cell
    return chip.csf_version, engine.why if isinstance(engine, Unconfirmed) else (engine, chip.unlocks)


def _listed(chips: Sequence[Chip]) -> str:
    if len(chips) > _MOST_LISTED:
        return f"{' or '.join(dict.fromkeys(chip.family for chip in chips))}"
    return " or ".join(chip.title for chip in chips)
