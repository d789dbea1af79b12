"""`digsign fuses`: the words to burn for an SRK table, and whether others are the same."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.files import mapped
from digsigd.client.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.cli.inspect_fuses import FuseValue

HELP = """Show what to burn into the SRK fuses of an i.MX 8M (Mini, Nano, Plus, Quad), as commands for U-Boot.

FILE is an SRK table, a key tarball, a fuse file, a CSF blob or a signed image; or say --machine M, and the signing
host is asked. Nothing is burnt by this command.

--compare takes what a board or another file has: 64 hexadecimal digits in the order of the fuse file, eight words,
any of the files above, or a file with what U-Boot showed for `fuse read 6 0 4; fuse read 7 0 4`. The exit code is 1
where it is not the same.
"""
_WARNING = """\
Fuses cannot be unburnt. A board with wrong words in them, once closed, never boots again.
"""
# mx8m_secure_boot.txt, 1.8 and 1.9. That a ROM may not look at the fuses of an open board: NXP AN4581, "SRK HASH and
# HAB events".
_BEFORE = """\
Before:
  Boot an image signed with these keys on an open board: `hab_status` must show no HAB events.
  Compare that very image with these words: digsign fuses {source} --compare IMAGE
"""
_AFTER = """\
After:
  Save what U-Boot shows for `fuse read 6 0 4; fuse read 7 0 4`, and compare: digsign fuses {source} --compare SAVED
  Boot the signed image again: still no HAB events. (On an open board some ROMs do not look at these fuses, so
  no events are not enough: compare the words.)
Closing the board is another step and the last one: fuse SEC_CONFIG[1], bit 25 of bank 1 word 3. From then on it boots
signed images only. No command for it is shown here: see NXP's mx8m_secure_boot.txt, 1.9, when all the above holds.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `digsign fuses` takes."""
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the keys, by any file that has their table")
    parser.add_argument("--table", metavar="NAME", help="which SRK table, where there are several")
    parser.add_argument("--compare", metavar="VALUE", help="what has to be the same: digits, words, or a file")
    parser.add_argument("--json", action="store_true", help="the same for machines")
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Show the words, or compare them."""
    if options.file is not None:
        if options.machine is not None:
            raise Trouble("FILE and --machine: which one?", hint="say one of them", code=2)
        found = _of_file(options.file)
        source = quote(str(options.file))
    else:
        found, source = _of_machine(options, console)
    value = _chosen(found, options.table, source)
    if options.table is not None:
        source += f" --table {quote(options.table)}"
    if options.compare is not None:
        return _compare(value, options, source, console)
    if options.json:
        console.say(json.dumps(_as_values(value, source), indent=2))
    else:
        _show(value, source, console)
    return 0


def _of_file(path: Path) -> list[FuseValue]:
    from digsigd.cli.inspect_fuses import NoFuseValueError, fuse_values

    try:
        with mapped(path) as data:
            return fuse_values(data)
    except NoFuseValueError as error:
        raise Trouble(f"{path}: {shown(str(error))}", hint=f"`digsign inspect {path}` shows what it is") from None


def _of_machine(options: argparse.Namespace, console: Console) -> tuple[list[FuseValue], str]:
    """What the signing host has; its word for a fuse value is not taken, the tables are."""
    from digsigd.cli.inspect_fuses import FuseValue
    from digsigd.cli.server import ask_server
    from digsigd.client.settings import ClientSettingsError, from_options
    from digsigd.hab import FormatError, SrkTable

    try:
        settings = from_options(options, os.environ)
    except ClientSettingsError as error:
        raise Trouble(error.what, hint=error.hint, code=2) from None
    machine = settings.machine
    if machine is None:
        raise Trouble("whose fuses?", hint="say a FILE, or --machine M", code=2)
    keys = ask_server(settings, lambda client: client.machine_keys(machine), console)
    found = []
    for one in keys.srk_tables:
        try:
            table = SrkTable.parse(one.data)
        except FormatError as error:
            raise Trouble(f"the host's SRK table {shown(one.name)} is damaged: {error}") from None
        if table.fuse_value != one.fuse_value:
            raise Trouble(
                f"the host's SRK table {shown(one.name)} has the fuse value {table.fuse_value.hex()}, and the host says"
                f" {one.fuse_value.hex()}",
                hint="burn nothing; have whoever runs the host look at it",
            )
        found.append(FuseValue(one.name, table.fuse_value, table))
    if not found:
        raise Trouble(f"the host has no SRK table for {machine}")
    return found, f"--machine {machine}"


def _chosen(found: list[FuseValue], name: str | None, source: str) -> FuseValue:
    """The only value, or the one by its name."""
    if name is not None:
        named = [one for one in found if name in {one.of, one.of.rpartition("/")[2]}]
        if not named:
            raise Trouble(f"{source} has no SRK table {name!r}", hint=f"it has {_listed(found)}")
        found = named
    if len({one.value for one in found}) > 1:
        raise Trouble(f"{source} has several SRK tables", hint=f"say --table with one of: {_listed(found)}")
    return found[0]


def _listed(found: list[FuseValue]) -> str:
    return ", ".join(f"{shown(one.of)!r} ({one.value.hex()[:16]}...)" for one in found)


def _commands(value: FuseValue) -> list[str]:
    """For U-Boot's prompt; without -y it asks before each."""
    from digsigd.cli.inspect_fuses import place

    # As hexdump shows them in mx8m_secure_boot.txt, 1.7: without leading zeros.
    return ["fuse prog {} {} 0x{:X}".format(*place(number), word) for number, word in enumerate(value.words)]


def _as_values(value: FuseValue, source: str) -> dict[str, object]:
    from digsigd.cli.inspect_fuses import place

    return {
        "source": source,
        "of": value.of,
        "fuse_value": value.value.hex(),
        "words": [
            {"bank": place(number)[0], "word": place(number)[1], "value": f"0x{word:X}"}
            for number, word in enumerate(value.words)
        ],
        "commands": _commands(value),
        "warning": " ".join(_WARNING.split()),
    }


def _show(value: FuseValue, source: str, console: Console) -> None:
    from digsigd.cli.inspect_keys import key_kind, weaknesses

    console.say(f"{shown(value.of)} of {shown(source)}")
    if value.table is not None:
        for number, record in enumerate(value.table.records, 1):
            kind = "only a hash" if record.key is None else key_kind(record.key)
            flag = "" if record.key is None else ", CA flag" if record.ca else ", no CA flag"
            console.say(f"  SRK {number}  {kind}{flag}")
        for text in weaknesses(value.table):
            console.say(console.coloured(f"  {shown(text)}", "bad"))
    console.say(f"fuse value {value.value.hex()}")
    console.say()
    console.say(console.coloured(_WARNING.rstrip(), "bad"))
    console.say()
    _say(console, _BEFORE.format(source=shown(source)))
    console.say("Then, in U-Boot, which asks before it burns each:")
    for command in _commands(value):
        console.say(f"  {command}")
    _say(console, _AFTER.format(source=shown(source)))


def _say(console: Console, text: str) -> None:
    for line in text.splitlines():
        console.say(line)


def _compare(value: FuseValue, options: argparse.Namespace, source: str, console: Console) -> int:
    """Whether the other one is the same, word by word."""
    import struct

    from digsigd.cli.inspect_fuses import place

    other = _other(options.compare)
    same = other == value.value
    words = list(enumerate(zip(value.words, struct.unpack("<8I", other), strict=True)))
    if options.json:
        rows = [
            {"bank": place(number)[0], "word": place(number)[1], "wanted": f"0x{want:X}", "found": f"0x{has:X}"}
            for number, (want, has) in words
        ]
        told = {"source": source, "fuse_value": value.value.hex(), "compared": other.hex(), "same": same, "words": rows}
        console.say(json.dumps(told, indent=2))
        return 0 if same else 1
    if same:
        console.say(console.coloured(f"The same: {value.value.hex()}", "good"))
        return 0
    console.table(
        ("bank", "word", "wanted", "found", ""),
        [(*map(str, place(number)), f"0x{want:X}", f"0x{has:X}", _word(want, has)) for number, (want, has) in words],
    )
    console.say()
    if not any(other):
        console.say("Nothing is burnt yet.")
    elif any(has & ~want for _, (want, has) in words):
        console.say(console.coloured("Not the same: these are other keys.", "bad"))
    else:
        console.say("Not all of it is burnt yet; what is, belongs to these keys.")
    return 1


def _word(want: int, has: int) -> str:
    if want == has:
        return "the same"
    # Burning sets bits, and clears none.
    return "has bits that cannot be unburnt" if has & ~want else "not burnt" if not has else "burnt in part"


def _other(text: str) -> bytes:
    from digsigd.cli.inspect_fuses import NoFuseValueError, fuse_values, written_value

    path = Path(text)
    try:
        if not text or not _is_there(path):
            return written_value(text)
        with mapped(path) as data:
            if len(data) != 32 and (written := _text(data[: 64 << 10])) is not None:
                return written_value(written)
            values = fuse_values(data)
    except NoFuseValueError as error:
        raise Trouble(f"--compare {shown(text)}: {shown(str(error))}") from None
    if len({one.value for one in values}) > 1:
        raise Trouble(f"--compare {shown(text)}: it has several SRK tables: {_listed(values)}")
    return values[0].value


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _text(data: bytes) -> str | None:
    """A text, as a terminal's log is one; None for what is none."""
    return None if b"\0" in data or data[:1] >= b"\x80" else data.decode("ascii", "replace")
