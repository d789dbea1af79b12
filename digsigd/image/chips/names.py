"""Find chips by the names that people, tools and device trees use."""

from __future__ import annotations

import re

from digsigd.image.chips.model import AmbiguousChipError, Chip, ChipError
from digsigd.image.chips.table import CHIPS

_LONGEST_SHOWN = 64
_BLANKS = re.compile(r"[\s._,/-]+")
# i.MX 6ULL, MX6ULL, MCIMX6ULL; MIMXRT1064 and MIMX8MM of NXP's part numbers; fsl,imx6ull of device trees.
_MAKER = re.compile(r"^(?:fsl|nxp|freescale)(?=.)")
_LINE = re.compile(r"^(?:(?:mc|m)?i?mx|vybrid)(?=.)")
# Letters for temperature, package and others, which follow the number in NXP's part numbers of RT.
_RT_PART = re.compile(r"(rt1[0-9]{3})[a-z][0-9a-z]{1,7}")
# NXP's and U-Boot's names for several chips at once.
_GROUPS = {
    "6qdl": ("imx6q", "imx6d", "imx6dl", "imx6s"),
    "6dq": ("imx6q", "imx6d"),
    "6dqp": ("imx6qp", "imx6dp"),
    "6sdl": ("imx6s", "imx6dl"),
    "6dls": ("imx6s", "imx6dl"),
    "7sd": ("imx7s", "imx7d"),
    "7ds": ("imx7s", "imx7d"),
    "vybrid": ("vf610", "vf500"),
}
# Of other kinds of secure boot: uboot-imx, doc/imx/ahab; NXP's reference manuals.
_AHAB = re.compile(r"(?:8q|8dx|8ulp|8x|9[0-9]|rt118)")


def without_maker(text: str) -> str:
    """Return the name without what many names have in front: 6ull, 8mm, rt1064, vf610, 93."""
    name = _BLANKS.sub("", text.lower())
    return _LINE.sub("", _MAKER.sub("", name))


def _names_of(chip: Chip) -> tuple[str, ...]:
    every = [without_maker(name) for name in (chip.name, *chip.names)]
    return (*every, chip.short) if chip.short else tuple(every)


_BY_NAME = {name: chip for chip in CHIPS for name in _names_of(chip)}


def find(text: str) -> Chip:
    """Return the chip of this name: "imx6ull", "i.MX 6ULL", "MX6ULL", "6ull"; "mm" is the i.MX 8M Mini.

    Raises `AmbiguousChipError` if several chips have this name, `ChipError` if no chip has it.
    """
    name = without_maker(text)
    part = _RT_PART.fullmatch(name)
    chip = _BY_NAME.get(name) or (_BY_NAME.get(part[1]) if part else None)
    if chip is not None:
        return chip
    shown = f"{text[:_LONGEST_SHOWN]!r}"
    several = _GROUPS.get(name) or tuple(
        chip.name for chip in CHIPS if name and any(one.startswith(name) for one in _names_of(chip))
    )
    if several:
        raise AmbiguousChipError(f"{shown} is the name of several chips", several)
    if _AHAB.match(name):
        raise ChipError(
            f"{shown} is a chip with AHAB, not HAB",
            hint="Its images are AHAB containers, and its fuses are others.",
        )
    raise ChipError(f"{shown} is not a known chip", hint="Known chips: " + ", ".join(chip.name for chip in CHIPS) + ".")


def find_compatible(compatible: tuple[str, ...]) -> Chip | None:
    """Return the first chip that a device tree's `compatible` names ("fsl,imx6ull"), or None."""
    for text in compatible:
        maker, _, name = text.partition(",")
        chip = _BY_NAME.get(without_maker(name)) if maker == "fsl" and name.startswith(("imx", "vf")) else None
        if chip is not None:
            return chip
    return None
