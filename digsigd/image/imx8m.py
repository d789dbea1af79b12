"""The chips of the i.MX 8M family, told apart by the load addresses in images.

Sources: NXP imx-mkimage, iMX8M/soc.mak (SPL_LOAD_ADDR, SPL_FSPI_LOAD_ADDR, ATF_LOAD_ADDR); U-Boot,
arch/arm/dts/imx8m?-u-boot.dtsi (entries of ATF and SPL).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Soc:
    """One chip, with the entry points of SPL and the load address of ATF in memory."""

    name: str
    title: str
    spl: tuple[int, ...]
    atf: int


SOCS = (
    Soc("mm", "i.MX 8M Mini", (0x7E1000, 0x7E2000), 0x920000),
    Soc("mn", "i.MX 8M Nano", (0x912000,), 0x960000),
    Soc("mp", "i.MX 8M Plus", (0x920000,), 0x970000),
    Soc("mq", "i.MX 8M Quad", (0x7E1000,), 0x910000),
)


def find(*, spl: int | None = None, atf: int | None = None, hdmi: bool = False) -> str | None:
    """Return the name of the only chip that fits these load addresses; None if no chip or several fit."""
    if spl is None and atf is None:
        return None
    fitting = [
        soc.name
        for soc in SOCS
        if (spl is None or spl in soc.spl) and (atf is None or atf == soc.atf) and (not hdmi or soc.name == "mq")
    ]
    return fitting[0] if len(fitting) == 1 else None
