"""The option `--soc`: the chip, by any of its names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from digsigd.cli.console import Trouble, shown
from digsigd.image.chips import Chip, ChipError, find

if TYPE_CHECKING:
    from digsigd.image.chips.every import AnyChip
    from digsigd.image.model import Buffer


def chip(text: str) -> Chip:
    """Return the chip with HAB4 of this name. Raises `argparse.ArgumentTypeError` if there is none, or several."""
    try:
        return find(text)
    except ChipError as error:
        raise argparse.ArgumentTypeError(f"{shown(error.what)}. {shown(error.hint)}") from None


def any_chip(text: str, *, certain: bool = False) -> AnyChip:
    """Return the chip with HAB4 or AHAB of this name. Raises `argparse.ArgumentTypeError`."""
    from digsigd.image.chips.every import find_any

    try:
        return find_any(text, certain=certain)
    except ChipError as error:
        raise argparse.ArgumentTypeError(f"{shown(error.what)}. {shown(error.hint)}") from None


def certain_chip(text: str) -> AnyChip:
    """Return the chip of this name, which must say enough to burn its fuses. Raises `argparse.ArgumentTypeError`."""
    return any_chip(text, certain=True)


def add_soc_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option `--soc CHIP` for chips with HAB4, with `text` as its help."""
    parser.add_argument("--soc", type=chip, metavar="CHIP", help=text)


def add_any_soc_argument(parser: argparse.ArgumentParser, text: str, *, certain: bool = False) -> None:
    """Add the option `--soc CHIP` for chips with HAB4 or AHAB; `certain` names say enough to burn fuses."""
    parser.add_argument("--soc", type=certain_chip if certain else any_chip, metavar="CHIP", help=text)


def wrong_kind(what: str, chip: AnyChip) -> Trouble:
    """Return the error for a file of one kind of secure boot, and a chip of the other kind."""
    kind, other = ("HAB4", "AHAB") if isinstance(chip, Chip) else ("AHAB", "HAB4")
    return Trouble(
        f"{what} is for chips with {other}, but --soc names the {chip.title}, a chip with {kind}",
        hint="check which chip the boards have, and which image was built for it",
        code=2,
    )


def without_containers(what: str, data: Buffer, chip: AnyChip) -> Trouble:
    """Return the error for a file without AHAB containers, and a chip that has AHAB."""
    from digsigd.image.errors import ImageError
    from digsigd.image.plan import plan

    try:
        plan(data)
    except ImageError:
        return Trouble(
            f"{what} has no AHAB container, which images for the {chip.title} have",
            hint="pass flash.bin (imx-boot) or a container, as imx-mkimage or U-Boot's binman wrote it; for an image of"
            " a chip with HAB4, pass the name of that chip with --soc",
        )
    return wrong_kind(what, chip)
