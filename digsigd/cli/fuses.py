"""`digsign fuses`: show the words to burn for an SRK table, or compare them with others."""

from __future__ import annotations

import argparse
import json
import os
import struct
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.fuse_texts import as_values, place_values, show
from digsigd.cli.soc import add_soc_argument
from digsigd.client._internal.files import mapped
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.cli.inspect.fuses import FuseValue
    from digsigd.image.chips import Chip

# srktool's fuse files have 32 or 128 bytes.
_LARGEST_FUSES = 128

HELP = """Show what to burn into the SRK fuses of a chip with HAB4, as commands for U-Boot or, for i.MX RT, blhost.

FILE is an SRK table, a key tarball, a fuse file, a CSF blob or a signed image. With --machine M instead of FILE, the
signing host is asked. --soc selects the chip: the SRK fuses are in different places in each family. This command does
not burn anything.

--compare takes the fuse value of a board or of another file: 64 hexadecimal digits in the order of the fuse file,
eight words, any of the files above, or a file with the output of U-Boot's `fuse read` or blhost's `efuse-read-once`.
The exit code is 1 if the values differ. --compare needs --soc only for output of U-Boot and blhost.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign fuses`."""
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a file that contains the SRK table or the fuse value"
    )
    add_soc_argument(parser, "the chip of the boards, such as imx6ull, imx8mm or imxrt1064")
    parser.add_argument("--table", metavar="NAME", help="the SRK table to use, if there are several")
    parser.add_argument("--compare", metavar="VALUE", help="compare with this fuse value: digits, words, or a file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Show or compare the words, and return the exit code. Raises `Trouble`, `ClientError`, `NotConfirmedError`."""
    chip: Chip | None = options.soc
    if options.file is not None:
        if options.machine is not None:
            raise Trouble("both FILE and --machine are given", hint="pass only one of them", code=2)
        found, chip = _of_file(options.file, chip)
        source = quote(str(options.file))
    else:
        if chip is None and options.compare is None:
            raise _which_chip()
        found, source = _of_machine(options, console)
    value = _chosen(found, options.table, source)
    again = source
    if options.table is not None:
        again += f" --table {quote(options.table)}"
    if options.soc is not None:
        again += f" --soc {options.soc.name}"
    if options.compare is not None:
        return _compare(value, chip, options, again, console)
    if chip is None:
        raise _which_chip()
    places = chip.srk
    if options.json:
        console.say(json.dumps(as_values(value, chip, places, again), indent=2))
    else:
        show(value, chip, source, again, console)
    return 0


def _which_chip() -> Trouble:
    from digsigd.image.chips import CHIPS

    return Trouble(
        "no chip is given: the SRK fuses of each family are in different places, and burning fuses cannot be undone",
        hint="set --soc to one of: " + ", ".join(chip.name for chip in CHIPS),
        code=2,
    )


def _of_file(path: Path, said: Chip | None) -> tuple[list[FuseValue], Chip | None]:
    """Return the values in a file, and the chip: the one `said`, else the one that the file is certainly for."""
    from digsigd.cli.fuse_words import NoFuseValueError
    from digsigd.cli.inspect.fuses import OtherChipError, chip_of, fuse_values

    try:
        with mapped(path) as data:
            found, marked = fuse_values(data), chip_of(data, said)
    except NoFuseValueError as error:
        raise Trouble(f"{path}: {shown(str(error))}", hint=f"run `digsign inspect {path}` to see what it is") from None
    except OtherChipError as error:
        raise Trouble(f"{path}: {shown(str(error))}", hint="check which chip the boards have", code=2) from None
    return found, said or marked


def _of_machine(options: argparse.Namespace, console: Console) -> tuple[list[FuseValue], str]:
    """Return the fuse values that the signing host has, computed from its tables. Raises `Trouble`."""
    from digsigd.cli.inspect.fuses import FuseValue
    from digsigd.cli.server import ask_server
    from digsigd.client._internal.settings import from_options
    from digsigd.hab import FormatError, SrkTable

    settings = from_options(options, os.environ)
    machine = settings.machine
    if machine is None:
        raise Trouble("no keys are given", hint="pass FILE or --machine M", code=2)
    keys = ask_server(settings, lambda client: client.machine_keys(machine), console)
    found = []
    for one in keys.srk_tables:
        try:
            table = SrkTable.parse(one.data)
        except FormatError as error:
            raise Trouble(f"the host's SRK table {shown(one.name)} is damaged: {error}") from None
        if table.fuse_value != one.fuse_value:
            raise Trouble(
                f"the host's SRK table {shown(one.name)} has the fuse value {table.fuse_value.hex()}, but the host says"
                f" {one.fuse_value.hex()}",
                hint="do not burn anything; ask the operator of the host to check its keys",
            )
        found.append(FuseValue(one.name, table.fuse_value, table))
    if not found:
        raise Trouble(f"the host has no SRK table for {machine}")
    return found, f"--machine {machine}"


def _chosen(found: list[FuseValue], name: str | None, source: str) -> FuseValue:
    """Return the only value, or the one called `name`. Raises `Trouble`."""
    if name is not None:
        named = [one for one in found if name in {one.of, one.of.rpartition("/")[2]}]
        if not named:
            raise Trouble(f"{source} has no SRK table {name!r}", hint=f"it has {_listed(found)}")
        found = named
    if len({one.value for one in found}) > 1:
        raise Trouble(f"{source} has several SRK tables", hint=f"set --table to one of: {_listed(found)}")
    return found[0]


def _listed(found: list[FuseValue]) -> str:
    return ", ".join(f"{shown(one.of)!r} ({one.value.hex()[:16]}...)" for one in found)


def _compare(value: FuseValue, chip: Chip | None, options: argparse.Namespace, source: str, console: Console) -> int:
    """Print whether the other value is the same, word by word. Return the exit code."""
    from digsigd.image.chips import Unconfirmed

    other = _other(options.compare, chip)
    same = other == value.value
    confirmed = chip is not None and not isinstance(chip.srk_cell, Unconfirmed)
    places = chip.srk if chip is not None and confirmed else None
    words = list(enumerate(zip(value.words, struct.unpack("<8I", other), strict=True)))
    if options.json:
        rows = [
            {**place_values(number, places), "wanted": f"0x{want:X}", "found": f"0x{has:X}"}
            for number, (want, has) in words
        ]
        values = {
            "source": source,
            "fuse_value": value.value.hex(),
            "compared": other.hex(),
            "same": same,
            "words": rows,
        }
        console.say(json.dumps(values, indent=2))
        return 0 if same else 1
    if same:
        console.say(console.coloured(f"The same: {value.value.hex()}", "good"))
        return 0
    once = chip is not None and chip.written_once
    columns = tuple(place_values(0, places))
    console.table(
        (*columns, "wanted", "found", ""),
        [
            (*map(str, place_values(number, places).values()), f"0x{want:X}", f"0x{has:X}", _word(want, has, once))
            for number, (want, has) in words
        ],
    )
    console.say()
    if not any(other):
        console.say("Nothing is burnt yet.")
    elif any(_is_lost(want, has, once) for _, (want, has) in words):
        why = "" if any(has & ~want for _, (want, has) in words) else ", or words that were burnt only in part"
        console.say(console.coloured(f"Not the same: these are different keys{why}.", "bad"))
    else:
        console.say("Not all bits are burnt yet; those that are burnt belong to these keys.")
    return 1


def _is_lost(want: int, has: int, once: bool) -> bool:
    """Return whether burning can no longer make the word right: bits stay set, words with ECC are burnt once."""
    return bool(has & ~want) or (once and has != 0 and has != want)


def _word(want: int, has: int, once: bool) -> str:
    if want == has:
        return "the same"
    if has & ~want:
        return "has burnt bits that must be 0"
    if not has:
        return "not burnt"
    return "burnt in part, cannot be burnt again" if once else "burnt in part"


def _other(text: str, chip: Chip | None) -> bytes:
    from digsigd.cli.fuse_words import NoFuseValueError, written_value
    from digsigd.cli.inspect.fuses import fuse_file, fuse_values

    path = Path(text)
    try:
        if not text or not _is_there(path):
            return written_value(text, chip)
        with mapped(path) as data:
            is_fuses = len(data) <= _LARGEST_FUSES and fuse_file(data[:]) is not None
            if not is_fuses and (written := _text(data[: 64 << 10])) is not None:
                return written_value(written, chip)
            values = fuse_values(data)
    except NoFuseValueError as error:
        raise Trouble(f"--compare {shown(text)}: {shown(str(error))}") from None
    if len({one.value for one in values}) > 1:
        raise Trouble(f"--compare {shown(text)}: several SRK tables found: {_listed(values)}")
    return values[0].value


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # an invalid file name
        return False


def _text(data: bytes) -> str | None:
    """Return the data as text, such as the log of a terminal; None if they are not text."""
    return None if b"\0" in data or data[:1] >= b"\x80" else data.decode("ascii", "replace")
