"""The plan for an image: which parts it has, what each CSF covers, and where the CSF goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from digsigd.hab import Block, Ivt
from digsigd.image.chips.model import Chip


class Buffer(Protocol):
    """Bytes or a mapped file: slices are bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the file with its name: `length` bytes at `offset`."""

    offset: int
    length: int
    name: str

    @property
    def end(self) -> int:
        """The file offset just after it."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to write at file offset `offset` before signing, and why. Behind the end of the file, the file grows."""

    offset: int
    data: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Tail:
    """`data` to write last, after the image. In the unsigned file, the image ends at `offset`."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Signing:
    """One CSF: `blocks` are signed, and the blob goes to `csf_offset`, where `csf_room` bytes are kept for it.

    `unlock` says that its CSF description unlocks CAAM's MID, as the SPL's must: mx8m_secure_boot.txt, 1.4.1.
    `optional` says that only some boards check it, and the image does not show which. `least` is the least that a
    signature must cover, because other tools omit padding; if empty, all of `blocks`.
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

    `layout` is its name to show; `soc` is "mm", "mn", "mp", "mq", or None if the image does not show it. `signings` are
    in the order in which they must be made: one can cover the CSF of an earlier one. `regions` are in the order of the
    file and do not overlap. `must` are the (offset, length) pairs that must be under a signature, so that the board
    runs nothing else; `verify` checks that. `foreign` are those that also run, and only the board can check: NXP's
    firmware, barebox proper. `replaced` describes CSFs that the image already has. `encrypted` describes what only
    boards with the right key can read; such an image can be verified in part, but not signed. `tail` is None if nothing
    is written after the image.

    `masks` are bytes that differ when the image is in memory, as it is signed: a host changes them on the way. `chip`
    is the chip for CSF descriptions: None for any i.MX 8M, or if the user must give it, for the reason in `ask`.
    `boards` names all chips that are signed for in the same way. `possible` are all chips that the image can be for,
    empty if unknown.
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
