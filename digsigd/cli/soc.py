"""The option `--soc`: the chip, by any of its names, and the keys that it supports."""

from __future__ import annotations

import argparse

from digsigd.cli.console import Trouble, shown
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


def check_keys(chip: Chip, *, ecdsa: bool, fast_auth: bool) -> None:
    """Check that the chip's ROM supports the keys. Raises `Trouble` if it does not, or if that is not known."""
    from digsigd.client._internal.image_signing.checks import check_keys

    try:
        check_keys(chip, ecdsa=ecdsa, fast_auth=fast_auth)
    except ChipError as error:
        raise Trouble(error.what, hint=error.hint) from None
