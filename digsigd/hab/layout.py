"""Whether blocks make sense for the files they sign: inside, over the IVT, in what the ROM loads, off the CSF."""

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
# How much may be signed for each byte of the files. Parts of an image are signed twice (a DCD for its place in serial
# download, a FIT with its tree), and every block costs time here and in cst.
MOST_TIMES_SIGNED = 2
# The shortest CSF there is has more: an SRK table, a signature over the commands and one over data.
SMALLEST_CSF = 0x400
# Nor is there one as large as this.
_TOO_LARGE_CSF = 1 << 20
_ADDRESSES = 1 << 32
# How far behind the start of what the ROM loads the IVT stands: where boot devices have it. System boot chapters of
# the processors' reference manuals, "Image Vector Table offset"; U-Boot, include/imximage.h, FLASH_OFFSET_*.
_IVT_OFFSETS = (0x0, 0x100, 0x400, 0x1000)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the blocks cover. `room` is how many bytes files and IVTs leave for the CSF, None if nothing bounds it.

    `bound` says what does.
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
    """How many bytes there are for a CSF, and what comes then; `size` is None where nothing does."""

    size: int | None
    bound: str = ""


def check_layout(commands: Sequence[Sequence[Block]], files: Sequence[File], *, require_ivt: bool = True) -> Layout:
    """Check the blocks of each Authenticate Data command against the files that they are taken from.

    Raises `VerificationError`, or `FormatError` where a file turns out to be shorter than its size.
    """
    for blocks in commands:
        _check_inside(blocks, files)
        _check_apart(blocks)
    every = [block for blocks in commands for block in blocks]
    _check_amount(every, files)
    ivts = find_ivts(every, files)
    if not ivts and require_ivt:
        raise VerificationError("ivt", _no_ivt(every, files))
    # Serial download brings a DCD by itself, to a place of its own.
    dcds = [block for block in every if _is_dcd(block, ivts, files)]
    placed = [block for block in every if block not in dcds]
    found: list[tuple[bool, str | None, _Room]] = []
    for ivt in ivts:
        _check_pointers(ivt, every, placed, files)
        loaded = _loaded(ivt, files)
        room = _room(ivt, loaded, every, placed, files)
        why = _wrong_in_memory(ivt, loaded, dcds, placed, files[ivt.file].size)
        found.append((loaded is not None, why, room))
    # With boot data it is the ROM that runs the CSF, before there is anything else in memory: the CSF of a later stage
    # covers no such IVT. Without, it is a later stage's. Several IVTs (two of QSPI, say) have a CSF each; which one
    # this is for, nothing tells. A blob that fits none is wrong for sure.
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
            raise VerificationError("blocks", f"the block {block} ends at {block.end:#x}, the file at {size:#x}")
        if block.address + block.length > _ADDRESSES:
            raise VerificationError("blocks", f"the block {block} ends beyond the 32-bit address space")


def _check_apart(blocks: Sequence[Block]) -> None:
    # In the file they may: a DCD is signed with its image and once more for where serial download puts it.
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
                f"the blocks {one} and {other} overlap in memory and are not the same there; one memory cannot hold"
                " both, and what is loaded later is signed by a CSF of its own",
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
    """File and offset of these bytes of memory by the block that covers them all; None where none does.

    One block has to: HABv4 API Reference Manual, "Assert".
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
    """Why there is no IVT under the blocks, as well as it can be told."""
    text = "no block covers an IVT, and without that neither boot ROM nor U-Boot accepts the image"
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
                        f"{text}: the IVT at {place:#x} in the file says it is loaded to {ivt.self_address:#x}, the"
                        f" block {block} puts it at {loaded:#x}"
                    )
            return f"{text}: there is one at {place:#x} in the file, for the address {ivt.self_address:#x}"
    return text


def _check_pointers(ivt: Ivt, blocks: Sequence[Block], placed: Sequence[Block], files: Sequence[File]) -> None:
    """What the ROM follows from the IVT must be authenticated as well, where the IVT says that it is in memory.

    HABv4 API Reference Manual, "authenticate_image": IVT, DCD, the first byte of the boot data, and the first word at
    the entry point; boards tell of each in an event with the reason HAB_INV_ASSERTION. All of the boot data is asked
    for here: the ROM acts on all of it.
    """
    _check_covered(ivt, "entry point", ivt.entry, _ENTRY_SIZE, placed)
    if ivt.boot_data:
        # The ROM has them from where it has the IVT.
        with_ivt = [block for block in blocks if _follows(ivt, block)]
        _check_covered(ivt, "boot data", ivt.boot_data, BOOT_DATA_SIZE, with_ivt)
    if ivt.dcd:
        file, place = _check_covered(ivt, "DCD", ivt.dcd, _DCD_HEADER_SIZE, blocks)
        length = max(_DCD_HEADER_SIZE, _unpacked(">BHB", files[file], place)[1])
        _check_covered(ivt, "DCD", ivt.dcd, length, blocks)
    if not ivt.csf:
        raise VerificationError("ivt", f"the IVT at {ivt.offset:#x} points at no CSF")


def _follows(ivt: Ivt, block: Block) -> bool:
    """Whether a block stands in memory where the file's place of the IVT puts it."""
    return block.file == ivt.file and block.address - block.offset == ivt.base


def _check_covered(ivt: Ivt, what: str, address: int, length: int, blocks: Sequence[Block]) -> tuple[int, int]:
    """Which file it is in, and where."""
    place = _covering(address, length, blocks)
    if place is None:
        raise VerificationError(
            "ivt",
            f"no block covers the {what} that the IVT at {ivt.offset:#x} points at, {length} bytes in memory at"
            f" {address:#x}, and HAB refuses the image",
        )
    return place


def _loaded(ivt: Ivt, files: Sequence[File]) -> _Loaded | None:
    """What the ROM loads; None for an IVT without boot data, whose image somebody else loads."""
    if not ivt.boot_data:
        return None
    place = ivt.offset_of(ivt.boot_data)
    start, length, _ = _unpacked("<3I", files[ivt.file], place)
    return _Loaded(start, start + length, place)


def _wrong_in_memory(
    ivt: Ivt, loaded: _Loaded | None, dcds: Sequence[Block], placed: Sequence[Block], size: int
) -> str | None:
    """Why blocks do not fit what is in memory when HAB checks the CSF of this IVT; None where they do."""
    for block in (*placed, *dcds):
        if block.address <= ivt.csf < block.address + block.length:
            return f"the block {block} covers {ivt.csf:#x} in memory, where the IVT at {ivt.offset:#x} has its CSF"
    return None if loaded is None else _wrong_for_rom(ivt, loaded, dcds, placed, size)


def _wrong_for_rom(ivt: Ivt, loaded: _Loaded, dcds: Sequence[Block], placed: Sequence[Block], size: int) -> str | None:
    """Why the ROM refuses these blocks with what it loads itself: HABv4 API Reference Manual, 3.4.

    IVT, DCD, boot data and CSF lie within the bounds of the image, which the boot data give; and there is nothing else
    in memory yet.
    """
    if ivt.self_address - loaded.start not in _IVT_OFFSETS:
        return (
            f"{loaded}, and the IVT at {ivt.offset:#x} is for {ivt.self_address:#x}: it stands at the start, or"
            f" {', '.join(f'{one:#x}' for one in _IVT_OFFSETS[1:])} behind it, as boot devices have it"
        )
    if loaded.end > _ADDRESSES:
        return f"{loaded}, which is beyond the 32-bit address space; the length there counts the image and its CSF"
    # Of what is loaded, this file tells these addresses.
    known_start, known_end = max(ivt.base, loaded.start), min(ivt.base + size, loaded.end)
    for block in placed:
        end = block.address + block.length
        if block.address < loaded.start or end > loaded.end:
            return (
                f"{loaded}, and the block {block} is outside of that: the ROM finds other bytes there. Boot data count"
                " the whole image and its CSF; what is loaded later is signed by a CSF of its own"
            )
        if max(block.address, known_start) < min(end, known_end) and not _follows(ivt, block):
            return (
                f"the block {block} is not what the ROM loads to {block.address:#x}: by the IVT at {ivt.offset:#x} and"
                f" its boot data that stands at {ivt.offset_of(block.address):#x} in the file"
            )
    for block in dcds:
        # Before the IVT, boot devices have other things: serial download does not bring them, and may have it there.
        if not _follows(ivt, block) and block.address < loaded.end and known_start < block.address + block.length:
            return (
                f"the block {block} is a DCD at {block.address:#x}, where the image itself and its CSF are loaded:"
                f" {known_start:#x} to {loaded.end:#x}. One memory cannot hold both; give the place that the DCD is"
                " downloaded to"
            )
    if not loaded.start <= ivt.csf <= loaded.end - SMALLEST_CSF:
        return (
            f"{loaded}, and the IVT at {ivt.offset:#x} has its CSF at {ivt.csf:#x}: it would not be loaded whole, and"
            " HAB refuses the image; add the room for the CSF to the length in the boot data"
        )
    return None


def _is_dcd(block: Block, ivts: Sequence[Ivt], files: Sequence[File]) -> bool:
    """Whether a block is the DCD of one of these IVTs and nothing else.

    An IVT for serial download points at none, since the tools that download do so: then it may be any.
    """
    if block.length < _DCD_HEADER_SIZE:
        return False
    tag, length, _ = _unpacked(">BHB", files[block.file], block.offset)
    if tag != _DCD_TAG or length != block.length:
        return False
    data = files[block.file].read(block.offset, length)
    return any(not ivt.dcd or _at(ivt, ivt.dcd, length, files) == data for ivt in ivts)


def _at(ivt: Ivt, address: int, length: int, files: Sequence[File]) -> bytes:
    """What the file of an IVT has for this address; nothing where that is before it."""
    place = ivt.offset_of(address)
    return files[ivt.file].read(place, length) if place >= 0 else b""


def _room(
    ivt: Ivt, loaded: _Loaded | None, blocks: Sequence[Block], placed: Sequence[Block], files: Sequence[File]
) -> _Room:
    """The room for the CSF of this IVT, in the file and in memory."""
    start, size = ivt.offset_of(ivt.csf), files[ivt.file].size
    if start < 0:
        raise VerificationError("room", f"the IVT at {ivt.offset:#x} has its CSF before the start of the file")
    own = [block for block in blocks if block.file == ivt.file]
    if any(block.offset <= start < block.end for block in own):
        # A signature cannot cover itself. One that covers another image's CSF is another matter: U-Boot's FIT with its
        # FDT signed last does, and that has an IVT of its own.
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
