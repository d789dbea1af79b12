"""What is to be done with an image: which parts it has, what each CSF covers, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from digsigd.hab import Block, Ivt
from digsigd.image.chips.model import Chip


class Buffer(Protocol):
    """Bytes, or a mapped file: whatever gives bytes when sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the file, named as people name it: `length` bytes at `offset`."""

    offset: int
    length: int
    name: str

    @property
    def end(self) -> int:
        """The file offset just behind it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to be written at `offset` before anything is signed (behind the end: the file grows), and why."""

    offset: int
    data: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Tail:
    """What is written last, behind all of the image: `data`. In the file as it is now, the image ends at `offset`."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Signing:
    """One CSF: `blocks` are signed, and the blob goes to `csf_offset`, where `csf_room` bytes are kept for it.

    `unlock` says that its description unlocks CAAM's MID, as the SPL's has to: mx8m_secure_boot.txt, 1.4.1. `optional`
    says that only some boards look at it, and the image does not tell which. `least` is what a signature has to cover
    where other tools leave padding out; without it, all of `blocks`.
    """

    name: str
    ivt: Ivt
    blocks: tuple[Block, ...]
    csf_offset: int
    csf_room: int
    unlock: bool = False
    optional: bool = False
    least: tuple[Block, ...] = ()

    @property
    def by_rom(self) -> bool:
        """Whether the boot ROM checks it; else SPL or U-Boot does, and its IVT has no boot data."""
        return self.ivt.boot_data != 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How an image of `size` bytes is signed.

    `layout` names it for people, `soc` is one of "mm", "mn", "mp", "mq" or None where the image does not tell.
    `signings` are in the order in which they have to be made: one may cover the CSF of another before it. `regions`
    are in the order of the file and do not overlap; `must` is what of the file has to be under a signature for the
    board to run nothing else, which `verify` insists on: (offset, length) pairs. `foreign` is what runs as well, and
    nobody can check but the board: NXP's firmware, barebox proper. `replaced` tells of CSFs that are there already.
    `encrypted` names what only boards with the right key can read; such an image can be verified in part, and not
    signed. `tail` is None where nothing is to be written behind the image.

    `masks` are bytes that are others when the image is in memory, as it is signed: a host changes them on the way.
    `chip` is what descriptions are for: None for any i.MX 8M, or where `ask` says why it has to be asked for. `boards`
    names all that are signed for like that. `possible` are all chips that the image can be for, none where that is not
    known.
    """

    layout: str
    soc: str | None
    size: int
    regions: tuple[Region, ...]
    signings: tuple[Signing, ...]
    patches: tuple[Patch, ...] = ()
    notes: tuple[str, ...] = ()
    must: tuple[tuple[int, int], ...] = ()
    replaced: tuple[str, ...] = ()
    foreign: tuple[tuple[int, int], ...] = ()
    encrypted: tuple[str, ...] = ()
    tail: Tail | None = None
    masks: tuple[Patch, ...] = ()
    chip: Chip | None = None
    boards: str = ""
    ask: str = ""
    possible: tuple[Chip, ...] = ()
