"""What is asked of a plan beside the file itself, and what the planner of a kind of image gives back."""

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
    """What the boards have for a chip, where known; `sdp` is where a host writes the DCD for serial download."""

    chip: Chip | None = None
    sdp: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What an image is signed for: `chip`, and `title` names all that are signed for like that.

    `chip` is None where neither the image nor the user tells, and `ask` says why that matters. `possible` are all that
    it can be for, none where nothing tells.
    """

    chip: Chip | None
    title: str = ""
    ask: str = ""
    possible: tuple[Chip, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """An image of a kind: `layout` is what people call it."""

    layout: str
    signings: tuple[Signing, ...]
    target: Target


def of_families(*families: str) -> tuple[str, ...]:
    """The names of all chips of these."""
    return tuple(chip.name for chip in CHIPS if chip.family in families)


# What mkimage's imximage and barebox's imx-image make images of 32 bits for.
CHIPS_32 = of_families("i.MX 6", "i.MX 7", "i.MX 7ULP", "Vybrid")
CHIPS_8M = of_families("i.MX 8M")


def settle(chip: Chip | None, told: Sequence[str], what: str) -> Target:
    """The chip to sign for, of those that the image tells (none: it tells nothing).

    Raises `ImageError` where the user says another. Chips that are signed for alike need not be told apart.
    """
    possible = [one for one in CHIPS if one.name in told]
    if chip is not None:
        if possible and chip not in possible:
            raise ImageError(
                f"{what} is for {_listed(possible)}, and {chip.title} was asked for",
                hint="One of them is wrong: see which image this is, and what --soc says.",
            )
        return Target(chip, chip.title, possible=(chip,))
    if possible and len({_manner(one) for one in possible}) == 1:
        return Target(possible[0], _listed(possible), possible=tuple(possible))
    if possible:
        ask = f"{what} is for {_listed(possible)}, and these are signed for in different ways"
        return Target(None, ask=ask, possible=tuple(possible))
    return Target(None, ask=f"{what} does not tell which chip it is for, and they are signed for in different ways")


def _manner(chip: Chip) -> tuple[object, ...]:
    engine = chip.engine_cell
    return chip.csf_version, engine.why if isinstance(engine, Unconfirmed) else (engine, chip.unlocks)


def _listed(chips: Sequence[Chip]) -> str:
    if len(chips) > _MOST_LISTED:
        return f"{' or '.join(dict.fromkeys(chip.family for chip in chips))}"
    return " or ".join(chip.title for chip in chips)
