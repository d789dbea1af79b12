"""An arm64 kernel `Image` that U-Boot lets HAB check before it starts it.

Sources: Linux, Documentation/arch/arm64/booting.rst, 4 (the header); uboot-imx, doc/imx/habv4/guides/
mx8m_secure_boot.txt, 3 (padded to the size in its header, IVT after it, CSF after that).
"""

from __future__ import annotations

import struct

from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Signing
from digsigd.image.padded import plan_padded
from digsigd.image.regions import RegionMap

HEADER_SIZE = 0x40
_MAGIC = b"ARM\x64"
# With its BSS a kernel is longer than its file; a kernel whose header has more than this does not boot.
_LARGEST = 256 << 20


def is_kernel(data: Buffer) -> bool:
    """Return whether the file has the header of an arm64 kernel."""
    return data[0x38:0x3C] == _MAGIC


def plan_kernel(regions: RegionMap, load_address: int | None) -> Signing:
    """Return the signing of an arm64 kernel that U-Boot loads to `load_address`. Raises `ImageError`."""
    _, size = struct.unpack("<2Q", regions.data[0x08:0x18])
    if not HEADER_SIZE <= size <= _LARGEST:
        raise ImageError(
            f"the kernel's header gives an image size of {size:#x} bytes at 0x10",
            hint="Kernels before 3.17 have no size there. Use the Image from the kernel's build, unchanged.",
        )
    return plan_padded(regions, "kernel", size, load_address, "NXP's boards: 0x40480000, older ones 0x40400000")
