"""`digsign verify` of AHAB images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.ahab_reports import ahab_values, show_ahab_report
from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.soc import wrong_kind
from digsigd.client._internal.files import mapped

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip, SrkArray, SrkTable
    from digsigd.image.model import Buffer

_LARGEST_TABLE = 1 << 16
# Options that say something of an image for HAB.
_HAB_OPTIONS = {
    "load_address": "--load-address",
    "sdp": "--sdp",
    "configuration": "--configuration",
}


def verify_ahab(data: Buffer, options: argparse.Namespace, console: Console) -> int:
    """Verify an AHAB image, print the report, and return the exit code: 0 if every check passes. Raises `Trouble`."""
    from digsigd.ahab import AhabChip
    from digsigd.image.ahab_plan import plan_ahab
    from digsigd.image.ahab_report import report_ahab
    from digsigd.image.errors import ImageError

    chip = options.soc
    if chip is not None and not isinstance(chip, AhabChip):
        raise wrong_kind(str(options.image), chip)
    given = [text for name, text in _HAB_OPTIONS.items() if getattr(options, name) is not None]
    given += ["--fit-fdt"] if options.fit_fdt != "auto" else []
    if given:
        raise Trouble(
            f"{options.image} is an AHAB image, but {given[0]} is for HAB images", hint="Leave it out.", code=2
        )
    if chip is not None and options.fuses is not None:
        _check_length(options.fuses, chip)
    raw = None
    if options.srk_table is not None:
        raw, table = read_ahab_table(options.srk_table)
        values = {table.hash("sha256"), table.hash("sha512")}
        if options.fuses is not None and options.fuses not in values:
            raise Trouble(
                f"{options.srk_table} has the fuse values {', '.join(sorted(one.hex() for one in values))}, which"
                " differ from --fuses",
                code=2,
            )
    try:
        report = report_ahab(data, plan_ahab(data, chip), fuse_value=options.fuses, srk_table=raw)
    except ImageError as error:
        raise Trouble(f"{options.image}: {shown(error.what)}", hint=shown(error.hint)) from None
    if options.json:
        console.say(json.dumps(ahab_values(report), indent=2))
    else:
        show_ahab_report(report, options.image, console)
        if options.fuses is None and raw is None and report.holds:
            console.say("Pass --fuses or --srk-table to check that these are your keys.")
        if chip is None and report.holds:
            console.say("Pass --soc to check that the chip supports these keys.")
    return 0 if report.holds else 1


def _check_length(fuses: bytes, chip: AhabChip) -> None:
    """Check that the chip's fuses have a value of this length. Raises `Trouble`."""
    from digsigd.ahab import NotConfirmed

    try:
        digits = {"sha256": 64, "sha512": 128}[chip.fuse_hash]
    except NotConfirmed:
        return
    if 2 * len(fuses) != digits:
        raise Trouble(
            f"--fuses has {2 * len(fuses)} digits, but {chip.title} has a {chip.fuse_hash} in its fuses:"
            f" {digits} digits",
            hint="`digsign fuses --soc` prints the value for a chip",
        )


def read_ahab_table(path: Path) -> tuple[bytes, SrkTable | SrkArray]:
    """Return an SRK table of AHAB from a file: its bytes, and what they are. Raises `Trouble`."""
    from digsigd import ahab

    with mapped(path) as data:
        contents = data[: _LARGEST_TABLE + 1]
    try:
        return contents, ahab.parse_table(contents)
    except ahab.FormatError as error:
        raise Trouble(
            f"{path} is not an SRK table of AHAB: {shown(error.summary())}",
            hint="pass the file SRK_1_2_3_4_table.bin that srktool -a made",
        ) from None
