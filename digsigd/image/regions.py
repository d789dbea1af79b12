"""Read a file in small pieces and map it into regions: every byte belongs to something known, or is padding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

from digsigd.hab.csf_blob import MAX_HEADER_LENGTH
from digsigd.image.encryption import encrypted_by
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Patch, Region

# Files of 64 MiB can be mapped, and slices of them are copies.
_CHUNK = 1 << 16
PADDING = "padding"
# mkimage before v2020.07 left the file's old bytes behind a tree, and boards load them with it.
LEFTOVERS = "leftovers, signed unchanged"


def aligned(value: int, to: int) -> int:
    """Return `value` rounded up to a multiple of `to`."""
    return (value + to - 1) // to * to


def first_used(data: Buffer, start: int, end: int) -> int | None:
    """Return the offset of the first byte that is not padding (00, or ff as in erased flash), or None."""
    for place in range(start, end, _CHUNK):
        part = data[place : min(place + _CHUNK, end)]
        rest = part.lstrip(b"\0\xff")
        if rest:
            return place + len(part) - len(rest)
    return None


def last_used(data: Buffer, end: int) -> int:
    """Return the offset just after the last byte before `end` that is not padding (00 or ff), or 0."""
    for place in range((end - 1) // _CHUNK * _CHUNK, -1, -_CHUNK):
        part = data[place : min(place + _CHUNK, end)].rstrip(b"\0\xff")
        if part:
            return place + len(part)
    return 0


def digest(data: Buffer, start: int, length: int) -> bytes:
    """Return the SHA-256 of `length` bytes at `start`."""
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
        """Add a known region; nothing if its length is not positive."""
        if length > 0:
            self.found.append(Region(offset, length, name))

    def add_room(self, offset: int, length: int, name: str) -> None:
        """Add the room for a CSF. Raises `ImageError` if it holds anything but padding or a CSF."""
        held = self.data[offset : min(offset + 4, offset + length)]
        if held[:1] == b"\xd4" and len(held) == 4 and held[3] & 0xF0 == 0x40:
            self.signed.append(f"the {name} at {offset:#x} already holds a CSF, which signing replaces")
            command = encrypted_by(self.data[offset : offset + min(length, MAX_HEADER_LENGTH)])
            if command is not None:
                self.encrypted.append(f"the CSF at {offset:#x} has the command {command}")
        else:
            used = first_used(self.data, offset, min(offset + length, len(self.data)))
            if used is not None:
                raise ImageError(
                    f"at {used:#x}, in the {length:#x} bytes of the {name} at {offset:#x}, is"
                    f" {self.data[used : used + 8].hex(' ')}: neither padding nor a CSF",
                    hint="Build the image again, or sign it before anything else is put there.",
                )
        self.add(offset, length, name)

    def read(self, start: int, length: int, size: int) -> bytes:
        """Return up to `length` bytes at `start` of the file as it is when signed, with `size` bytes in total."""
        end = min(start + length, size)
        found = bytearray(self.data[start : max(start, end)].ljust(max(0, end - start), b"\0"))
        for patch in (*self.patches, *self.masks):
            first, last = max(start, patch.offset), min(end, patch.offset + len(patch.data))
            if first < last:
                found[first - start : last - start] = patch.data[first - patch.offset : last - patch.offset]
        return bytes(found)

    def finish(self, covered: Sequence[tuple[int, int]]) -> tuple[int, tuple[Region, ...]]:
        """Return the size of the signed file in bytes, and all of its regions.

        Bytes between the known regions must be padding or covered by a signature: `covered` are (start, end) pairs.
        Raises `ImageError` if they are not, or if regions overlap.
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
        """Raise `ImageError` for bytes that are neither padding nor covered by a signature."""
        for first, last in [*sorted(covered), (end, end)]:
            used = first_used(self.data, start, min(first, end))
            if used is not None:
                raise ImageError(
                    f"unknown data at {used:#x}: {self.data[used : used + 8].hex(' ')}. The bytes from {start:#x} to"
                    f" {min(first, end):#x} belong to no known part and are not padding",
                    hint="No signature would cover them. Sign the image before you append anything to it.",
                )
            start = max(start, last)
