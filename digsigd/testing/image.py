"""An image in the shape of an i.MX8M Mini SPL: IVT, boot data, code, and room for the CSF."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# i.MX8M Mini, SD/eMMC boot: NXP imx-mkimage, iMX8M/soc.mak (SPL_LOAD_ADDR) and mkimage_imx8.c (the IVT stands
# 0x40 bytes before the SPL).
SPL_LOAD_ADDRESS = 0x7E1000
IVT_HEADER = b"\xd1\x00\x20\x41"  # tag, length 32 (big endian), HAB version 4.1: HABv4 API reference, IVT
IVT_SIZE = 0x20
SPL_OFFSET = 0x40
CSF_ROOM = 0x2000  # CSF_SIZE of mkimage_imx8.c


@dataclass(frozen=True, slots=True)
class TrialImage:
    """Bytes with an IVT at offset 0 whose CSF pointer leads to the empty room after the signed part.

    `address` is where the IVT is loaded, `signed_size` how many bytes from the start are to be signed.
    """

    data: bytes
    address: int
    signed_size: int

    @classmethod
    def make(cls, code: bytes) -> TrialImage:
        """Put `code` behind an IVT; the signed part is padded to a multiple of 0x40 bytes."""
        address = SPL_LOAD_ADDRESS - SPL_OFFSET
        signed_size = (SPL_OFFSET + len(code) + 0x3F) & ~0x3F
        boot_data = address + IVT_SIZE
        ivt = IVT_HEADER + struct.pack("<7I", SPL_LOAD_ADDRESS, 0, 0, boot_data, address, address + signed_size, 0)
        start = ivt + struct.pack("<3I", address, signed_size + CSF_ROOM, 0)
        data = (start.ljust(SPL_OFFSET, b"\0") + code).ljust(signed_size, b"\0") + bytes(CSF_ROOM)
        return cls(data, address, signed_size)

    @classmethod
    def of_size(cls, size: int) -> TrialImage:
        """Make an image of exactly `size` bytes, a multiple of 0x40 and at least 0x2080, of a fixed pattern."""
        code = size - CSF_ROOM - SPL_OFFSET
        if code < 0x40 or size % 0x40:
            raise ValueError(f"an image has a multiple of 0x40 bytes, at least 0x2080, not {size:#x}")
        pattern = bytes(range(251))
        return cls.make((pattern * (code // len(pattern) + 1))[:code])

    def blocks(self, name: str) -> str:
        """The `Blocks` value of a CSF description that signs this image under the file name `name`."""
        return f'{self.address:#x} 0x0 {self.signed_size:#x} "{name}"'

    def with_csf(self, blob: bytes) -> bytes:
        """The image with the CSF blob in the room kept for it."""
        if len(blob) > CSF_ROOM:
            raise ValueError(f"the CSF blob has {len(blob):#x} bytes, the room for it {CSF_ROOM:#x}")
        return self.data[: self.signed_size] + blob.ljust(CSF_ROOM, b"\0")
