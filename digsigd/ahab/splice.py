"""Takes a container out of a file for cst, and puts the signed one back.

cst looks at no image: of a file with nothing but the container's header it makes the same container as of the whole
file (measured with cst 3.4.1 and 4.0.1).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from digsigd.ahab.errors import VerificationError
from digsigd.ahab.find import find
from digsigd.ahab.model import BLOCK_TAG, Buffer, Container
from digsigd.ahab.read import BLOCK_HEADER_SIZE, parse

_CHUNK = 1 << 20
# cst reads and writes whole files; where its block ends, the file may not end yet.
_STUB_SIZE = 0x4000
# What a signer writes in a header: length (bytes 1 and 2) and flags (4 to 7).
_WRITTEN = ((1, 3), (4, 8))


def stub(data: Buffer, container: Container) -> bytes:
    """Return a small file for cst: the container's header and images' entries at 0, an empty block, zeros.

    Its `Offsets` are `0x0` and the container's `block_offset`. Nothing else of the file is in it.
    """
    head = data[container.offset : container.offset + container.block_offset]
    block = struct.pack("<BHB12x", 0, BLOCK_HEADER_SIZE, BLOCK_TAG)
    return (head + block).ljust(_STUB_SIZE, b"\0")


def spliced(container: Container, signed: bytes, data: Buffer) -> bytes:
    """Return the bytes of the signed container, which go to `container.offset` of the file `data`.

    `signed` is what cst wrote for the stub. Raises `FormatError` if it is no container, `VerificationError` if anything
    but length, flags and block of the header has changed.
    """
    new = parse(signed)
    before = data[container.offset : container.offset + container.block_offset]
    after = signed[: new.block_offset]
    if _fixed(before) != _fixed(after):
        raise VerificationError("header", "the signed container has another header than the file's")
    return bytes(signed[: new.length])


def check_room(
    data: Buffer, container: Container, new_length: int, *, containers: Sequence[Container] | None = None
) -> None:
    """Check that a container of `new_length` bytes fits in the place of `container`.

    `containers` are those of the file, if they are known already. Raises `VerificationError` if it reaches over the end
    of the file, into another container or into an image of any.
    """
    end = container.offset + new_length
    if end > len(data):
        raise VerificationError(
            "room", f"the signed container ends at {end:#x}, the file at {len(data):#x}",
            hint="Pad the file: imx-mkimage leaves room when it pads images.",
        )  # fmt: skip
    others = [container, *(one for one in containers or find(data) if one.offset != container.offset)]
    for one in others:
        if one is not container and container.offset < one.end and one.offset < end:
            raise VerificationError(
                "room",
                f"the signed container, {container.offset:#x} to {end:#x}, overwrites the one at {one.offset:#x}",
                hint="Use keys with a shorter signature block, or fewer images in the container.",
            )
        for image in one.images:
            start = one.offset + image.offset
            if image.size and start < end and container.offset < start + image.size:
                raise VerificationError(
                    "room",
                    f"the signed container, {container.offset:#x} to {end:#x}, overwrites image {image.number} of the"
                    f" container at {one.offset:#x}, which begins at {start:#x}",
                )


def check_unchanged(before: Buffer, after: Buffer, container: Container) -> None:
    """Check that signing changed nothing but the header's length and flags, and the block, of `container`.

    `container` is the signed one, in `after`. Raises `VerificationError`.
    """
    if len(before) != len(after):
        raise VerificationError("unchanged", f"the file had {len(before):#x} bytes, and has {len(after):#x}")
    start = container.offset
    place = 0
    allowed = [(start + first, start + last) for first, last in _WRITTEN]
    for first, last in (*allowed, (start + container.block_offset, container.end), (len(after), len(after))):
        while place < first:
            end = min(place + _CHUNK, first)
            if before[place:end] != after[place:end]:
                changed = next(n for n in range(place, end) if before[n : n + 1] != after[n : n + 1])
                raise VerificationError(
                    "unchanged",
                    f"the byte at {changed:#x} of the file was changed, outside of what signing the container at"
                    f" {start:#x} changes",
                )
            place = end
        place = last
    check_room(before, container, container.length)


def _fixed(head: bytes) -> bytes:
    """Return a header without what a signer writes."""
    return head[:1] + head[3:4] + head[8:]
