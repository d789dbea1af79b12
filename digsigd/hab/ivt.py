"""Blocks, and the Image Vector Table that the boot ROM starts from.

Format: HABv4 API Reference Manual, "Image Vector Table" and "Boot data"; little-endian words.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from digsigd.hab.errors import FormatError

IVT_SIZE = 0x20
BOOT_DATA_SIZE = 12
# Where an IVT can be in a file, besides at the ends of a block: NXP's boot devices have it at these offsets (i.MX 8M
# reference manuals, "Image Vector Table offset"), and FITs and kernels on a multiple of 4 KiB.
USUAL_PLACES = (0x0, 0x400, *range(0x1000, 0x10001, 0x1000))
# Tag 0xD1, length 0x0020 (big endian), then the version: 0x40 to 0x43 have been seen.
_IVT_START = b"\xd1\x00\x20"

# read(offset, length) returns bytes of a signed file, fewer at its end.
Read: TypeAlias = Callable[[int, int], bytes]


class Contents(Protocol):
    """Bytes, or a mapped file: an object whose slices are bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class Readable(Protocol):
    """A file with `read(offset, length)`, which returns bytes: at least one unless it is at or behind the end."""

    def read(self, offset: int, length: int, /) -> bytes:
        """Return `length` bytes at `offset`, fewer at the end."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of `size` bytes that has blocks to sign."""

    size: int
    read: Read

    @classmethod
    def of(cls, data: Contents) -> File:
        """Make a file from bytes or from a mapped file."""
        return cls(len(data), lambda offset, length: data[offset : offset + length])


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a signed file: `length` bytes at `offset`, which are at `address` when the ROM checks them.

    `file` is the number of the file, from 0, where several files are signed together.
    """

    address: int
    offset: int
    length: int
    file: int = 0

    @property
    def end(self) -> int:
        """The file offset just after it."""
        return self.offset + self.length

    def __str__(self) -> str:
        return f"{self.address:#x} {self.offset:#x} {self.length:#x}"


@dataclass(frozen=True, slots=True)
class Ivt:
    """An Image Vector Table at `offset` of the file number `file`. Addresses are those in memory."""

    offset: int
    entry: int
    dcd: int
    boot_data: int
    self_address: int
    csf: int
    file: int = 0

    @classmethod
    def parse(cls, data: bytes, offset: int = 0, file: int = 0) -> Ivt:
        """Read the 32 bytes of an IVT. Raises `FormatError`."""
        if len(data) != IVT_SIZE:
            raise FormatError(f"an IVT has {IVT_SIZE} bytes, not {len(data)}", offset)
        if data[:3] != _IVT_START or data[3] & 0xF0 != 0x40:
            raise FormatError(f"an IVT begins with d1 00 20 4x, not {data[:4].hex(' ')}", offset)
        entry, _, dcd, boot_data, self_address, csf, _ = struct.unpack_from("<7I", data, 4)
        return cls(offset, entry, dcd, boot_data, self_address, csf, file)

    @property
    def base(self) -> int:
        """The address of the file's first byte, if the file is loaded as one with its IVT. It can be negative."""
        return self.self_address - self.offset

    def offset_of(self, address: int) -> int:
        """Return the file offset of an address near the IVT; negative for an address before the file."""
        return address - self.base


def looks_like_ivt(data: bytes) -> bool:
    """Return whether these bytes begin like an IVT."""
    return data[:3] == _IVT_START and len(data) >= IVT_SIZE and data[3] & 0xF0 == 0x40


def find_ivts(blocks: Sequence[Block], files: Sequence[File]) -> tuple[Ivt, ...]:
    """Return the IVTs that blocks cover whole: at the start of a block or in its last 32 bytes, else at a usual place.

    An SPL's block starts with its IVT; the block of a FIT tree or a kernel ends with it; barebox's blocks can start
    0x400 bytes before it. Only an IVT with the address at which its block is counts. Usual places come last, because a
    block can cover another image whole, with its IVT and CSF: that of U-Boot's FIT with its FDT does.
    """
    ends = ((block, place) for block in blocks for place in (block.offset, block.end - IVT_SIZE))
    return _matching(ends, files) or _matching(((block, place) for place in USUAL_PLACES for block in blocks), files)


def _matching(places: Iterable[tuple[Block, int]], files: Sequence[File]) -> tuple[Ivt, ...]:
    """Return the IVTs at these places, each inside its block, in the order of the files."""
    found: dict[tuple[int, int], Ivt] = {}
    seen: dict[tuple[int, int], bytes] = {}
    for block, place in places:
        if place < block.offset or place + IVT_SIZE > block.end:
            continue
        key = block.file, place
        if key not in seen:
            seen[key] = files[block.file].read(place, IVT_SIZE)
        if looks_like_ivt(seen[key]):
            ivt = Ivt.parse(seen[key], place, block.file)
            if ivt.self_address == block.address + place - block.offset:
                found[key] = ivt
    return tuple(found[key] for key in sorted(found))


def digest_blocks(
    algorithm: str, blocks: Sequence[Block], files: Sequence[Readable], chunk: int = 1 << 20, begun: Any = None
) -> bytes:
    """Return the digest over the contents of the blocks, one after the other, read `chunk` bytes at a time.

    `begun` is a digest of hashlib to continue. Raises `FormatError` if a file ends inside a block.
    """
    digest = hashlib.new(algorithm) if begun is None else begun
    for block in blocks:
        position = block.offset
        while position < block.end:
            data = files[block.file].read(position, min(chunk, block.end - position))
            if not data:
                raise FormatError(f"the file ends inside the block {block}", position)
            digest.update(data)
            position += len(data)
    result: bytes = digest.digest()
    return result
