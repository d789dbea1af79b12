"""`digsign verify`: check whether a closed board would boot an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.reports import add_fit_fdt, address, as_values, fuse_value, show_report
from digsigd.cli.soc import add_any_soc_argument, without_containers
from digsigd.client._internal.files import mapped

HELP = """Verify a signed image offline, as the boot ROM and then SPL and U-Boot would: the SRK table against the fuses,
the certificates, the signatures over the commands and over each part, and that a signature covers everything that
the board runs. Of an AHAB image (i.MX 8QM, 8X, 8ULP, 9) every container is verified: the SRK table, a certificate, the
signature, the hashes of its images. The exit code is 0 only if every check passes.
"""
_LARGEST_TABLE = 64 << 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign verify`."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the signed image")
    parser.add_argument(
        "--fuses",
        type=fuse_value,
        metavar="HEX",
        help="the fuse value of the boards: 64 hexadecimal digits, or 128 for AHAB chips with a SHA-512 in the fuses",
    )
    parser.add_argument("--srk-table", type=Path, metavar="FILE", help="the SRK table that the fuses were made from")
    parser.add_argument(
        "--load-address", type=address, metavar="ADDRESS", help="where a kernel or a FIT without an IVT is loaded"
    )
    add_any_soc_argument(parser, "the boards' chip: check that it supports the engine and the keys")
    parser.add_argument(
        "--sdp",
        type=address,
        metavar="ADDRESS",
        help="verify an image for serial download: ADDRESS is where the host writes the DCD (uuu -dcdaddr)",
    )
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        help="the configuration of the FIT, if its configurations load different images",
    )
    add_fit_fdt(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: argparse.Namespace, console: Console) -> int:
    """Verify an image, print the report, and return the exit code: 0 if every check passes. Raises `Trouble`."""
    from digsigd import hab
    from digsigd.cli.ahab_verify import verify_ahab
    from digsigd.client import ImageError, verify_image
    from digsigd.image.ahab_detect import is_ahab
    from digsigd.image.chips import Chip

    with mapped(options.image) as data:
        if is_ahab(data):
            return verify_ahab(data, options, console)
    if options.soc is not None and not isinstance(options.soc, Chip):
        with mapped(options.image) as data:
            raise without_containers(shown(str(options.image)), data, options.soc)
    table = None
    if options.srk_table is not None:
        table = _table(options.srk_table)
        given = hab.SrkTable.parse(table).fuse_value
        if options.fuses is not None and options.fuses != given:
            raise Trouble(f"{options.srk_table} has the fuse value {given.hex()}, which differs from --fuses", code=2)
    try:
        report = verify_image(
            options.image,
            fuse_value=options.fuses,
            srk_table=table,
            soc=options.soc,
            load_address=options.load_address,
            sdp=options.sdp,
            configuration=options.configuration,
            fit_fdt=options.fit_fdt,
        )
    except ImageError as error:
        raise Trouble(f"{options.image}: {shown(error.what)}", hint=shown(error.hint)) from None
    if options.json:
        console.say(json.dumps(as_values(report), indent=2))
    else:
        show_report(report, options.image, console)
        if options.fuses is None and table is None and report.holds:
            console.say("Pass --fuses or --srk-table to check that these are your keys.")
    return 0 if report.holds else 1


def _table(path: Path) -> bytes:
    from digsigd import hab

    with mapped(path) as data:
        contents = data[:_LARGEST_TABLE]
    try:
        hab.SrkTable.parse(contents)
    except hab.HabError as error:
        raise Trouble(f"{path} is not an SRK table: {error}", hint="pass the file SRK_1_2_3_4_table.bin") from None
    return contents
