"""An image in the shape of an i.MX8M Mini SPL: IVT, boot data, code, and room for the CSF."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# i.MX8M Mini, SD/eMMC boot: NXP imx-mkimage, iMX8M/soc.mak (SPL_LOAD_ADDR) and mkimage_imx8.c (the IVT is at
# 0x40 bytes before the SPL).
SPL_LOAD_ADDRESS = 0x7E1000
IVT_HEADER = b"\xd1\x00\x20\x41"  # tag, length 32 (big endian), HAB version 4.1: HABv4 API reference, IVT
IVT_SIZE = 0x20
SPL_OFFSET = 0x40
CSF_ROOM = 0x2000  # CSF_SIZE of mkimage_imx8.c


@dataclass(frozen=True, slots=True)
class TrialImage:
    """An image with an IVT at offset 0 and empty space for the CSF blob after the signed part.

    `address` is the load address of the IVT. `signed_size` is the number of bytes to sign, from the start.
    """

    data: bytes
    address: int
    signed_size: int

    @classmethod
    def make(cls, code: bytes) -> TrialImage:
        """Make an image from `code`. The signed part is padded to a multiple of 0x40 bytes."""
        address = SPL_LOAD_ADDRESS - SPL_OFFSET
        signed_size = (SPL_OFFSET + len(code) + 0x3F) & ~0x3F
        boot_data = address + IVT_SIZE
        ivt = IVT_HEADER + struct.pack("<7I", SPL_LOAD_ADDRESS, 0, 0, boot_data, address, address + signed_size, 0)
        start = ivt + struct.pack("<3I", address, signed_size + CSF_ROOM, 0)
        data = (start.ljust(SPL_OFFSET, b"\0") + code).ljust(signed_size, b"\0") + bytes(CSF_ROOM)
        return cls(data, address, signed_size)

    @classmethod
    def of_size(cls, size: int) -> TrialImage:
        """Make an image of exactly `size` bytes with a fixed pattern as code.

        Raises `ValueError` unless `size` is a multiple of 0x40 and at least 0x2080.
        """
        code = size - CSF_ROOM - SPL_OFFSET
        if code < 0x40 or size % 0x40:
            raise ValueError(f"the size of an image must be a multiple of 0x40 and at least 0x2080, not {size:#x}")
        pattern = bytes(range(251))
        return cls.make((pattern * (code // len(pattern) + 1))[:code])

    def blocks(self, name: str) -> str:
        """Return the `Blocks` value of a CSF description that signs this image as the file `name`."""
        return f'{self.address:#x} 0x0 {self.signed_size:#x} "{name}"'

    def with_csf(self, blob: bytes) -> bytes:
        """Return the image with the CSF blob in place. Raises `ValueError` if the blob is too long."""
        if len(blob) > CSF_ROOM:
            raise ValueError(f"the CSF blob has {len(blob):#x} bytes, but the space for it only {CSF_ROOM:#x}")
        return self.data[: self.signed_size] + blob.ljust(CSF_ROOM, b"\0")
