"""Whether blocks make sense for the file they sign: inside it, over its IVT, apart from its CSF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from digsigd.hab.errors import FormatError, VerificationError
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE, USUAL_PLACES, Block, Ivt, Read, find_ivts, looks_like_ivt

_ENTRY_SIZE = 4
_DCD_HEADER_SIZE = 4
_DCD_TAG = 0xD2
# How much may be signed for each byte of the file. Parts of an image are signed twice (a DCD for its place in serial
# download, a FIT with its tree), and every block costs time here and in cst.
MOST_TIMES_SIGNED = 2
# What the boot data's length counts beyond the CSF is not known; the shortest room that a CSF of HAB4 fits is this.
_SMALLEST_ROOM = 0x400


@dataclass(frozen=True, slots=True)
class Layout:
    """What the blocks cover. `room` is how many bytes the file and its IVT leave for the CSF, None if neither says."""

    ivts: tuple[Ivt, ...]
    room: int | None


def check_layout(commands: Sequence[Sequence[Block]], size: int, read: Read, *, require_ivt: bool = True) -> Layout:
    """Check the blocks of each Authenticate Data command against a file of `size` bytes.

    Raises `VerificationError`, or `FormatError` where the file turns out to be shorter than `size`.
    """
    for blocks in commands:
        _check_inside(blocks, size)
        _check_apart(blocks)
    every = [block for blocks in commands for block in blocks]
    _check_amount(every, size)
    ivts = find_ivts(every, read)
    if not ivts and require_ivt:
        raise VerificationError("ivt", _no_ivt(every, size, read))
    # Serial download brings a DCD by itself, to where the image may be loaded over it afterwards.
    placed = [block for block in every if ivts and not _is_dcd(block, read)]
    rooms = []
    for ivt in ivts:
        _check_pointers(ivt, every, read)
        rooms.append(_room(ivt, every, placed, size, read))
    # Several IVTs (an SPL's and a FIT's, say) have a CSF each; which one this is for, nothing tells. A blob that fits
    # none is wrong for sure.
    wrong = [_wrong_in_memory(ivt, placed, size, read) for ivt in ivts]
    if wrong and all(wrong):
        raise VerificationError("blocks", str(wrong[0]))
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
    # In the file they may: a DCD is signed with its image and once more for where serial download puts it.
    for before, after in pairwise(sorted(blocks, key=lambda block: block.address)):
        if before.address + before.length > after.address:
            raise VerificationError("blocks", f"the blocks {before} and {after} overlap in memory")


def _check_amount(blocks: Sequence[Block], size: int) -> None:
    amount = sum(block.length for block in blocks)
    if amount > MOST_TIMES_SIGNED * size:
        raise VerificationError(
            "blocks",
            f"all blocks together have {amount} bytes, more than {MOST_TIMES_SIGNED} times the {size} of the file",
        )


def _covering(address: int, length: int, blocks: Sequence[Block]) -> int | None:
    """Where in the file these bytes of memory stand by the block that covers them all; None where none does."""
    for block in blocks:
        if block.address <= address and address + length <= block.address + block.length:
            return block.offset + address - block.address
    return None


def _unpacked(form: str, place: int, read: Read) -> tuple[int, ...]:
    data = read(place, struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise FormatError("the file ends early", place + len(data))
    return struct.unpack(form, data)


def _touched(start: int, length: int, blocks: Sequence[Block]) -> bool:
    return any(block.offset < start + length and start < block.end for block in blocks)


def _no_ivt(blocks: Sequence[Block], size: int, read: Read) -> str:
    """Why there is no IVT under the blocks, as well as it can be told."""
    text = "no block covers an IVT, and without that neither boot ROM nor U-Boot accepts the image"
    for place in USUAL_PLACES:
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


def _check_pointers(ivt: Ivt, blocks: Sequence[Block], read: Read) -> None:
    """What the ROM follows from the IVT must be authenticated as well, where the IVT says that it is in memory.

    HABv4 API Reference Manual, "authenticate_image": IVT, DCD, the first byte of the boot data, and the first word at
    the entry point; boards tell of each in an event with the reason HAB_INV_ASSERTION. All of the boot data is asked
    for here: the ROM acts on all of it.
    """
    _check_covered(ivt, "entry point", ivt.entry, _ENTRY_SIZE, blocks)
    if ivt.boot_data:
        # The ROM has them from where it has the IVT.
        with_ivt = [block for block in blocks if block.address - block.offset == ivt.base]
        _check_covered(ivt, "boot data", ivt.boot_data, BOOT_DATA_SIZE, with_ivt)
    if ivt.dcd:
        place = _check_covered(ivt, "DCD", ivt.dcd, _DCD_HEADER_SIZE, blocks)
        _check_covered(ivt, "DCD", ivt.dcd, max(_DCD_HEADER_SIZE, _unpacked(">BHB", place, read)[1]), blocks)
    if not ivt.csf:
        raise VerificationError("ivt", f"the IVT at {ivt.offset:#x} points at no CSF")


def _check_covered(ivt: Ivt, what: str, address: int, length: int, blocks: Sequence[Block]) -> int:
    """Where in the file it is."""
    place = _covering(address, length, blocks)
    if place is None:
        raise VerificationError(
            "ivt",
            f"no block covers the {what} that the IVT at {ivt.offset:#x} points at, {length} bytes in memory at"
            f" {address:#x}, and HAB refuses the image",
        )
    return place


def _wrong_in_memory(ivt: Ivt, blocks: Sequence[Block], size: int, read: Read) -> str | None:
    """Why blocks do not fit what is in memory when HAB checks the CSF of this IVT; None where they do."""
    # Where the ROM has loaded bytes of this file to; it does so only for an IVT with boot data.
    start = end = ivt.base
    if ivt.boot_data:
        image_start, image_length, _ = _unpacked("<3I", ivt.offset_of(ivt.boot_data), read)
        start, end = max(ivt.base, image_start), min(ivt.base + size, image_start + image_length)
    for block in blocks:
        if block.address <= ivt.csf < block.address + block.length:
            return f"the block {block} covers {ivt.csf:#x} in memory, where the IVT at {ivt.offset:#x} has its CSF"
        meets = max(block.address, start) < min(block.address + block.length, end)
        if meets and block.address - block.offset != ivt.base:
            return (
                f"the block {block} is not what the ROM loads to {block.address:#x}: by the IVT at {ivt.offset:#x} and"
                f" its boot data that stands at {ivt.offset_of(block.address):#x} in the file"
            )
    return None


def _is_dcd(block: Block, read: Read) -> bool:
    """Whether a block is a DCD and nothing else."""
    if block.length < _DCD_HEADER_SIZE:
        return False
    tag, length, _ = _unpacked(">BHB", block.offset, read)
    return tag == _DCD_TAG and length == block.length


def _room(ivt: Ivt, blocks: Sequence[Block], placed: Sequence[Block], size: int, read: Read) -> int | None:
    """How many bytes there are for the CSF of this IVT, in the file and in memory; None where nothing bounds it."""
    start = ivt.offset_of(ivt.csf)
    if start < 0:
        raise VerificationError("room", f"the IVT at {ivt.offset:#x} has its CSF before the start of the file")
    if _touched(start, 1, blocks):
        # A signature cannot cover itself. One that covers another image's CSF is another matter: U-Boot's FIT with its
        # FDT signed last does, and that has an IVT of its own.
        raise VerificationError("room", f"a block covers {start:#x}, where the IVT at {ivt.offset:#x} has its CSF")
    ends = [block.offset for block in blocks if block.offset > start]
    ends += [ivt.offset_of(block.address) for block in placed if block.address > ivt.csf]
    if start < size:
        ends.append(size)
    if ivt.boot_data:
        image_start, image_length, _ = _unpacked("<3I", ivt.offset_of(ivt.boot_data), read)
        end = ivt.offset_of(image_start + image_length)
        # imx-mkimage's length counts the CSF in; tools that leave it out put the CSF at its end or beyond.
        if end - start >= _SMALLEST_ROOM:
            ends.append(end)
    return min(ends) - start if ends else None
