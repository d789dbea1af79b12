"""Legacy uImages: U-Boot after an SPL (u-boot-ivt.img), with its IVT and CSF.

Sources: U-Boot, include/image.h (struct legacy_img_hdr), tools/mkimage.c (IH_TYPE_FIRMWARE_IVT: padded to 4 KiB with
bytes that count up, then the IVT), tools/default_image.c (image_set_header: the size counts a CSF, the CRC does not)
and arch/arm/mach-imx/spl.c (jump_to_image: the IVT is the CSF's size before the end by the header).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from digsigd.hab import Block
from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt
from digsigd.image.errors import ImageError
from digsigd.image.fit_plan import read_plain_ivt
from digsigd.image.model import Buffer, Signing
from digsigd.image.options import Options
from digsigd.image.regions import RegionMap

MAGIC = b"\x27\x05\x19\x56"
HEADER_SIZE = 0x40
FIRMWARE, FIRMWARE_IVT = 5, 32
ARM64 = 22
# tools/default_image.c; SPL has it as CONFIG_CSF_SIZE.
_CSF_SIZE = 0x2060
# spl.c, CSF_PAD_SIZE: what SPL tells HAB that there is after the IVT.
_ROOM = 0x2000
_CHUNK = 1 << 16
_IVT_IMG = "Use u-boot-ivt.img, which U-Boot builds with CONFIG_IMX_HAB for boards with an SPL."


@dataclass(frozen=True, slots=True)
class UImage:
    """The header at `offset` of the file. `size` is the number of bytes of data after it, according to the header."""

    offset: int
    size: int
    load: int
    entry: int
    data_crc: int
    arch: int
    kind: int

    @classmethod
    def read(cls, data: Buffer, offset: int) -> UImage:
        """Read the header at `offset`. Raises `ImageError` if it is truncated or its CRC differs."""
        head = data[offset : offset + HEADER_SIZE]
        if len(head) < HEADER_SIZE:
            raise ImageError(f"the uImage at {offset:#x} is truncated: it has {len(head):#x} bytes", hint=_AGAIN)
        _, crc, _, size, load, entry, data_crc, _, arch, kind, _ = struct.unpack_from(">7I4B", head)
        found = zlib.crc32(head[8:], zlib.crc32(head[:4] + bytes(4)))
        if found != crc:
            raise ImageError(
                f"the header of the uImage at {offset:#x} has the CRC {crc:#x}, but it is {found:#x}", hint=_AGAIN
            )
        return cls(offset, size, load, entry, data_crc, arch, kind)

    def check_data(self, regions: RegionMap, length: int) -> None:
        """Add a note if the CRC of `length` bytes of data differs. Raises `ImageError` if the file has fewer bytes."""
        data, start = regions.data, self.offset + HEADER_SIZE
        if start + length > len(data):
            raise ImageError(
                f"the header of the uImage at {self.offset:#x} gives {length:#x} bytes of data, but the file ends at"
                f" {len(data):#x}",
                hint=_AGAIN,
            )
        crc = 0
        for place in range(start, start + length, _CHUNK):
            crc = zlib.crc32(data[place : min(place + _CHUNK, start + length)], crc)
        if crc != self.data_crc:
            regions.notes.append(
                f"the data of the uImage at {self.offset:#x} have the CRC {crc:#x}, but its header gives"
                f" {self.data_crc:#x}: bootm refuses the uImage, and so does an SPL that compares the CRC; HAB does not"
            )


_AGAIN = "The file was truncated or changed after mkimage. Build it again."


def plan_second(regions: RegionMap, offset: int, wanted: Options) -> Signing:
    """Return the signing of a U-Boot that an SPL of i.MX 6 or 7 loads. Raises `ImageError`."""
    data, found = regions.data, UImage.read(regions.data, offset)
    if found.kind != FIRMWARE_IVT:
        raise ImageError(
            f"at {offset:#x} is a uImage of type {found.kind} without an IVT, which an SPL with HAB refuses",
            hint=_IVT_IMG,
        )
    # The size from mkimage includes the padding, the IVT and a CSF.
    place = offset + HEADER_SIZE + found.size - _CSF_SIZE
    if place < offset + HEADER_SIZE or (place - offset) % 0x1000 or not looks_like_ivt(data[place : place + IVT_SIZE]):
        raise ImageError(
            f"the header of the uImage at {offset:#x} gives {found.size:#x} bytes, so SPL expects its IVT at"
            f" {place:#x}, {_CSF_SIZE:#x} before the end, but the IVT is missing there",
            hint="The file is truncated, or U-Boot has another CONFIG_CSF_SIZE, which mkimage ignores. " + _AGAIN,
        )
    found.check_data(regions, place + IVT_SIZE - offset - HEADER_SIZE)
    ivt = read_plain_ivt(data, place)
    base = found.load - HEADER_SIZE
    if ivt.self_address != base + place - offset or ivt.entry != found.load:
        raise ImageError(
            f"the uImage at {offset:#x} is loaded to {base:#x}, but its IVT at {place:#x} is for {ivt.self_address:#x}"
            f" with the entry point {ivt.entry:#x}",
            hint=_AGAIN,
        )
    if wanted.load_address is not None and wanted.load_address != found.load:
        raise ImageError(
            f"SPL loads the uImage to {found.load:#x} according to its header, not to {wanted.load_address:#x}",
            hint="Leave out the load address: the image has one.",
        )
    if wanted.configuration is not None:
        raise ImageError(
            f"no FIT in this image, so configuration {wanted.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )
    csf = place + IVT_SIZE
    signing = Signing("U-Boot", ivt, (Block(base, offset, csf - offset),), csf, _ROOM)
    regions.add(offset, HEADER_SIZE, "uImage header")
    regions.add(offset + HEADER_SIZE, place - offset - HEADER_SIZE, "U-Boot")
    regions.add(place, IVT_SIZE, "IVT of the U-Boot")
    regions.add_room(csf, _ROOM, "room for the CSF of the U-Boot")
    regions.must.append((offset, csf - offset))
    return signing
