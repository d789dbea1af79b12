"""The signed bytes of AHAB containers as SPSDK lays them out, made without it."""

from __future__ import annotations

import struct

from tests.helpers import ahab_cases

TABLE = "crts/SRK_1_2_3_4_table.bin"
# The places of headers in the image of the case good-93-sd-spl: NXP's, SPL's, and that of ATF and U-Boot.
NXP, SPL, UBOOT = 0x0, 0x400, 0x4000
CASE = "good-93-sd-spl"


def table(keys: str = "p384") -> bytes:
    """The SRK table of a machine."""
    return ahab_cases.members(keys)[TABLE]


def region(
    image: bytes | None = None,
    offset: int = SPL,
    *,
    srks: bytes | None = None,
    signature: int = 96,
    srk_set: int = 2,
    index: int = 0,
    revoked: int = 0,
    upper_flags: int = 0,
    sw_version: int = 0,
    fuse_version: int = 0,
    certificate: int = 0,
    blob: int = 0,
) -> bytes:
    """The bytes of the container at `offset` that SPSDK asks a signature of `signature` bytes for.

    SPSDK 3.12: the SRK table begins 16 bytes behind the block's start, the signature is behind it at a multiple of 8,
    and the block ends with it.
    """
    image = ahab_cases.image(CASE) if image is None else image
    srks = table() if srks is None else srks
    count = image[offset + 11]
    block = 16 + 0x80 * count
    place = 16 + len(srks) + -len(srks) % 8
    length = place + 8 + signature
    flags = upper_flags | revoked << 8 | index << 4 | srk_set
    header = struct.pack(
        "<BHBIHBBHH", image[offset], block + length, 0x87, flags, sw_version, fuse_version, count, block, 0
    )
    entries = image[offset + 16 : offset + block]
    head = struct.pack("<BHBHHHHI", 0, length, 0x90, certificate, 16, place, blob, 0)
    return header + entries + head + srks.ljust(place - 16, b"\0")
