"""Digests of blocks, taken from the stream that brings their file, where the description came before it."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any, TypeAlias

from digsigd import csf
from digsigd.csf.members import base_of
from digsigd.csf.model import AuthenticateData

# The blocks of one command, in the order in which they are signed: (offset, length) in bytes.
Extents: TypeAlias = tuple[tuple[int, int], ...]
# The length of descriptions up to which they are read for this, and how many different digests are taken. A request
# with more is signed as well: its file is read again.
LONGEST = 16 << 10
MOST = 4


def expected(description: bytes, name: str) -> list[Extents]:
    """Return the blocks that each command will sign of the artifact called `name`, if digests can be taken of them.

    Blocks must lie in this file alone, and in its order. One that begins with the file needs no digest of its own.
    Raises nothing: what is wrong with a description is told later.
    """
    if len(description) > LONGEST:
        return []
    try:
        commands = csf.parse(description).commands
    except csf.CsfError:
        return []
    found: dict[Extents, None] = {}
    for command in commands:
        if isinstance(command, AuthenticateData) and all(base_of(block.file) == name for block in command.blocks):
            extents = tuple((block.offset, block.length) for block in command.blocks)
            ends = [0, *(offset + length for offset, length in extents)]
            in_order = all(end <= offset for end, (offset, _) in zip(ends, extents, strict=False))
            if in_order and (len(extents) > 1 or extents[0][0] > 0):
                found[extents] = None
    return list(found)[:MOST]


class BlockSum:
    """The running SHA-256 of blocks of one file, in its order.

    A first block that begins with the file and has more than `small` bytes is not hashed again: from byte `joins` on,
    it continues the digest of the whole file.
    """

    def __init__(self, extents: Extents, small: int) -> None:
        self.extents = extents
        self._digest: Any = hashlib.sha256()
        self._rest = deque(extents)
        offset, length = extents[0]
        self.joins = length if offset == 0 and length > small else 0
        if self.joins:
            self._rest.popleft()

    def update(self, offset: int, data: memoryview) -> None:
        """Take bytes of the file, which are at `offset`, behind those that were taken before."""
        end = offset + len(data)
        while self._rest:
            start, length = self._rest[0]
            low, high = max(start, offset), min(start + length, end)
            if low < high:
                self._digest.update(data[low - offset : high - offset])
            if start + length > end:
                break
            self._rest.popleft()

    def join(self, whole: Any) -> None:
        """Continue the digest of the whole file, which has reached `joins`."""
        self._digest = whole.copy()

    def digest(self, size: int) -> bytes | None:
        """Return the digest; None if the file, of `size` bytes, ends before the last block does."""
        result: bytes = self._digest.digest()
        return None if self._rest or self.joins > size else result
