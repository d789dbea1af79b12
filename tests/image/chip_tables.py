"""The tables of docs/chips.md, made from the table of chips: chips that differ in nothing share a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeAlias

from digsigd.cli.fuse_words import ranges
from digsigd.image.chips import CHIPS, Chip, NotConfirmedError

NOT_CONFIRMED = "not confirmed"
Column: TypeAlias = Callable[[Chip], str]

FUSES: dict[str, Column] = {
    "SRK words, in the order of the fuse file": lambda chip: ranges(chip.srk),
    "closes: SEC_CONFIG[1]": lambda chip: str(chip.close),
    "SRK_LOCK": lambda chip: str(chip.lock),
    "SRK_REVOKE": lambda chip: str(chip.revoke),
}
SIGNING: dict[str, Column] = {
    "Engine": lambda chip: chip.engine,
    "left unlocked": lambda chip: "; ".join(f"{of} {', '.join(what)}" for of, what in chip.unlocks) or "-",
    "blocks a command": lambda chip: "any" if chip.block_max is None else str(chip.block_max),
    "header": lambda chip: ".".join(map(str, chip.csf_version)),
    "HAB in ROM": lambda chip: chip.hab.text,
    "ECDSA": lambda chip: "yes" if chip.ecdsa else "no",
    "fast authentication": lambda chip: "yes" if chip.nocak else "not all silicon",
}


def cell(column: Column, chip: Chip) -> str:
    """What a column has for a chip."""
    try:
        return column(chip)
    except NotConfirmedError:
        return NOT_CONFIRMED


def table(columns: dict[str, Column]) -> Iterator[str]:
    """The lines of a table in Markdown."""

    def cells(chip: Chip) -> tuple[str, ...]:
        return tuple(cell(column, chip) for column in columns.values())

    yield " | ".join(["| `--soc`", *columns]) + " |"
    yield "|" + "---|" * (1 + len(columns))
    for values, chips in groupby(CHIPS, cells):
        yield " | ".join(["| " + ", ".join(chip.name for chip in chips), *values]) + " |"


def reasons() -> Iterator[str]:
    """A line for each cell that is not confirmed, with the chips that it is not confirmed for."""
    found: dict[tuple[str, str], list[str]] = {}
    for chip in CHIPS:
        for name in ("engine", "hab", "srk", "close", "lock", "revoke", "ecdsa", "second_core", "u_boot"):
            try:
                getattr(chip, name)
            except NotConfirmedError as error:
                what, _, why = error.what.partition(" is not confirmed: ")
                what = what.partition(f" of {chip.title}")[0].removeprefix("the ")
                names = found.setdefault((what, why), [])
                names += [chip.name] if chip.name not in names else []
    for (what, why), names in found.items():
        yield f"- {', '.join(names)}, {what}: {why}"


if __name__ == "__main__":
    for lines in (table(FUSES), table(SIGNING), reasons()):
        print("\n".join(lines), end="\n\n")  # noqa: T201
