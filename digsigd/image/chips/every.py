"""Find chips with HAB4 and chips with AHAB by their names."""

from __future__ import annotations

from typing import TypeAlias

from digsigd.ahab import CHIPS, AhabChip, AhabError
from digsigd.ahab import chip as ahab_chip
from digsigd.image.chips.model import AmbiguousChipError, Chip, ChipError
from digsigd.image.chips.names import find, without_maker

AnyChip: TypeAlias = Chip | AhabChip
# Names of one chip in the table that people also use for others, whose fuses are in other places.
_NOT_CERTAIN = {"8": ("mx8qm", "mx8x"), "95": ("mx95-a0", "mx95-b0")}


def find_any(text: str, *, certain: bool = False) -> AnyChip:
    """Return the chip of this name, with HAB4 or with AHAB: "imx6ull", "i.MX 93", "mx8qxp".

    With `certain`, a name that is also used for chips or silicon with other fuses is ambiguous. Raises
    `AmbiguousChipError` if several chips have this name, `ChipError` if no chip has it.
    """
    name = without_maker(text)
    if certain and name in _NOT_CERTAIN:
        raise AmbiguousChipError(f"{text!r} is the name of several chips, whose fuses differ", _NOT_CERTAIN[name])
    try:
        return ahab_chip(name)
    except AhabError as unknown:
        try:
            return find(text)
        except AmbiguousChipError:
            raise
        except ChipError as error:
            raise ChipError(error.what, hint=f"{error.hint} With AHAB: {_names(unknown)}") from None


def ahab_chips() -> tuple[AhabChip, ...]:
    """Return the chips with AHAB."""
    return CHIPS


def _names(unknown: AhabError) -> str:
    return unknown.hint.partition(": ")[2]
