"""`--soc`: which chip, by any of its names, and which keys it takes."""

from __future__ import annotations

import argparse

from digsigd.cli.console import Trouble, shown
from digsigd.image.chips import Chip, ChipError, find


def chip(text: str) -> Chip:
    """For argparse: the chip of this name. It asks back where the name is that of several."""
    try:
        return find(text)
    except ChipError as error:
        raise argparse.ArgumentTypeError(f"{shown(error.what)}. {shown(error.hint)}") from None


def add_soc_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """`--soc CHIP`, explained by `text`."""
    parser.add_argument("--soc", type=chip, metavar="CHIP", help=text)


def check_keys(chip: Chip, *, ecdsa: bool, fast_auth: bool) -> None:
    """See that the chip's ROM takes such keys. Raises `Trouble` where it does not, `NotConfirmedError` if unknown."""
    if ecdsa and not chip.ecdsa:
        raise Trouble(
            f"the ROM of {chip.title} takes no ECDSA keys: it has HAB {chip.hab.text}, and they need 4.5",
            hint="make RSA keys",
        )
    if fast_auth and not chip.nocak:
        raise Trouble(
            f"not every {chip.title} takes SRKs that sign images themselves (fast authentication): it has HAB"
            f" {chip.hab.text}, and that needs 4.1.2",
            hint="leave out --fast-auth; for silicon that is new enough, and that alone, leave out --soc instead",
        )
