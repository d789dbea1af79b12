"""Whether blocks make sense for the file they sign: inside it, over its IVT, apart from its CSF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from digsigd.hab.errors import VerificationError
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE, Block, Ivt, Read, find_ivts, looks_like_ivt

# Where an IVT may stand in a file whose blocks miss it: NXP's boot devices have it at these offsets (i.MX 8M reference
# manuals, "Image Vector Table offset"), and FITs and kernels on a multiple of 4 KiB.
_USUAL_PLACES = (0x0, 0x400, *range(0x1000, 0x10001, 0x1000))
# What the boot data's length counts beyond the CSF is not known; the shortest room that a CSF of HAB4 fits is this.
_SMALLEST_ROOM = 0x400


@dataclass(frozen=True, slots=True)
class Layout:
    """What the blocks cover. `room` is how many bytes the file and its IVT leave for the CSF, None if neither says."""

    ivts: tuple[Ivt, ...]
    room: int | None


def check_layout(commands: Sequence[Sequence[Block]], size: int, read: Read, *, require_ivt: bool = True) -> Layout:
    """Check the blocks of each Authenticate Data command against a file of `size` bytes.

    Raises `VerificationError`.
    """
    for blocks in commands:
        _check_inside(blocks, size)
        _check_apart(blocks)
    every = [block for blocks in commands for block in blocks]
    ivts = find_ivts(every, read)
    if not ivts and require_ivt:
        raise VerificationError("ivt", _no_ivt(every, size, read))
    rooms = []
    for ivt in ivts:
        _check_pointers(ivt, every, size, read)
        rooms.append(_room(ivt, every, size, read))
    # Several IVTs (an SPL's and a FIT's, say) have a CSF each; which one this is for, nothing tells. A blob that fits
    # none is wrong for sure.
    bounds = [room for room in rooms if room is not None]
    return Layout(ivts, max(bounds) if bounds and len(bounds) == len(rooms) else None)


def check_room(layout: Layout, blob_length: int) -> None:
    """Check that a CSF blob of this many bytes fits. Raises `VerificationError`."""
    if layout.room is not None and blob_length > layout.room:
        raise VerificationError("room", f"the CSF has {blob_length:#x} bytes, the room for it only {layout.room:#x}")


def _check_inside(blocks: Sequence[Block], size: int) -> None:
    if not blocks:
        raise VerificationError("blocks", "there is no block to sign")
    for block in blocks:
        if block.length <= 0 or block.offset < 0:
            raise VerificationError("blocks", f"the block {block} is empty")
        if block.end > size:
            raise VerificationError("blocks", f"the block {block} ends at {block.end:#x}, the file at {size:#x}")
        if block.address + block.length > 1 << 32:
            raise VerificationError("blocks", f"the block {block} ends beyond the 32-bit address space")


def _check_apart(blocks: Sequence[Block]) -> None:
    for key, what in (("offset", "in the file"), ("address", "in memory")):
        ordered = sorted(blocks, key=lambda block: getattr(block, key))
        for before, after in pairwise(ordered):
            if getattr(before, key) + before.length > getattr(after, key):
                raise VerificationError("blocks", f"the blocks {before} and {after} overlap {what}")


def _covered(start: int, length: int, blocks: Sequence[Block]) -> bool:
    """Whether one block covers all these bytes of the file."""
    return any(block.offset <= start and start + length <= block.end for block in blocks)


def _touched(start: int, length: int, blocks: Sequence[Block]) -> bool:
    return any(block.offset < start + length and start < block.end for block in blocks)


def _no_ivt(blocks: Sequence[Block], size: int, read: Read) -> str:
    """Why there is no IVT under the blocks, as well as it can be told."""
    text = "no block covers an IVT, and without that neither boot ROM nor U-Boot accepts the image"
    for place in _USUAL_PLACES:
        if place + IVT_SIZE > size:
            break
        data = read(place, IVT_SIZE)
        if not looks_like_ivt(data):
            continue
        ivt = Ivt.parse(data, place)
        for block in blocks:
            if block.offset <= place and place + IVT_SIZE <= block.end:
                loaded = block.address + place - block.offset
                return (
                    f"{text}: the IVT at {place:#x} in the file says it is loaded to {ivt.self_address:#x}, the block"
                    f" {block} puts it at {loaded:#x}"
                )
        return f"{text}: there is one at {place:#x} in the file, for the address {ivt.self_address:#x}"
    return text


def _check_pointers(ivt: Ivt, blocks: Sequence[Block], size: int, read: Read) -> None:
    """What the ROM follows from the IVT must be covered as well: boot data and DCD, where they are in the file."""
    for name, address, length in (("boot data", ivt.boot_data, BOOT_DATA_SIZE), ("DCD", ivt.dcd, 4)):
        if not address:
            continue
        start = ivt.offset_of(address)
        if name == "DCD" and start >= 0 and start + 4 <= size:
            length = max(4, struct.unpack_from(">H", read(start, 4), 1)[0])
        if start >= 0 and start + length <= size and not _covered(start, length, blocks):
            raise VerificationError("ivt", f"no block covers the {name} that the IVT at {ivt.offset:#x} points at")
    if not ivt.csf:
        raise VerificationError("ivt", f"the IVT at {ivt.offset:#x} points at no CSF")


def _room(ivt: Ivt, blocks: Sequence[Block], size: int, read: Read) -> int | None:
    """How many bytes there are for the CSF of this IVT; None where nothing bounds it."""
    start = ivt.offset_of(ivt.csf)
    if start < 0:
        raise VerificationError("room", f"the IVT at {ivt.offset:#x} has its CSF before the start of the file")
    if _touched(start, 1, blocks):
        # A signature cannot cover itself. One that covers another image's CSF is another matter: U-Boot's FIT with its
        # FDT signed last does, and that has an IVT of its own.
        raise VerificationError("room", f"a block covers {start:#x}, where the IVT at {ivt.offset:#x} has its CSF")
    ends = [block.offset for block in blocks if block.offset > start]
    if start < size:
        ends.append(size)
    place = ivt.offset_of(ivt.boot_data) if ivt.boot_data else -1
    if place >= 0 and place + BOOT_DATA_SIZE <= size:
        image_start, image_length, _ = struct.unpack("<3I", read(place, BOOT_DATA_SIZE))
        end = ivt.offset_of(image_start + image_length)
        # imx-mkimage's length counts the CSF in; tools that leave it out put the CSF at its end or beyond.
        if end - start >= _SMALLEST_ROOM:
            ends.append(end)
    return min(ends) - start if ends else None
