"""`digsign fuses`: show the words to burn for an SRK table, or compare them with others."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.fuse_compare import chosen, compare, listed
from digsigd.cli.fuse_texts import as_values, show
from digsigd.cli.soc import add_any_soc_argument
from digsigd.client._internal.files import mapped
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.cli.inspect.ahab_fuses import FoundTable
    from digsigd.cli.inspect.fuses import FuseValue
    from digsigd.client import MachineKeys
    from digsigd.image.chips import Chip

# srktool's fuse files have 32 or 128 bytes.
_LARGEST_FUSES = 128

HELP = """Show what to burn into the SRK fuses of a chip, as commands for U-Boot, for i.MX RT for blhost, and for chips
with AHAB and an ELE also for SPSDK's nxpele.

FILE is an SRK table, a key tarball, a fuse file, a CSF blob or a signed image. With --machine M instead of FILE, the
signing host is asked. --soc selects the chip: the SRK fuses are in different places in each family. This command does
not burn anything.

--compare takes the fuse value of a board or of another file: 64 hexadecimal digits in the order of the fuse file,
eight words, any of the files above, or a file with the output of U-Boot's `fuse read`, blhost's `efuse-read-once` or
nxpele's `read-common-fuse`. Chips whose fuses have a SHA-512 have 128 digits and sixteen words; of two SRK tables
(ML-DSA), the second is compared if its value is there. The exit code is 1 if the values differ. --compare needs --soc
only for output of these tools.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign fuses`."""
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a file that contains the SRK table or the fuse value"
    )
    add_any_soc_argument(parser, "the chip of the boards, such as imx6ull, imx8mm, imxrt1064 or imx93", certain=True)
    parser.add_argument("--table", metavar="NAME", help="the SRK table to use, if there are several")
    parser.add_argument("--compare", metavar="VALUE", help="compare with this fuse value: digits, words, or a file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Show or compare the words, and return the exit code. Raises `Trouble`, `ClientError`, `NotConfirmedError`."""
    if _is_ahab(options):
        return _run_ahab(options, console)
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
    value = chosen(found, options.table, source)
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


def _is_ahab(options: argparse.Namespace) -> bool:
    """Return whether the chip or, without one, the file is of AHAB."""
    from digsigd.image.chips import Chip

    if options.soc is not None:
        return not isinstance(options.soc, Chip)
    if options.file is None:
        return False
    from digsigd.cli.inspect.ahab_fuses import has_ahab_tables

    with mapped(options.file) as data:
        return has_ahab_tables(data)


def _run_ahab(options: argparse.Namespace, console: Console) -> int:
    from digsigd.cli.ahab_fuses import of_file, show_or_compare

    if options.file is None:
        found, source = _of_ahab_machine(options, console)
    elif options.machine is not None:
        raise Trouble("both FILE and --machine are given", hint="pass only one of them", code=2)
    else:
        found, source = of_file(options.file), quote(str(options.file))
    again = source if options.table is None else f"{source} --table {quote(options.table)}"
    return show_or_compare(found, options.soc, source, again, options, console)


def _which_chip() -> Trouble:
    from digsigd.image.chips import CHIPS

    return Trouble(
        "no chip is given: the SRK fuses of each family are in different places, and burning fuses cannot be undone",
        hint=f"set --soc to one of: {', '.join(chip.name for chip in CHIPS)}; for AHAB {_ahab_names()}",
        code=2,
    )


def _ahab_names() -> str:
    from digsigd.ahab import CHIPS
    from digsigd.cli.ahab_fuse_texts import certain_name

    return ", ".join(certain_name(chip) for chip in CHIPS)


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


def _asked(options: argparse.Namespace, console: Console) -> MachineKeys:
    """Return the public part of the machine's keys from the signing host. Raises `Trouble`, `ClientError`."""
    from digsigd.cli.server import ask_server
    from digsigd.client._internal.settings import from_options

    settings = from_options(options, os.environ)
    machine = settings.machine
    if machine is None:
        raise Trouble("no keys are given", hint="pass FILE or --machine M", code=2)
    return ask_server(settings, lambda client: client.machine_keys(machine), console)


def _of_ahab_machine(options: argparse.Namespace, console: Console) -> tuple[list[FoundTable], str]:
    """Return the tables of AHAB that the signing host has; their values are computed here. Raises `Trouble`."""
    from digsigd import ahab
    from digsigd.cli.inspect.ahab_fuses import FoundTable

    keys = _asked(options, console)
    found = []
    for one in keys.ahab_tables:
        try:
            table = ahab.parse_table(one.data)
        except ahab.FormatError as error:
            raise Trouble(f"the host's SRK table {shown(one.name)} is damaged: {error.summary()}") from None
        if (table.hash("sha256"), table.hash("sha512")) != (one.sha256, one.sha512):
            raise Trouble(
                f"the host's SRK table {shown(one.name)} has other hashes than the host says",
                hint="do not burn anything; ask the operator of the host to check its keys",
            )
        found.append(FoundTable(one.name, table))
    if not found:
        raise Trouble(
            f"the host has no SRK table of AHAB for {keys.machine}",
            hint="check the machine's name, and --soc" if keys.srk_tables else "",
        )
    return found, f"--machine {keys.machine}"


def _of_machine(options: argparse.Namespace, console: Console) -> tuple[list[FuseValue], str]:
    """Return the fuse values that the signing host has, computed from its tables. Raises `Trouble`."""
    from digsigd.cli.inspect.fuses import FuseValue
    from digsigd.hab import FormatError, SrkTable

    keys = _asked(options, console)
    machine = keys.machine
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
    if not found and keys.ahab_tables:
        raise Trouble(
            f"the host has SRK tables of AHAB for {machine}, and none of HAB",
            hint=f"set --soc to the boards' chip, one of: {_ahab_names()}",
            code=2,
        )
    if not found:
        raise Trouble(f"the host has no SRK table for {machine}")
    return found, f"--machine {machine}"


def _compare(value: FuseValue, chip: Chip | None, options: argparse.Namespace, source: str, console: Console) -> int:
    """Print whether the other value is the same, word by word. Return the exit code."""
    from digsigd.image.chips import Unconfirmed

    other = _other(options.compare, chip)
    confirmed = chip is not None and not isinstance(chip.srk_cell, Unconfirmed)
    places = chip.srk if chip is not None and confirmed else None
    once = chip is not None and chip.written_once
    return compare(value.value, other, places, source, console, once=once, as_json=options.json)


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
        raise Trouble(f"--compare {shown(text)}: several SRK tables found: {listed(values)}")
    return values[0].value


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # an invalid file name
        return False


def _text(data: bytes) -> str | None:
    """Return the data as text, such as the log of a terminal; None if they are not text."""
    return None if b"\0" in data or data[:1] >= b"\x80" else data.decode("ascii", "replace")
