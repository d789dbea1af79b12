"""Finds the containers of a file.

Headers of one set follow each other in steps of 0x400 bytes (version 0) or 0x4000 (version 2): imx-mkimage,
CONTAINER_ALIGNMENT. SPL's next set begins at a multiple of 0x400 behind the images of the first: U-Boot,
arch/arm/mach-imx/image-container.c. Files for FlexSPI begin with 4 KiB of configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

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

    Not more than `MOST_FOUND`, from the first `MOST_PLACES` multiples of 0x400. What is inside images is not searched,
    what is between them is.
    """
    found: dict[int, Container] = {}
    # Headers and images that are still to be passed, the last one first: start and end.
    ahead: list[tuple[int, int]] = []
    place = 0
    last = min(len(data), MOST_PLACES * STEP)
    while True:
        while ahead and ahead[-1][0] <= place:
            place = max(place, -(-ahead.pop()[1] // STEP) * STEP)
        if place >= last or len(found) >= MOST_FOUND:
            return tuple(found[offset] for offset in sorted(found)[:MOST_FOUND])
        first = at(data, place)
        if first is not None:
            others = (at(data, place + number * first.step) for number in range(1, _MOST_IN_SET))
            new = {one.offset: one for one in (first, *others) if one is not None and one.offset not in found}
            found |= new
            ahead += (extent for one in new.values() for extent in _extents(one, len(data)))
            ahead.sort(reverse=True)
        place += STEP


def _extents(one: Container, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a container's header is, and those of its images that are inside a file of `size` bytes."""
    yield one.offset, one.offset + one.header_length
    for image in one.images:
        start = one.offset + image.offset
        if start + image.size <= size:
            yield start, start + image.size


def at(data: Buffer, place: int) -> Container | None:
    """Return the container whose header is at this file offset, or None."""
    if data[place + 3 : place + 4] not in _TAGS:
        return None
    try:
        return read_header(data, place)
    except FormatError:
        return None
