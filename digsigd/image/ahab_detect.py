"""Recognize files of AHAB, to tell them from HAB's: containers, signed messages, SRK tables.

`digsigd.ahab` reads them. Sources: NXP cst, ahab_types.h; SPSDK, spsdk/image/ahab. An SRK table has the tag of HAB's,
whose lengths are big-endian.
"""

from __future__ import annotations

import struct

from digsigd import ahab
from digsigd.ahab import Container, FormatError, Tag
from digsigd.ahab.model import BLOCK_TAG
from digsigd.image.model import Buffer

CHIPS = "i.MX 8QM, 8X, 8ULP, 9, RT118x"
_STEP = 0x400
# Where the first container of a file is: behind NXP's, the 4 KiB in front for FlexSPI, or the 32 KiB that the user area
# of an SD card or eMMC has in front.
_FIRST = (*range(0, 0x2000, _STEP), 0x4000, 0x8000, 0x9000)
_HEADER = struct.Struct("<BHB7xBHH")
_TABLE, _TABLE_VERSIONS, _ARRAY, _ARRAY_HEADER = 0xD7, (0x42, 0x43), 0x5A, 8


def containers(data: Buffer) -> tuple[Container, ...]:
    """Return all containers of a file that begins with one, in their order; empty for other files."""
    if not any(container_at(data, place) for place in _FIRST):
        return ()
    return ahab.find(data)


def container_at(data: Buffer, place: int) -> Container | None:
    """Return the container whose header is at this file offset, signed or not, or None."""
    if data[place + 3 : place + 4] not in (bytes([Tag.CONTAINER]), bytes([Tag.V2X])):
        return None
    try:
        return ahab.read_header(data, place)
    except FormatError:
        return None


def is_message(data: Buffer) -> bool:
    """Return whether a file is a signed message: a request to the ELE or SECO, with the header of a container."""
    head = data[: _HEADER.size]
    if len(head) < _HEADER.size:
        return False
    version, length, tag, images, block, reserved = _HEADER.unpack(head)
    if version not in (0, 2) or tag != Tag.MESSAGE or images or reserved or not _HEADER.size <= block < length:
        return False
    return length <= len(data) and data[block + 3 : block + 4] == bytes([BLOCK_TAG])


def is_ahab(data: Buffer) -> bool:
    """Return whether a file begins with AHAB containers, or is a signed message."""
    return is_message(data) or bool(containers(data))


def is_srk_table(data: bytes) -> bool:
    """Return whether data are an SRK table or array of AHAB by their header; what is in it is not looked at."""
    if len(data) < _ARRAY_HEADER:
        return False
    first, length, tag = struct.unpack_from("<BHB", data)
    if first == 0 and tag == _ARRAY:
        return length == len(data) and data[4] in (1, 2)
    return first == _TABLE and tag in _TABLE_VERSIONS and length == len(data)
