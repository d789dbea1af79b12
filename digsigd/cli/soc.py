"""`--soc`: which chip, by any of its names."""

from __future__ import annotations

import argparse

from digsigd.cli.console import shown
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
