"""Tags that tools append to a whole image, after everything that a board reads.

UUU finds the end of a boot image in the image of a disk from a tag: these letters, the decimal size of the file before
them, and END. Sources: meta-freescale, classes/uuu_bootloader_tag.bbclass (with a newline); SPSDK, spsdk/utils (none).
A build that runs twice appends two tags, and tools that write blocks pad the file to whole blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from digsigd.image.model import Buffer, Plan, Region, Tail
from digsigd.image.regions import PADDING, last_used

_NAME = b"UUUBURNXXOEUZX7+A-XY5601QQWWZ"
# With a size that has ten digits: the files that are signed have less than 4 GiB.
_LONGEST = len(_NAME) + 10 + 4
_REGION = "tag for UUU"
_TAG = re.compile(re.escape(_NAME) + rb"([0-9]{1,10})END(\n?)\Z")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag for UUU: the image ends at file offset `offset`, and the tag contains `size`, both in bytes.

    `line` says whether a newline ends the tag. `end` is the file offset after the last tag: a second run of the same
    tool appends another, and `single` is False then. Padding can follow.
    """

    offset: int
    end: int
    size: int
    line: bool
    single: bool

    @property
    def right(self) -> bool:
        """Whether UUU finds the end of the image from it."""
        return self.single and self.size == self.offset


def find_tag(data: Buffer) -> Tag | None:
    """Return the tag at the end of a file, or None."""
    found: Tag | None = None
    end = len(data)
    while True:
        used = last_used(data, end)
        start = max(0, used - _LONGEST)
        match = _TAG.search(data[start:used])
        if match is None:
            return found
        place = start + match.start()
        last = used if found is None else found.end
        found = Tag(place, last, int(match[1]), bool(match[2]), found is None)
        end = place


def tag(size: int, *, line: bool) -> bytes:
    """Return the tag for an image of `size` bytes."""
    return _NAME + str(size).encode() + (b"END\n" if line else b"END")


def with_tag(plan: Plan, found: Tag, size: int) -> Plan:
    """Return the plan with the tag added; `size` is that of the whole file in bytes."""
    grows = plan.size > found.offset
    if found.right and not grows:
        regions = [*plan.regions, Region(found.offset, found.end - found.offset, _REGION)]
        if size > found.end:
            regions.append(Region(found.end, size - found.end, PADDING))
        return replace(plan, size=size, regions=tuple(regions))
    data = tag(plan.size, line=found.line)
    notes = plan.notes
    if not found.right:
        more = "" if found.single else ", and there is more than one tag"
        why = f"the tag for UUU at {found.offset:#x} says {found.size} bytes, but it follows {found.offset} bytes{more}"
        notes += (f"{why}: UUU does not find the image with it; boards do not read it",)
    regions = [*plan.regions, Region(plan.size, len(data), _REGION)]
    return replace(plan, size=plan.size + len(data), regions=tuple(regions), notes=notes, tail=Tail(found.offset, data))


class Front:
    """The first `size` bytes of a file, as a buffer."""

    def __init__(self, data: Buffer, size: int) -> None:
        self._data = data
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return self._data[start:stop]
