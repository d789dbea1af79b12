"""An arm64 kernel `Image` that U-Boot has HAB check before it starts it.

Sources: Linux, Documentation/arch/arm64/booting.rst, 4 (the header); uboot-imx, doc/imx/habv4/guides/
mx8m_secure_boot.txt, 3 (padded to the size in its header, IVT behind it, CSF behind that) and arch/arm/mach-imx/hab.c
(authenticate_image: the IVT is on a multiple of 4 KiB).
"""

from __future__ import annotations

import struct

from digsigd.hab import Block, Ivt
from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt
from digsigd.image.errors import ImageError
from digsigd.image.fitplan import ivt_bytes, read_plain_ivt
from digsigd.image.plan import Buffer, Patch, Signing
from digsigd.image.sketch import Sketch, aligned
from digsigd.image.spl import CSF_SIZE

HEADER_SIZE = 0x40
_MAGIC = b"ARM\x64"
# With its BSS a kernel is longer than its file; a header with more than this is no kernel that boots.
_LARGEST = 256 << 20
_LIMIT = 1 << 32


def is_kernel(data: Buffer) -> bool:
    """Whether this is an arm64 kernel by its header."""
    return data[0x38:0x3C] == _MAGIC


def plan_kernel(sketch: Sketch, load_address: int | None) -> Signing:
    """Plan a kernel. Raises `ImageError`."""
    data = sketch.data
    _, size = struct.unpack("<2Q", data[0x08:0x18])
    if not HEADER_SIZE <= size <= _LARGEST:
        raise ImageError(
            f"the kernel's header has an image size of {size:#x} bytes at 0x10",
            hint="Kernels before 3.17 have none. Use an Image as the kernel's build makes it.",
        )
    place = aligned(size, 0x1000)
    ivt = _ivt(sketch, place, load_address)
    signing = Signing("kernel", ivt, (Block(ivt.entry, 0, place + IVT_SIZE),), place + IVT_SIZE, CSF_SIZE - IVT_SIZE)
    used = min(len(data), place)
    sketch.add(0, used, "kernel")
    sketch.add(used, place - used, "padding to the kernel's size")
    sketch.add(place, IVT_SIZE, "IVT of the kernel")
    sketch.add_room(signing.csf_offset, signing.csf_room, "room for the CSF of the kernel")
    sketch.must.append((0, place + IVT_SIZE))
    return signing


def _ivt(sketch: Sketch, place: int, load_address: int | None) -> Ivt:
    data = sketch.data
    if len(data) > place:
        if not looks_like_ivt(data[place : place + IVT_SIZE]):
            raise ImageError(
                f"the kernel has {place:#x} bytes by its header, the file {len(data):#x}, and at {place:#x} there is no"
                f" IVT but {data[place : place + 8].hex(' ')}",
                hint="Sign the Image as the kernel's build makes it, without anything added.",
            )
        ivt = read_plain_ivt(data, place)
        if ivt.entry != ivt.self_address - place or (load_address is not None and load_address != ivt.entry):
            wanted = f", and {load_address:#x} was asked for" if load_address is not None else ""
            raise ImageError(
                f"the IVT at {place:#x} is for {ivt.self_address:#x}, which has the kernel at"
                f" {ivt.self_address - place:#x}, with the entry point {ivt.entry:#x}{wanted}",
                hint="Sign the Image as the kernel's build makes it, and give the load address.",
            )
        return ivt
    if load_address is None:
        raise ImageError(
            "nothing in a kernel says where U-Boot loads it",
            hint="Give the load address: it is in U-Boot's environment, mostly as loadaddr (NXP's boards: 0x40480000,"
            " older ones 0x40400000).",
        )
    if load_address % 0x1000 or load_address < 0 or load_address + place + CSF_SIZE > _LIMIT:
        raise ImageError(f"the load address {load_address:#x} is no 32-bit address on a multiple of 4 KiB")
    address = load_address + place
    ivt = Ivt(place, load_address, 0, 0, address, address + IVT_SIZE)
    if place > len(data):
        pad = Patch(len(data), bytes(place - len(data)), "the kernel is padded to the size in its header, for its IVT")
        sketch.patches.append(pad)
    sketch.patches.append(Patch(place, ivt_bytes(ivt), f"the IVT, for the load address {load_address:#x}"))
    return ivt
