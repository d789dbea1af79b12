"""The option `--soc`: the chip, by any of its names."""

from __future__ import annotations

import argparse

from digsigd.cli.console import shown
from digsigd.image.chips import Chip, ChipError, find


def chip(text: str) -> Chip:
    """Return the chip with this name. Raises `argparse.ArgumentTypeError` if there is none, or several."""
    try:
        return find(text)
    except ChipError as error:
        raise argparse.ArgumentTypeError(f"{shown(error.what)}. {shown(error.hint)}") from None


def add_soc_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option `--soc CHIP` with `text` as its help."""
    parser.add_argument("--soc", type=chip, metavar="CHIP", help=text)
