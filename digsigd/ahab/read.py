"""Reads containers: header, images' entries, signature block.

Sources: NXP cst, ahab_types.h; imx-mkimage, src/imx8qxb0.c; SPSDK, spsdk/image/ahab/ahab_container.py, ahab_iae.py.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from digsigd.ahab.block import read_block
from digsigd.ahab.errors import FormatError
from digsigd.ahab.model import BLOCK_TAG, HEADER_SIZE, IMAGE_SIZE, Buffer, Container, ImageEntry, Tag

VERSIONS = (0, 2)
MOST_IMAGES = 32
# A block's own header: the least that an unsigned container has of it.
BLOCK_HEADER_SIZE = 0x10
_HEADER = struct.Struct("<BHBIHBBHH")
_IMAGE = struct.Struct("<IIQQII64s32s")


def parse(data: Buffer, offset: int = 0) -> Container:
    """Read the container whose header is at `offset` of a file, all of it, strictly. Raises `FormatError`.

    An unsigned container's block has neither SRKs nor signatures.
    """
    container = read_header(data, offset)
    if container.tag == Tag.MESSAGE:
        raise FormatError("a signed message, not a container", offset + 3)
    if container.end > len(data):
        raise FormatError(
            f"the container at {offset:#x} has {container.length:#x} bytes, of which the file has"
            f" {len(data) - offset:#x}",
            offset + 1,
        )
    try:
        block = read_block(data[offset : container.end], container.block_offset, container.version)
    except FormatError as error:
        place = None if error.offset is None else offset + error.offset
        raise FormatError(error.what, place, hint=error.hint) from None
    return replace(container, block=block)


def read_header(data: Buffer, offset: int = 0) -> Container:
    """Read the header and the images' entries of the container at `offset`, which may be unsigned: its block is None.

    Raises `FormatError`. The signature block must stand right behind the entries, which other data do not match by
    chance; all that is looked at of it is its tag.
    """
    if offset < 0 or offset + HEADER_SIZE > len(data):
        raise FormatError(f"no container at {offset:#x}: the file has {len(data):#x} bytes", offset)
    version, length, tag, flags, software, fuses, count, block, reserved = _HEADER.unpack(
        data[offset : offset + HEADER_SIZE]
    )
    if tag not in (Tag.CONTAINER, Tag.V2X, Tag.MESSAGE):
        raise FormatError(f"no container at {offset:#x}: its tag is {tag:#x}, not {Tag.CONTAINER:#x}", offset + 3)
    if version not in VERSIONS:
        raise FormatError(f"the container at {offset:#x} has the version {version}, not 0 or 2", offset)
    if reserved:
        raise FormatError(f"the container at {offset:#x} has {reserved:#x} in its reserved field", offset + 14)
    if not 1 <= count <= MOST_IMAGES:
        raise FormatError(f"the container at {offset:#x} has {count} images, not 1 to {MOST_IMAGES}", offset + 11)
    expected = HEADER_SIZE + count * IMAGE_SIZE
    if block != expected:
        raise FormatError(
            f"the signature block of the container at {offset:#x} is at {block:#x}, not behind its {count} images"
            f" at {expected:#x}",
            offset + 12,
        )
    if length < block + BLOCK_HEADER_SIZE:
        raise FormatError(
            f"the container at {offset:#x} has {length:#x} bytes, too few for its signature block", offset + 1
        )
    entries = data[offset + HEADER_SIZE : offset + block + 4]
    if len(entries) < block + 4 - HEADER_SIZE:
        raise FormatError(f"the file ends inside the container at {offset:#x}", offset)
    if entries[-1] != BLOCK_TAG:
        raise FormatError(
            f"the container at {offset:#x} has no signature block: the tag is {entries[-1]:#x}", offset + block + 3
        )
    images = tuple(
        _entry(number, entries[number * IMAGE_SIZE : (number + 1) * IMAGE_SIZE], version) for number in range(count)
    )
    return Container(offset, version, length, tag, flags, software, fuses, images, block, None)


def _entry(number: int, raw: bytes, version: int) -> ImageEntry:
    offset, size, load, entry, flags, meta, digest, iv = _IMAGE.unpack(raw)
    return ImageEntry(number, offset, size, load, entry, flags, meta, digest, iv, version)
