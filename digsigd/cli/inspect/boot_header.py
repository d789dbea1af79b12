"""Describe the start of an image other than an IVT: a boot device's configuration, or a kernel's header.

Sources: uboot-imx, arch/arm/mach-imx/cmd_qspihdr.c (FCFB, QSPI); U-Boot, include/image.h (legacy uImage) and
arch/arm/mach-imx/Makefile (SPL for NAND); Linux, arch/arm/boot/compressed/head.S (zImage); barebox,
arch/arm/lib/pbl.lds.S.
"""

from __future__ import annotations

import mmap
import struct

from digsigd.cli.inspect.facts import Hex, Part

# (place, place of the tag, tag, title)
_CONFIGURATIONS = (
    (0, 0, b"FCFB", "FlexSPI configuration"),
    (0x400, 0x400, b"FCFB", "FlexSPI configuration"),
    (0x400, 0x5FC, b"\x01\xee\xff\xc0", "QSPI configuration"),
    # As imx-mkimage's scripts/fspi_packer.sh writes it.
    (0x400, 0x5FC, b"\xc0\xff\xee\x01", "QSPI configuration"),
    (0, 4, b"FCB \x01", "NAND boot control block"),
)
_UIMAGE = b"\x27\x05\x19\x56"
_UIMAGE_HEAD = struct.Struct(">7I4B32s")
_UIMAGE_KINDS = {
    1: "standalone", 2: "kernel", 3: "ramdisk", 4: "multi-file", 5: "firmware", 6: "script", 8: "device tree",
    32: "firmware with an IVT after it",
}  # fmt: skip
_ZIMAGE = b"\x18\x28\x6f\x01"
_BAREBOX = b"barebox\0"


def describe_front(data: mmap.mmap | bytes) -> list[Part]:
    """Return descriptions of all that this file has."""
    head = data[:0x600]
    parts = [
        Part("boot-configuration", f"{title} at {place:#x}")
        for place, tag_place, tag, title in _CONFIGURATIONS
        if head[tag_place : tag_place + len(tag)] == tag
    ]
    if head[:4] == _UIMAGE and len(head) >= _UIMAGE_HEAD.size:
        parts.append(_describe_uimage(head, len(data)))
    if head[0x24:0x28] == _ZIMAGE and len(head) >= 0x30:
        start, end = struct.unpack_from("<2I", head, 0x28)
        parts.append(Part("zimage", "zImage at 0x0", {"size": Hex((end - start) & 0xFFFFFFFF)}))
    if head[0x20:0x28] == _BAREBOX:
        parts.append(Part("barebox", "barebox at 0x0"))
    return parts


def _describe_uimage(head: bytes, size: int) -> Part:
    fields = _UIMAGE_HEAD.unpack_from(head)
    length, load, entry, kind, name = fields[3], fields[4], fields[5], fields[9], fields[11]
    part = Part("uimage", "legacy uImage at 0x0")
    part.facts = {
        "name": name.rstrip(b"\0").decode("ascii", "replace"),
        "type": _UIMAGE_KINDS.get(kind, f"type {kind}"),
        "size": Hex(length),
        "load": Hex(load),
        "entry": Hex(entry),
    }
    if _UIMAGE_HEAD.size + length > size:
        # mkimage includes the room for a CSF that is added later.
        part.notes.append(f"its header says {_UIMAGE_HEAD.size + length:#x} bytes, the file has {size:#x}")
    return part
