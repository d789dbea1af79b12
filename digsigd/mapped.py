"""Files mapped to be read, and searched without reading behind their ends.

The `find` of Python's own mappings reads one byte behind them (CPython's issue 105235): until 3.11.4, which is newer
than what Debian 12 has. Where a file's size is a multiple of the page, the process may end by SIGSEGV then. So no file
is mapped but by `Mapped`.
"""

from __future__ import annotations

import mmap
from typing import Any

# The first piece of a search is small, for those that find at once, over and over; each one after is twice as large.
_FIRST_PIECE = 1 << 12
_LARGEST_PIECE = 1 << 20


class Mapped(mmap.mmap):
    """A mapping whose searches look at copies of its pieces. They find what those of `bytes` would."""

    @classmethod
    def of(cls, descriptor: int) -> Mapped:
        """An open file, whole. Raises `ValueError` for an empty one, which cannot be mapped, and `OSError`."""
        return cls(descriptor, 0, access=mmap.ACCESS_READ)

    def find(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """The lowest place of `sub` that lies whole between `start` and `end`, or -1."""
        wanted = bytes(sub)
        if start > len(self):
            return -1
        start, end, _ = slice(start, end).indices(len(self))
        piece = _FIRST_PIECE
        while start + len(wanted) <= end:
            found = self[start : min(start + piece + len(wanted), end)].find(wanted)
            if found >= 0:
                return start + found
            # The last place that was looked at is start + piece.
            start += piece + 1
            piece = min(2 * piece, _LARGEST_PIECE)
        return -1

    def rfind(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """The highest place of `sub` that lies whole between `start` and `end`, or -1."""
        wanted = bytes(sub)
        if start > len(self):
            return -1
        start, end, _ = slice(start, end).indices(len(self))
        piece = _FIRST_PIECE
        while start + len(wanted) <= end:
            first = max(start, end - piece - len(wanted))
            found = self[first:end].rfind(wanted)
            if found >= 0:
                return first + found
            end = first + len(wanted) - 1
            piece = min(2 * piece, _LARGEST_PIECE)
        return -1
