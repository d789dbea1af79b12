"""Cells of the table of chips that say one thing twice, and addresses and numbers as others' sources have them.

Sources: U-Boot, configs/*_defconfig (CONFIG_TEXT_BASE, CONFIG_SPL_TEXT_BASE), include/configs/imx6_spl.h and imx7_spl.h
of v2022.01, CONFIG_IMX_DCD_ADDR; NXP AN4581, appendix F; NXP's list of parts of i.MX RT.
"""

from __future__ import annotations

import re

from digsigd.image.chips import CHIPS, Chip, NotConfirmedError, Unconfirmed, find

QUAD = {"imx6q", "imx6d", "imx6qp", "imx6dp"}
LITE = {"imx6dl", "imx6s"}
SIX = {chip.name for chip in CHIPS if chip.family == "i.MX 6"}
SEVEN = {"imx7d", "imx7s"}


def test_versions_of_hab_are_those_that_are_shown() -> None:
    """The first that is named, and the last; one of two numbers is any that begins with them."""
    for chip in CHIPS:
        if isinstance(chip.hab_cell, Unconfirmed):
            continue
        shown = [tuple(map(int, one.split("."))) for one in re.findall(r"4\.[0-9](?:\.[0-9])?", chip.hab_cell.text)]
        oldest, newest = shown[0], max(shown)
        found = (chip.hab_cell.oldest, chip.hab_cell.newest)
        assert found == ((*oldest, 0, 0)[:3], (*newest, 99)[:3]), chip.name


def entries(chip: Chip) -> tuple[int, ...]:
    """The entry points of SPL and U-Boot; their IVTs are where the tools put them."""
    try:
        u_boot = chip.u_boot
    except NotConfirmedError:
        u_boot = None
    distance = 0x40 if chip.family == "i.MX 8M" else 0xC00
    for one in (*chip.spl, *([u_boot] if u_boot else [])):
        assert one.entry - one.ivt == distance, chip.name
    return (*(one.entry for one in chip.spl), *([u_boot.entry] if u_boot else []))


def test_images_are_loaded_where_u_boot_is_linked_to() -> None:
    """SPL first, then U-Boot; of i.MX 8M, SPL alone has an IVT."""
    for chip in CHIPS:
        expected: tuple[int, ...] = ()
        if chip.name in SIX:
            second = (0x909000,) if chip.name == "imx6ul" else ()
            expected = (0x908000, *second, 0x17800000 if chip.name in QUAD | LITE else 0x87800000)
        elif chip.name in SEVEN:
            expected = (0x912000, 0x87800000)
        elif chip.name == "imx7ulp":
            expected = (0x2F011000, 0x67800000)
        elif chip.family == "i.MX 8M":
            expected = {"mm": (0x7E1000, 0x7E2000), "mn": (0x912000,), "mp": (0x920000,), "mq": (0x7E1000,)}[
                chip.short or ""
            ]
        assert entries(chip) == expected, chip.name


def test_memory_on_the_chip_is_what_the_rom_leaves_to_images() -> None:
    """The IVT of an SPL is in it, and so is the DCD of a host; 7Dual of silicon 1.3 keeps 4 KiB more."""
    for chip in CHIPS:
        last = 0x938000 if chip.name in QUAD else 0x918000 if chip.name in {*LITE, "imx6ul"} else None
        expected = (0x907000, last) if last else (0x910000, 0x946C00) if chip.name in SEVEN else None
        assert chip.ocram == expected, chip.name
        dcd: tuple[int, ...] = (0x910000,) if chip.name in SIX else ()
        dcd = (0x911000, 0x910000) if chip.name in SEVEN else (0x2F010000,) if chip.name == "imx7ulp" else dcd
        assert chip.dcd == dcd, chip.name
        if chip.ocram is not None:
            assert all(chip.ocram[0] <= place < chip.ocram[1] for place in (*chip.dcd, *(one.ivt for one in chip.spl)))


def test_chips_of_i_mx_rt_have_their_flash_and_their_parts() -> None:
    """RT1064 has it in the package; fuses that are written once are those with a code over their words."""
    parts = {
        1010: (1011,), 1020: (1021,), 1040: (1041, 1042, 1043, 1046), 1050: (1051, 1052), 1060: (1061, 1062),
        1160: (1165, 1166), 1170: (1171, 1172, 1173, 1175, 1176),
    }  # fmt: skip
    for number, more in parts.items():
        for one in more:
            assert find(f"MIMXRT{one}").name == f"imxrt{number}"
    for chip in CHIPS:
        if chip.family == "i.MX RT":
            flash = 0x70000000 if chip.name == "imxrt1064" else 0x30000000 if chip.name >= "imxrt11" else 0x60000000
            assert chip.flash == flash
            assert chip.names == tuple(f"imxrt{one}" for one in parts.get(int(chip.name.removeprefix("imxrt")), ()))
        else:
            assert chip.flash is None
        assert chip.written_once is (chip.name in {"imx7ulp", "imxrt1160", "imxrt1170"})


def test_every_chip_has_the_names_that_people_know() -> None:
    """Of i.MX 6, 7 and 8M and Vybrid."""
    for text, name in (
        ("imx6quad", "imx6q"), ("imx6dual", "imx6d"), ("imx6quadplus", "imx6qp"), ("imx6dualplus", "imx6dp"),
        ("imx6duallite", "imx6dl"), ("imx6solo", "imx6s"), ("imx6solox", "imx6sx"), ("imx6sololite", "imx6sl"),
        ("imx6ultralite", "imx6ul"), ("imx7dual", "imx7d"), ("imx7solo", "imx7s"), ("imx8mquad", "imx8mq"),
        ("imx8mmini", "imx8mm"), ("imx8mnano", "imx8mn"), ("imx8mplus", "imx8mp"), ("vf6xx", "vf610"),
        ("vf5xx", "vf500"),
    ):  # fmt: skip
        assert find(text).name == name
