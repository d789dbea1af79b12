"""Kernels of i.MX 6 and 7, as zImage or legacy uImage, that U-Boot lets HAB check before it starts them.

Sources: Linux, arch/arm/boot/compressed/head.S (magic, start and end of a zImage); uboot-imx, cmd/bootz.c and
cmd/bootm.c (the IVT is at the size by the header, rounded up to 4 KiB; the length is 0x2020 more) and hab.c
(hab_auth_img finds it for uImages, and takes its place for others).
"""

from __future__ import annotations

import struct

from digsigd.image import uimage
from digsigd.image.errors import ImageError
from digsigd.image.options import CHIPS_8M, CHIPS_32, Kind, Options, settle
from digsigd.image.padded import plan_padded
from digsigd.image.regions import RegionMap
from digsigd.image.uimage import UImage

# Offsets 0x24, 0x28 and 0x2c: magic, start, end.
_ZIMAGE = b"\x18\x28\x6f\x01"
_LEAST = 0x30

_ADDRESSES = "i.MX 6Quad and DualLite: 0x12000000, others 0x80800000"


def plan(regions: RegionMap, wanted: Options) -> Kind | None:
    """Return the plan for a zImage or uImage, or None for other files. Raises `ImageError`."""
    data = regions.data
    if data[0x24:0x28] == _ZIMAGE:
        return _plan(regions, "zImage", _zimage_size(regions), wanted, of_arm64=False)
    if data[:4] != uimage.MAGIC:
        return None
    found = UImage.read(data, 0)
    if found.kind == uimage.FIRMWARE_IVT:
        signing = uimage.plan_second(regions, 0, wanted)
        return Kind("u-boot-ivt.img", (signing,), settle(wanted.chip, CHIPS_32, "u-boot-ivt.img"))
    if found.kind == uimage.FIRMWARE:
        raise ImageError(
            "the file is U-Boot as a uImage without an IVT, which an SPL with HAB refuses",
            hint="Use u-boot-ivt.img, which U-Boot builds with CONFIG_IMX_HAB for boards with an SPL.",
        )
    found.check_data(regions, found.size)
    return _plan(regions, "uImage", uimage.HEADER_SIZE + found.size, wanted, of_arm64=found.arch == uimage.ARM64)


def _zimage_size(regions: RegionMap) -> int:
    start, end = struct.unpack("<2I", regions.data[0x28:0x30])
    size = int(end - start)
    if not _LEAST <= size <= len(regions.data):
        raise ImageError(
            f"the zImage has {start:#x} and {end:#x} as start and end at 0x28, but the file has {len(regions.data):#x}"
            " bytes",
            hint="The file is truncated. Use the zImage from the kernel's build, unchanged.",
        )
    return size


def _plan(regions: RegionMap, name: str, size: int, wanted: Options, *, of_arm64: bool) -> Kind:
    if wanted.configuration is not None:
        raise ImageError(
            f"no FIT at 0x0, so configuration {wanted.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )
    if wanted.sdp is not None:
        raise ImageError(f"a {name} has no DCD, so serial download needs no separate file", hint="Leave out --sdp.")
    # A kernel is built for chips of one architecture, and shows no more.
    target = settle(wanted.chip, CHIPS_8M if of_arm64 else CHIPS_32, f"the {name}")
    signing = plan_padded(regions, name, size, wanted.load_address, _ADDRESSES)
    regions.notes.append(
        f"NXP's U-Boot checks a {name} when it starts it; with another U-Boot, run hab_auth_img"
        f" ADDRESS {signing.csf_offset + signing.csf_room:#x} {signing.ivt.offset:#x} first. This signature does not"
        " cover a separate device tree"
    )
    return Kind(f"kernel as {name}", (signing,), target)
