"""Which family of chips an image is for, by its IVT and by what stands before that."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.chips import find
from digsigd.image.detect import plan_kind
from digsigd.image.errors import ImageError
from digsigd.image.options import Options
from digsigd.image.regions import RegionMap
from tests.helpers import golden_kinds as kinds
from tests.image.kinds_judged import at, planned
from tests.image.test_rom_header import OWN, Words


def is_8m(data: bytes, chip: str | None) -> bool:
    """Whether it is left to what knows i.MX 8M."""
    try:
        return plan_kind(RegionMap(data), Options(chip=find(chip) if chip else None)) is None
    except ImageError:
        return False


@pytest.mark.parametrize("place", [0, 0x400, 0x1000])
def test_images_for_i_mx_8m_are_told_by_their_version_and_how_near_the_code_is(place: int) -> None:
    """A chip of another family that the user says counts for the first, firmware for HDMI for either."""
    for distance in (0x40, 0xFC, 0xFF, 0x100, 0x101, 0x104, 0x1000):
        for version in (0x40, 0x41, 0x42):
            for plugin in (0, 2):
                for chip in (None, "imx6ul", "imx7d", "imx8mm", "imx8mp"):
                    data = at(
                        bytes(Words(entry=OWN + distance, plugin=plugin, place=place).made()),
                        place + 3,
                        bytes([version]),
                    )
                    near = distance < 0x100
                    other = chip in {"imx6ul", "imx7d"} and not near
                    expected = plugin == 2 or (not other and (near or version == 0x41))
                    assert is_8m(data, chip) is expected, f"{distance:#x} {version:#x} {plugin} {chip}"


def test_the_configuration_of_the_flash_is_told_by_its_tag() -> None:
    """FlexSPI's first, QSPI's last; as U-Boot writes it or as imx-mkimage does."""
    image = kinds.imximage(boot_from="qspi")
    for place, tag, name in (
        (0, b"FCFB", "FlexSPI"), (0x400, b"FCFB", "FlexSPI"),
        (0x5FC, struct.pack("<I", 0xC0FFEE01), "QSPI"), (0x5FC, struct.pack(">I", 0xC0FFEE01), "QSPI"),
    ):  # fmt: skip
        assert planned(at(bytes(0x1000), place, tag) + image).layout == f"image with an IVT, {name}"
        for other in (place + 1, place + 4, place - 1 if place else 8):
            assert name not in kind_of(at(bytes(0x1000), other, tag) + image)
        assert name not in kind_of(at(bytes(0x1000), place, tag[:3] + bytes([tag[3] ^ 1])) + image)


def kind_of(data: bytes) -> str:
    """What it is called; nothing where it is not known."""
    try:
        return planned(data).layout
    except ImageError:
        return ""


def test_an_spl_for_nand_has_nothing_else_before_its_ivt() -> None:
    """Between its marker and 0x400; else that is no marker."""
    spl = kinds.nand_spl()
    assert planned(spl).layout == "image with an IVT, NAND"
    for place in (0x08, 0x200, 0x3FF):
        assert planned(at(spl, place, b"\x13")).layout == "image with an IVT, other data in front"


def test_other_data_may_stand_in_front_of_an_ivt_for_sd() -> None:
    """Of which the boot data say that it is for SD; the ROM does not look at them."""
    for place in (0, 1, 0x3FF):
        assert planned(at(kinds.nand_u_boot(), place, b"\x13")).layout == "image with an IVT, other data in front"
    for start in (OWN, OWN - 0x100, OWN - 0x1000):
        data = bytes(Words(place=0x400, start=start).made())
        assert plan_kind(RegionMap(data), Options(chip=find("imx6ul"))) is not None
        assert plan_kind(RegionMap(at(data, 0, b"\x13")), Options(chip=find("imx6ul"))) is None
    for place in (0x400, 0x1000):
        data = at(bytes(Words(place=place, start=OWN - place).made()), 0, b"\x13")
        assert (plan_kind(RegionMap(data), Options(chip=find("imx6ul"))) is not None) is (place == 0x400)
