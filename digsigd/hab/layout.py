"""Checks blocks against the files they sign: inside the file, over the IVT, in what the ROM loads, not over the CSF."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from digsigd.hab.errors import FormatError, VerificationError
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE, USUAL_PLACES, Block, File, Ivt, find_ivts, looks_like_ivt

_ENTRY_SIZE = 4
_DCD_HEADER_SIZE = 4
_DCD_TAG = 0xD2
# The most bytes to sign for each byte of the files. Parts of an image are signed twice (a DCD also for its address in
# serial download, a FIT with its tree), and every block costs time here and in cst.
MOST_TIMES_SIGNED = 2
# The shortest CSF is longer: an SRK table, a signature over the commands and one over data.
SMALLEST_CSF = 0x400
# Every CSF is shorter than this.
_TOO_LARGE_CSF = 1 << 20
_ADDRESSES = 1 << 32
# The distances of the IVT from the start of what the ROM loads, as on boot devices. System boot chapters of the
# processors' reference manuals, "Image Vector Table offset"; U-Boot, include/imximage.h, FLASH_OFFSET_*.
_IVT_OFFSETS = (0x0, 0x100, 0x400, 0x1000)


@dataclass(frozen=True, slots=True)
class Layout:
    """The IVTs that the blocks cover. `room` is the number of bytes that are left for the CSF, None if unlimited.

    `bound` says what is after the room.
    """

    ivts: tuple[Ivt, ...]
    room: int | None
    bound: str = ""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What the ROM loads for an IVT with boot data: memory from `start` to before `end`."""

    start: int
    end: int
    place: int

    def __str__(self) -> str:
        return f"the boot data at {self.place:#x} in the file make the ROM load {self.start:#x} to {self.end:#x}"


@dataclass(frozen=True, slots=True)
class _Room:
    """The number of bytes for a CSF, and what is after them; `size` is None for no bound."""

    size: int | None
    bound: str = ""


def check_layout(commands: Sequence[Sequence[Block]], files: Sequence[File], *, require_ivt: bool = True) -> Layout:
    """Check the blocks of each Authenticate Data command against the files that they are in.

    With `require_ivt` a block has to cover an IVT. Raises `VerificationError`, or `FormatError` if a file is shorter
    than its size.
    """
    for blocks in commands:
        _check_inside(blocks, files)
        _check_apart(blocks)
    every = [block for blocks in commands for block in blocks]
    _check_amount(every, files)
    ivts = find_ivts(every, files)
    if not ivts and require_ivt:
        raise VerificationError("ivt", _no_ivt(every, files))
    # Serial download writes a DCD separately, to another address.
    dcds = [block for block in every if _is_dcd(block, ivts, files)]
    placed = [block for block in every if block not in dcds]
    found: list[tuple[bool, str | None, _Room]] = []
    for ivt in ivts:
        _check_pointers(ivt, every, placed, files)
        loaded = _loaded(ivt, files)
        room = _room(ivt, loaded, every, placed, files)
        why = _wrong_in_memory(ivt, loaded, dcds, placed, files[ivt.file].size)
        found.append((loaded is not None, why, room))
    # With boot data, the ROM runs the CSF before anything else is in memory: the CSF of a later stage covers no such
    # IVT. Without boot data, a later stage runs the CSF. Several IVTs (such as two of QSPI) have a CSF each, and it is
    # not known for which one this is. A CSF blob that fits none of them is wrong.
    judged = [one for one in found if one[0]] or found
    rooms = [room for _, why, room in judged if why is None]
    if judged and not rooms:
        raise VerificationError("blocks", str(judged[0][1]))
    _check_one_memory(every)
    bounded = [(room.size, room.bound) for room in rooms if room.size is not None]
    if not bounded or len(bounded) < len(rooms):
        return Layout(ivts, None)
    return Layout(ivts, *max(bounded))


def check_room(layout: Layout, blob_length: int) -> None:
    """Check that a CSF blob of this many bytes fits. Raises `VerificationError`."""
    if layout.room is not None and blob_length > layout.room:
        raise VerificationError(
            "room",
            f"the CSF has {blob_length:#x} bytes, but the reserved room is only {layout.room:#x}"
            + (f": then {layout.bound}" if layout.bound else ""),
        )


def _check_inside(blocks: Sequence[Block], files: Sequence[File]) -> None:
    if not blocks:
        raise VerificationError("blocks", "there is no block to sign")
    for block in blocks:
        size = files[block.file].size
        if block.length <= 0 or block.offset < 0:
            raise VerificationError("blocks", f"the block {block} is empty")
        if block.end > size:
            raise VerificationError("blocks", f"the block {block} ends at {block.end:#x}, but the file at {size:#x}")
        if block.address + block.length > _ADDRESSES:
            raise VerificationError("blocks", f"the block {block} ends beyond the 32-bit address space")


def _check_apart(blocks: Sequence[Block]) -> None:
    # In the file they can overlap: a DCD is signed with its image and again for its address in serial download.
    for before, after in pairwise(sorted(blocks, key=lambda block: block.address)):
        if before.address + before.length > after.address:
            raise VerificationError("blocks", f"the blocks {before} and {after} overlap in memory")


def _check_one_memory(blocks: Sequence[Block]) -> None:
    # HAB runs all commands on the memory as it is: nothing is loaded between two of them.
    for one, other in combinations(blocks, 2):
        apart = one.address + one.length <= other.address or other.address + other.length <= one.address
        if not apart and (one.file, one.address - one.offset) != (other.file, other.address - other.offset):
            raise VerificationError(
                "blocks",
                f"the blocks {one} and {other} overlap in memory but have different bytes there; both have to be in"
                " memory, and what is loaded later needs a separate CSF",
            )


def _check_amount(blocks: Sequence[Block], files: Sequence[File]) -> None:
    amount, size = sum(block.length for block in blocks), sum(file.size for file in files)
    if amount > MOST_TIMES_SIGNED * size:
        what = "file" if len(files) == 1 else "files"
        raise VerificationError(
            "blocks",
            f"all blocks together have {amount} bytes, more than {MOST_TIMES_SIGNED} times the {size} of the {what}",
        )


def _covering(address: int, length: int, blocks: Sequence[Block]) -> tuple[int, int] | None:
    """Return file and offset of these bytes of memory, by the block that covers all of them, or None.

    One block has to cover them: HABv4 API Reference Manual, "Assert".
    """
    for block in blocks:
        if block.address <= address and address + length <= block.address + block.length:
            return block.file, block.offset + address - block.address
    return None


def _unpacked(form: str, file: File, place: int) -> tuple[int, ...]:
    data = file.read(place, struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise FormatError("the file ends early", place + len(data))
    return struct.unpack(form, data)


def _no_ivt(blocks: Sequence[Block], files: Sequence[File]) -> str:
    """Return the reason why no block covers an IVT, with the IVT that is probably meant."""
    text = "no block covers an IVT, without which neither boot ROM nor U-Boot accepts the image"
    for number, file in enumerate(files):
        for place in USUAL_PLACES:
            data = file.read(place, IVT_SIZE)
            if not looks_like_ivt(data):
                continue
            ivt = Ivt.parse(data, place, number)
            for block in blocks:
                if block.file == number and block.offset <= place and place + IVT_SIZE <= block.end:
                    loaded = block.address + place - block.offset
                    return (
                        f"{text}: the IVT at {place:#x} in the file is for address {ivt.self_address:#x}, but the"
                        f" block {block} puts it at {loaded:#x}"
                    )
            return f"{text}: there is one at {place:#x} in the file, for the address {ivt.self_address:#x}"
    return text


def _check_pointers(ivt: Ivt, blocks: Sequence[Block], placed: Sequence[Block], files: Sequence[File]) -> None:
    """Check that blocks cover what the IVT points to, where it is in memory.

    HABv4 API Reference Manual, "authenticate_image": IVT, DCD, the first byte of the boot data, and the first word at
    the entry point; boards report each in an event with the reason HAB_INV_ASSERTION. Here all of the boot data has to
    be covered: the ROM acts on all of it.
    """
    _check_covered(ivt, "entry point", ivt.entry, _ENTRY_SIZE, placed)
    if ivt.boot_data:
        # The ROM reads them from the device, like the IVT.
        with_ivt = [block for block in blocks if _follows(ivt, block)]
        _check_covered(ivt, "boot data", ivt.boot_data, BOOT_DATA_SIZE, with_ivt)
    if ivt.dcd:
        file, place = _check_covered(ivt, "DCD", ivt.dcd, _DCD_HEADER_SIZE, blocks)
        length = max(_DCD_HEADER_SIZE, _unpacked(">BHB", files[file], place)[1])
        _check_covered(ivt, "DCD", ivt.dcd, length, blocks)
    if not ivt.csf:
        raise VerificationError("ivt", f"the IVT at {ivt.offset:#x} does not point at a CSF")


def _follows(ivt: Ivt, block: Block) -> bool:
    """Return whether a block's address and offset are as far apart as those of the IVT."""
    return block.file == ivt.file and block.address - block.offset == ivt.base


def _check_covered(ivt: Ivt, what: str, address: int, length: int, blocks: Sequence[Block]) -> tuple[int, int]:
    """Return the number of the file, and the offset. Raises `VerificationError` if no block covers the bytes."""
    place = _covering(address, length, blocks)
    if place is None:
        raise VerificationError(
            "ivt",
            f"no block covers the {what} that the IVT at {ivt.offset:#x} points to, {length} bytes in memory at"
            f" {address:#x}: HAB refuses the image",
        )
    return place


def _loaded(ivt: Ivt, files: Sequence[File]) -> _Loaded | None:
    """Return what the ROM loads; None for an IVT without boot data, whose image a later stage loads."""
    if not ivt.boot_data:
        return None
    place = ivt.offset_of(ivt.boot_data)
    start, length, _ = _unpacked("<3I", files[ivt.file], place)
    return _Loaded(start, start + length, place)


def _wrong_in_memory(
    ivt: Ivt, loaded: _Loaded | None, dcds: Sequence[Block], placed: Sequence[Block], size: int
) -> str | None:
    """Return why blocks do not fit what is in memory when HAB checks the CSF of this IVT, or None."""
    for block in (*placed, *dcds):
        if block.address <= ivt.csf < block.address + block.length:
            return f"the block {block} covers {ivt.csf:#x} in memory, where the IVT at {ivt.offset:#x} has its CSF"
    return None if loaded is None else _wrong_for_rom(ivt, loaded, dcds, placed, size)


def _wrong_for_rom(ivt: Ivt, loaded: _Loaded, dcds: Sequence[Block], placed: Sequence[Block], size: int) -> str | None:
    """Return why the ROM refuses these blocks with what it loads, or None: HABv4 API Reference Manual, 3.4.

    IVT, DCD, boot data and CSF have to be within the bounds of the image, which the boot data give. Nothing else is in
    memory yet.
    """
    if ivt.self_address - loaded.start not in _IVT_OFFSETS:
        return (
            f"{loaded}, but the IVT at {ivt.offset:#x} is for {ivt.self_address:#x}: it must be at the start, or"
            f" {', '.join(f'{one:#x}' for one in _IVT_OFFSETS[1:])} after it, as on boot devices"
        )
    if loaded.end > _ADDRESSES:
        return f"{loaded}, which is beyond the 32-bit address space; the length there counts the image and its CSF"
    # The addresses that this file fills, of what is loaded.
    known_start, known_end = max(ivt.base, loaded.start), min(ivt.base + size, loaded.end)
    for block in placed:
        end = block.address + block.length
        if block.address < loaded.start or end > loaded.end:
            return (
                f"{loaded}, but the block {block} is outside of that: the ROM finds other bytes there. Boot data count"
                " the whole image and its CSF; what is loaded later needs a separate CSF"
            )
        if max(block.address, known_start) < min(end, known_end) and not _follows(ivt, block):
            return (
                f"the block {block} is not what the ROM loads to {block.address:#x}: by the IVT at {ivt.offset:#x} and"
                f" its boot data that is at {ivt.offset_of(block.address):#x} in the file"
            )
    for block in dcds:
        # Serial download does not send what boot devices have before the IVT, so the DCD can be there.
        if not _follows(ivt, block) and block.address < loaded.end and known_start < block.address + block.length:
            return (
                f"the block {block} is a DCD at {block.address:#x}, where the image and its CSF are loaded:"
                f" {known_start:#x} to {loaded.end:#x}. Both have to be in memory; give the address to which the DCD is"
                " downloaded"
            )
    if not loaded.start <= ivt.csf <= loaded.end - SMALLEST_CSF:
        return (
            f"{loaded}, but the IVT at {ivt.offset:#x} has its CSF at {ivt.csf:#x}: it would not be loaded whole, and"
            " HAB refuses the image; add the room for the CSF to the length in the boot data"
        )
    return None


def _is_dcd(block: Block, ivts: Sequence[Ivt], files: Sequence[File]) -> bool:
    """Return whether a block is only the DCD of one of these IVTs.

    An IVT for serial download has no pointer to its DCD, because the tools clear it: then any DCD counts.
    """
    if block.length < _DCD_HEADER_SIZE:
        return False
    tag, length, _ = _unpacked(">BHB", files[block.file], block.offset)
    if tag != _DCD_TAG or length != block.length:
        return False
    data = files[block.file].read(block.offset, length)
    return any(not ivt.dcd or _at(ivt, ivt.dcd, length, files) == data for ivt in ivts)


def _at(ivt: Ivt, address: int, length: int, files: Sequence[File]) -> bytes:
    """Return the bytes at this address from the file of an IVT; b"" for an address before the file."""
    place = ivt.offset_of(address)
    return files[ivt.file].read(place, length) if place >= 0 else b""


def _room(
    ivt: Ivt, loaded: _Loaded | None, blocks: Sequence[Block], placed: Sequence[Block], files: Sequence[File]
) -> _Room:
    """Return the room for the CSF of this IVT, in the file and in memory. Raises `VerificationError` without a room."""
    start, size = ivt.offset_of(ivt.csf), files[ivt.file].size
    if start < 0:
        raise VerificationError("room", f"the IVT at {ivt.offset:#x} has its CSF before the start of the file")
    own = [block for block in blocks if block.file == ivt.file]
    if any(block.offset <= start < block.end for block in own):
        # A signature cannot cover itself. It can cover the CSF of another IVT: that of U-Boot's FIT with its FDT, which
        # is signed last, does.
        raise VerificationError("room", f"a block covers {start:#x}, where the IVT at {ivt.offset:#x} has its CSF")
    ends = [(block.offset, f"the block {block} begins") for block in own if block.offset > start]
    ends += [
        (ivt.offset_of(block.address), f"the block {block} begins in memory")
        for block in placed
        if block.address > ivt.csf
    ]
    if start < size:
        ends.append((size, "the file ends"))
    if loaded is not None:
        ends.append((ivt.offset_of(loaded.end), f"what the ROM loads ends ({loaded})"))
    if _ADDRESSES - ivt.csf < _TOO_LARGE_CSF:
        ends.append((ivt.offset_of(_ADDRESSES), "the 32-bit address space ends"))
    if not ends:
        return _Room(None)
    end, bound = min(ends)
    return _Room(end - start, bound)
