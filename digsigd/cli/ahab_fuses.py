"""`digsign fuses` of chips with AHAB: the words for an SRK table, and the comparison with others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.ahab_fuse_texts import (
    ahab_fuse_values,
    certain_name,
    places_of,
    second_places_of,
    show_ahab_fuses,
)
from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.fuse_compare import chosen, compare, compared_values, listed
from digsigd.cli.fuse_words import NoFuseValueError, value_in
from digsigd.cli.inspect.ahab_fuses import FoundTable, ahab_tables
from digsigd.client._internal.files import mapped

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip
    from digsigd.image.chips import FuseWord

_COUNTS = (8, 16)
_LARGEST_TEXT = 64 << 10
# srktool's fuse files are 32 or 64 bytes, which can be text by chance.
_FUSE_FILES = (32, 64)


def which_ahab_chip(source: str) -> Trouble:
    """Return the error for keys of AHAB without a chip."""
    from digsigd.ahab import CHIPS

    return Trouble(
        f"{shown(source)} is of AHAB, and no chip is given: chips differ in the hash of the table and in their fuses,"
        " and burning fuses cannot be undone",
        hint="set --soc to one of: " + ", ".join(certain_name(chip) for chip in CHIPS),
        code=2,
    )


def of_file(path: Path) -> list[FoundTable]:
    """Return the SRK tables of AHAB in a file. Raises `Trouble`."""
    try:
        with mapped(path) as data:
            return ahab_tables(data)
    except NoFuseValueError as error:
        raise Trouble(f"{path}: {shown(str(error))}", hint=f"run `digsign inspect {path}` to see what it is") from None


def show_or_compare(
    found: list[FoundTable],
    chip: AhabChip | None,
    source: str,
    again: str,
    options: argparse.Namespace,
    console: Console,
) -> int:
    """Show or compare the words of the table that the options choose, and return the exit code.

    `chip` is None only to compare. `again` are the arguments for the same keys, without the chip. Raises `Trouble`,
    and `AhabError` for values that are not confirmed.
    """
    if chip is not None:
        # Of the two tables that NXP's scripts make, one is for the chip.
        found = [one for one in found if one.is_for(chip)] or found
    one = chosen(found, options.table, source)
    if chip is not None:
        again += f" --soc {certain_name(chip)}"
    if options.compare is not None:
        return _compare(one, chip, options, again, console)
    if chip is None:
        raise which_ahab_chip(source)
    if options.json:
        console.say(json.dumps(ahab_fuse_values(one, chip, again), indent=2))
    else:
        show_ahab_fuses(one, chip, source, again, console)
    return 0


def _compare(one: FoundTable, chip: AhabChip | None, options: argparse.Namespace, source: str, console: Console) -> int:
    """Print whether the other value is the same, word by word. Return the exit code."""
    other = _other(options.compare, chip)
    _check_second(one, other, options.compare)
    others = other.values(chip)
    wanted = one.values(chip)
    if other.table is None and one.second is not None and others[0] == one.second != wanted[0]:
        places = None if chip is None else second_places_of(chip)
        if not options.json:
            console.say("This is the fuse value of the second SRK table; that of the first was not compared.")
        return compare(one.second, others[0], places, source, console, once=False, as_json=options.json)
    if chip is None:
        return _compare_hashes(wanted, others, options, source, console)
    if len(others[0]) != len(wanted[0]):
        raise Trouble(
            f"--compare {shown(options.compare)}: it has {len(others[0])} bytes, but the fuses of {chip.title} have"
            f" {len(wanted[0])}",
        )
    if one.second is None or other.second is not None:
        return compare(wanted[0], others[0], places_of(chip), source, console, once=False, as_json=options.json)
    second = _second_in(options.compare, chip)
    if second is not None and options.json:
        values = compared_values(wanted[0], others[0], places_of(chip), source)
        values["second"] = compared_values(one.second, second, second_places_of(chip), source)
        console.say(json.dumps(values, indent=2))
        return 0 if (others[0], second) == (wanted[0], one.second) else 1
    if second is not None:
        console.say("The first SRK table:")
    code = compare(wanted[0], others[0], places_of(chip), source, console, once=False, as_json=options.json)
    if second is not None:
        console.say("The second SRK table:")
        return max(
            code, compare(one.second, second, second_places_of(chip), source, console, once=False, as_json=False)
        )
    if not options.json:
        console.say("The fuse value of the second SRK table was not compared: --compare has only that of the first.")
    return code


def _second_in(text: str, chip: AhabChip) -> bytes | None:
    """Return the fuse value of a second table in the output of tools, None if it is not there."""
    read = []

    def places() -> tuple[FuseWord, ...]:
        read.append(True)
        return second_places_of(chip)

    path = Path(text)
    try:
        if _is_there(path):
            with mapped(path) as data:
                text = _text(data[:_LARGEST_TEXT]) or ""
        value = value_in(text, places, _COUNTS)
    except NoFuseValueError:
        return None
    # Digits and words have no places: they are the value of one table.
    return value if read else None


def _check_second(one: FoundTable, other: FoundTable, text: str) -> None:
    """Check that two files with SRK tables have the same second one. Raises `Trouble`."""
    if other.table is None or one.table is None or one.second == other.second:
        return
    which = {one.second, other.second}
    what = "only one of them has a second SRK table" if None in which else "their second SRK tables differ"
    raise Trouble(
        f"--compare {shown(text)}: not the same: {what}",
        hint="boards with the fuses of one do not boot what the keys of the other sign",
    )


def _compare_hashes(
    wanted: tuple[bytes, ...], others: tuple[bytes, ...], options: argparse.Namespace, source: str, console: Console
) -> int:
    """Compare what both have: a table has both hashes, digits and fuse files have one of them."""
    sizes = {len(one): one for one in wanted}
    other = others[-1]
    if len(other) not in sizes:
        raise Trouble(f"--compare {shown(options.compare)}: it has another hash: {len(other)} bytes")
    return compare(sizes[len(other)], other, None, source, console, once=False, as_json=options.json)


def _other(text: str, chip: AhabChip | None) -> FoundTable:
    """Return the value to compare with: digits, words, tool output, or any file with a table. Raises `Trouble`."""
    path = Path(text)
    places = None if chip is None else lambda: places_of(chip)
    try:
        if not text or not _is_there(path):
            return FoundTable("--compare", None, value_in(text, places, _COUNTS))
        with mapped(path) as data:
            if len(data) not in _FUSE_FILES and (written := _text(data[:_LARGEST_TEXT])) is not None:
                return FoundTable("--compare", None, value_in(written, places, _COUNTS))
            found = ahab_tables(data)
    except NoFuseValueError as error:
        raise Trouble(f"--compare {shown(text)}: {shown(str(error))}") from None
    if len({one.identity for one in found}) > 1:
        raise Trouble(f"--compare {shown(text)}: several SRK tables found: {listed(found)}")
    return found[0]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # an invalid file name
        return False


def _text(data: bytes) -> str | None:
    """Return the data as text, such as the log of a terminal; None if they are not text."""
    return None if b"\0" in data or data[:1] >= b"\x80" else data.decode("ascii", "replace")
