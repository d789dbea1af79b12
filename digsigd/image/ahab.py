"""Recognize AHAB containers and SRK tables, to tell them from HAB's: i.MX 8QM, 8X, 8ULP, 9 and RT118x.

Sources: NXP imx-mkimage, src/imx8qxb0.c and include/mkimage_common.h (flash_header_v3_t, boot_img_t, sig_blk_hdr_t);
cst, ahab_types.h; SPSDK, spsdk/image/ahab. All integers are little-endian; an SRK table has the tag of HAB's, whose
lengths are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from digsigd.image.model import Buffer

CHIPS = "i.MX 8QM, 8X, 8ULP, 9, RT118x"
_HEADER = struct.Struct("<BHBIHBBHH")
_IMAGE = struct.Struct("<IIQQII")
_IMAGE_SIZE = 0x80
_BLOCK_TAG = 0x90
_MOST_IMAGES = 32
# Containers are on multiples of it; the first ones of a file after 4 KiB for FlexSPI, or NXP's (0x8000: version 2).
_STEP = 0x400
_FIRST = (*range(0, 0x2000, _STEP), 0x4000, 0x8000, 0x9000)
_MOST_FOUND = 32
_TAGS = {0x87: "container", 0x82: "V2X container"}
_SRK_TABLE, _SRK_RECORD, _SRK_ARRAY = 0xD7, 0xE1, 0x5A
# The versions of tables: 0x42, and 0x43 in the arrays of containers of version 2.
_TABLE_VERSIONS = (0x42, 0x43)
_RECORDS = 4
_SETS = ("none: not signed", "NXP", "OEM", "unknown")
_TYPES = {3: "code", 4: "data", 5: "DCD or OEI", 6: "SECO or ELE firmware", 8: "DEK or FCB", 0xE: "V2X dummy"}
_KEYS = {
    1: "P-256", 2: "P-384", 3: "P-521", 5: "2048", 6: "3072", 7: "4096", 9: "65", 0xA: "87",
}  # fmt: skip
_ALGORITHMS = {0x21: "RSA", 0x22: "RSA-PSS", 0x27: "ECDSA", 0xD1: "Dilithium", 0xD2: "ML-DSA"}
_HASHES = {0: "SHA-256", 1: "SHA-384", 2: "SHA-512", 3: "SM3"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a container. `offset` counts from the start of the file."""

    offset: int
    size: int
    load: int
    entry: int
    kind: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container at `offset` of the file. `signed_by` is the owner of the SRKs, `srk` the number of one, from 1."""

    offset: int
    version: int
    name: str
    length: int
    software_version: int
    fuse_version: int
    signed_by: str
    srk: int
    images: tuple[Image, ...]

    @property
    def signed(self) -> bool:
        """Whether its header says that it is signed."""
        return self.signed_by in _SETS[1:3]


def containers(data: Buffer) -> tuple[Container, ...]:
    """Return all containers of a file that begins with one; empty for other files."""
    if not any(read(data, place) for place in _FIRST):
        return ()
    found = []
    for place in range(0, len(data), _STEP):
        if data[place + 3 : place + 4] in (b"\x87", b"\x82") and (one := read(data, place)) is not None:
            found.append(one)
            if len(found) == _MOST_FOUND:
                break
    return tuple(found)


def read(data: Buffer, place: int) -> Container | None:
    """Return the container at this file offset, or None.

    The signature block must be right after the headers of the images, which other data do not match by chance.
    """
    head = data[place : place + _HEADER.size]
    if len(head) < _HEADER.size:
        return None
    version, length, tag, flags, software, fuses, count, block, reserved = _HEADER.unpack(head)
    if version not in (0, 2) or tag not in _TAGS or reserved or not 1 <= count <= _MOST_IMAGES:
        return None
    if block != _HEADER.size + count * _IMAGE_SIZE or length < block:
        return None
    if length > block and data[place + block + 3 : place + block + 4] != bytes([_BLOCK_TAG]):
        return None
    images = tuple(_image(data, place, number) for number in range(count))
    return Container(
        place, version, _TAGS[tag], length, software, fuses, _SETS[flags & 3], (flags >> 4 & 3) + 1, images
    )


def _image(data: Buffer, place: int, number: int) -> Image:
    start = place + _HEADER.size + number * _IMAGE_SIZE
    offset, size, load, entry, flags, _ = _IMAGE.unpack(data[start : start + _IMAGE.size].ljust(_IMAGE.size, b"\0"))
    return Image(place + offset, size, load, entry, _TYPES.get(flags & 0xF, f"type {flags & 0xF:#x}"))


def srk_table(data: bytes) -> tuple[str, ...] | None:
    """Return the kinds of the keys in an AHAB SRK table or array, or None for other data."""
    if len(data) >= 8 and data[:1] == b"\0" and data[3] == _SRK_ARRAY:
        # Tables of version 2, one or two, each with its data after it.
        return _records(data[8:]) if data[4] in (1, 2) and struct.unpack_from("<H", data, 1)[0] <= len(data) else None
    return _records(data) if len(data) >= 4 and struct.unpack_from("<H", data, 1)[0] == len(data) else None


def _records(table: bytes) -> tuple[str, ...] | None:
    if len(table) < 4 or table[0] != _SRK_TABLE or table[3] not in _TABLE_VERSIONS:
        return None
    end = struct.unpack_from("<H", table, 1)[0]
    kinds = list(_kinds(table[:end]))
    return tuple(kinds) if len(kinds) == _RECORDS else None


def _kinds(table: bytes) -> Iterator[str]:
    position = 4
    while position + 8 <= len(table):
        tag, length, algorithm, digest, size = struct.unpack_from("<BHBBB", table, position)
        if tag != _SRK_RECORD or length < 8 or position + length > len(table):
            return
        name = _ALGORITHMS.get(algorithm, f"algorithm {algorithm:#x}")
        yield f"{name} {_KEYS.get(size, f'size {size:#x}')} with {_HASHES.get(digest, f'hash {digest:#x}')}"
        position += length
