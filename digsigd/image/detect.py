"""Detect the kind of images for chips other than i.MX 8M, and of tools other than U-Boot's and imx-mkimage."""

from __future__ import annotations

from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt
from digsigd.image import barebox, imx67, kernel32, rt
from digsigd.image.chips import Chip
from digsigd.image.errors import ImageError
from digsigd.image.options import Kind, Options
from digsigd.image.regions import RegionMap, first_used
from digsigd.image.rom import Header, peek

# uboot-imx, cmd_qspihdr.c; imx-mkimage, scripts/fspi_packer.sh; SPSDK, bootable_image: (place of a tag, tag, what it is
# the tag of). The IVT is at 0x1000.
_CONFIGURED = (
    (0, b"FCFB", "FlexSPI"),
    (0x400, b"FCFB", "FlexSPI"),
    (0x5FC, b"\x01\xee\xff\xc0", "QSPI"),
    (0x5FC, b"\xc0\xff\xee\x01", "QSPI"),
)
_BEHIND_CONFIGURATION = 0x1000
# U-Boot, arch/arm/mach-imx/Makefile (cmd_u-boot-nand-spl_imx).
_NAND = b"\0\0\0\0FCB \x01"
_SD, _DISK, _OTHER = 0x400, b"\x55\xaa", "other data in front"
# imx-mkimage puts the IVT of i.MX 8M 0x20 to 0x40 before the code; imximage.c puts at least a DCD between them.
_LEAST_TO_ENTRY = 0x100
_VERSION_8M = 0x41
# mkimage_imx8.c, HDMI_IMAGE_FLAG_MASK.
_HDMI = 2


def plan_kind(regions: RegionMap, wanted: Options) -> Kind | None:
    """Return the plan for such an image, or None for other files: images for i.MX 8M, FITs. Raises `ImageError`."""
    if barebox.is_barebox(regions.data):
        return barebox.plan(regions, wanted)
    found = _locate(regions)
    if found is not None:
        header, front = found
        if rt.is_rt(header, front, wanted.chip):
            return rt.plan(regions, header, front, wanted)
        if _is_8m(regions, header, wanted.chip):
            return None
        return imx67.plan(regions, header, front, wanted)
    return kernel32.plan(regions, wanted)


def _is_8m(regions: RegionMap, header: Header, chip: Chip | None) -> bool:
    if header.plugin == _HDMI:
        return True
    if chip is not None and chip.family != "i.MX 8M" and header.ivt.entry - header.ivt.self_address >= _LEAST_TO_ENTRY:
        return False
    return (
        regions.data[header.place + 3 : header.place + 4] == bytes([_VERSION_8M])
        or header.ivt.entry - header.ivt.self_address < _LEAST_TO_ENTRY
    )


def _locate(regions: RegionMap) -> tuple[Header, str] | None:
    """Return the first IVT with boot data, and what precedes it: "", "FlexSPI", "QSPI", "NAND" or other data."""
    data = regions.data
    if looks_like_ivt(data[:IVT_SIZE]):
        return _with(regions, 0, "")
    for place, tag, name in _CONFIGURED:
        if data[place : place + len(tag)] == tag:
            return _with(regions, _BEHIND_CONFIGURATION, name)
    if data[: len(_NAND)] == _NAND and first_used(data, len(_NAND), 0x400) is None:
        found = _with(regions, 0x400, "NAND")
        if found is None:
            raise ImageError(
                "the file begins like an SPL for NAND, but has no IVT at 0x400",
                hint="Build the image again with U-Boot (u-boot-nand-spl.imx).",
            )
        return found
    for place in (0x400, 0x1000):
        if not looks_like_ivt(data[place : place + IVT_SIZE]):
            continue
        if first_used(data, 0, place) is None:
            return _with(regions, place, "")
        header = peek(regions, place)
        # The ROM ignores what is before, but the image of a disk is not an image to sign.
        if header is not None and header.distance == place == _SD and data[0x1FE:0x200] != _DISK:
            return header, _OTHER
    return None


def _with(regions: RegionMap, place: int, front: str) -> tuple[Header, str] | None:
    header = peek(regions, place)
    return None if header is None else (header, front)
