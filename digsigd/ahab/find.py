"""Finds the containers of a file.

Headers of one set follow each other in steps of 0x400 bytes (version 0) or 0x4000 (version 2): imx-mkimage,
CONTAINER_ALIGNMENT. SPL's next set begins at a multiple of 0x400 behind the images of the first: U-Boot,
arch/arm/mach-imx/image-container.c. Files for FlexSPI begin with 4 KiB of configuration.
"""

from __future__ import annotations

from digsigd.ahab.errors import FormatError
from digsigd.ahab.model import Buffer, Container, Tag
from digsigd.ahab.read import read_header

# All containers are on multiples of it.
STEP = 0x400
# A set has up to three: NXP's for the enclave, NXP's for V2X, the owner's.
_MOST_IN_SET = 3
MOST_FOUND = 32
# Places that are looked at: those of 256 MiB.
MOST_PLACES = 0x40000
_TAGS = (bytes([Tag.CONTAINER]), bytes([Tag.V2X]))


def find(data: Buffer) -> tuple[Container, ...]:
    """Return the containers of a file in their order, signed or not; their blocks are not read.

    Not more than `MOST_FOUND`, from the first `MOST_PLACES` multiples of 0x400. What the images of a set contain is not
    searched.
    """
    found: list[Container] = []
    place = 0
    last = min(len(data), MOST_PLACES * STEP)
    while place < last and len(found) < MOST_FOUND:
        first = at(data, place)
        if first is None:
            place += STEP
            continue
        members = [first]
        for number in range(1, _MOST_IN_SET):
            if (member := at(data, place + number * first.step)) is not None:
                members.append(member)
        found += members
        end = max(member.offset + member.header_length for member in members)
        for member in members:
            inside = [image for image in member.images if member.offset + image.offset + image.size <= len(data)]
            end = max([end, *(member.offset + image.offset + image.size for image in inside)])
        place = end + -end % STEP
    return tuple(found[:MOST_FOUND])


def at(data: Buffer, place: int) -> Container | None:
    """Return the container whose header is at this file offset, or None."""
    if data[place + 3 : place + 4] not in _TAGS:
        return None
    try:
        return read_header(data, place)
    except FormatError:
        return None
