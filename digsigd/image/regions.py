"""Reading a file in small pieces, and the map of it: every byte belongs to something known, or is padding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

from digsigd.hab.csf_blob import MAX_HEADER_LENGTH
from digsigd.image.encryption import encrypted_by
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Patch, Region

# Files of 64 MiB may be mapped: what is sliced off is copied.
_CHUNK = 1 << 16
PADDING = "padding"
# mkimage before v2020.07 left the file's old bytes behind a tree, and boards load them with it.
LEFTOVERS = "leftovers, signed as they are"


def aligned(value: int, to: int) -> int:
    """The next multiple."""
    return (value + to - 1) // to * to


def first_used(data: Buffer, start: int, end: int) -> int | None:
    """The first byte that is no padding, neither 00 nor ff as in erased flash; None where there is none."""
    for place in range(start, end, _CHUNK):
        part = data[place : min(place + _CHUNK, end)]
        rest = part.lstrip(b"\0\xff")
        if rest:
            return place + len(part) - len(rest)
    return None


def last_used(data: Buffer, end: int) -> int:
    """The end of what is before `end` without padding, 00 or ff; 0 where that is all."""
    for place in range((end - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
        part = data[place : min(place + _CHUNK, end)].rstrip(b"\0\xff")
        if part:
            return place + len(part)
    return 0


def digest(data: Buffer, start: int, length: int) -> bytes:
    """The SHA-256 of a part."""
    found = hashlib.sha256()
    for place in range(start, start + length, _CHUNK):
        found.update(data[place : min(place + _CHUNK, start + length)])
    return found.digest()


class RegionMap:
    """The regions found so far, and what has to be written and signed."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.found: list[Region] = []
        self.must: list[tuple[int, int]] = []
        self.patches: list[Patch] = []
        self.masks: list[Patch] = []
        self.notes: list[str] = []
        self.signed: list[str] = []
        self.foreign: list[tuple[int, int]] = []
        self.encrypted: list[str] = []

    def add(self, offset: int, length: int, name: str) -> None:
        """There is something known."""
        if length > 0:
            self.found.append(Region(offset, length, name))

    def add_room(self, offset: int, length: int, name: str) -> None:
        """There is room for a CSF: nothing but padding in it, or a CSF."""
        held = self.data[offset : min(offset + 4, offset + length)]
        if held[:1] == b"\xd4" and len(held) == 4 and held[3] & 0xF0 == 0x40:
            self.signed.append(f"the {name} at {offset:#x} holds one already, which signing replaces")
            command = encrypted_by(self.data[offset : offset + min(length, MAX_HEADER_LENGTH)])
            if command is not None:
                self.encrypted.append(f"the CSF at {offset:#x} has the command {command}")
        else:
            used = first_used(self.data, offset, min(offset + length, len(self.data)))
            if used is not None:
                raise ImageError(
                    f"at {used:#x}, in the {length:#x} bytes of the {name} at {offset:#x}, stands"
                    f" {self.data[used : used + 8].hex(' ')}: neither padding nor a CSF",
                    hint="Build the image again, or sign it before anything else is put there.",
                )
        self.add(offset, length, name)

    def read(self, start: int, length: int, size: int) -> bytes:
        """A small part of the file as it is when it is signed, `size` bytes in all."""
        end = min(start + length, size)
        found = bytearray(self.data[start : max(start, end)].ljust(max(0, end - start), b"\0"))
        for patch in (*self.patches, *self.masks):
            first, last = max(start, patch.offset), min(end, patch.offset + len(patch.data))
            if first < last:
                found[first - start : last - start] = patch.data[first - patch.offset : last - patch.offset]
        return bytes(found)

    def finish(self, covered: Sequence[tuple[int, int]]) -> tuple[int, tuple[Region, ...]]:
        """The size of the file once all is written, and all of its regions. Raises `ImageError`.

        Whatever stands between what is known has to be padding, or under a signature: `covered` are (start, end).
        """
        known = sorted(self.found, key=lambda region: (region.offset, region.length))
        for before, after in pairwise(known):
            if after.offset < before.end:
                raise ImageError(
                    f"{before.name} ({before.length:#x} bytes at {before.offset:#x}) and {after.name}"
                    f" ({after.length:#x} bytes at {after.offset:#x}) overlap in the file"
                )
        size = max([len(self.data), *(region.end for region in known)])
        found: list[Region] = []
        place = 0
        for region in [*known, Region(size, 0, "")]:
            if region.offset > place:
                end = min(region.offset, len(self.data))
                used = first_used(self.data, place, end)
                if used is not None:
                    self._check_covered(place, end, covered)
                found.append(Region(place, region.offset - place, PADDING if used is None else LEFTOVERS))
            found.append(region)
            place = region.end
        return size, tuple(found[:-1])

    def _check_covered(self, start: int, end: int, covered: Sequence[tuple[int, int]]) -> None:
        """Raise for bytes that are no padding where no signature goes."""
        for first, last in [*sorted(covered), (end, end)]:
            used = first_used(self.data, start, min(first, end))
            if used is not None:
                raise ImageError(
                    f"unknown data at {used:#x}: {self.data[used : used + 8].hex(' ')}. The bytes from {start:#x} to"
                    f" {min(first, end):#x} belong to nothing that is known, and are no padding",
                    hint="No signature would cover them. Sign the image before anything is added to it.",
                )
            start = max(start, last)
