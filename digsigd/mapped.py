"""Memory-mapped files that can be searched without reading past their end.

Before Python 3.11.4, `mmap.find` reads one byte past the end of the mapping (CPython issue 105235). If the file's size
is a multiple of the page size, the process can die of SIGSEGV. Debian 12 has an older Python, so map files only with
`Mapped`.
"""

from __future__ import annotations

import mmap
from typing import Any

# The first piece of a search is small, because many searches find something near their start. Each further piece is
# twice as large.
_FIRST_PIECE = 1 << 12
_LARGEST_PIECE = 1 << 20


class Mapped(mmap.mmap):
    """A mapping that searches copies of its pieces. The results are those of `bytes.find` and `bytes.rfind`."""

    @classmethod
    def of(cls, descriptor: int) -> Mapped:
        """Map the whole of an open file, read-only. Raises `ValueError` for an empty file, and `OSError`."""
        return cls(descriptor, 0, access=mmap.ACCESS_READ)

    def find(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """Return the lowest offset of `sub` within `start` and `end`, or -1."""
        wanted = bytes(sub)
        if start > len(self):
            return -1
        start, end, _ = slice(start, end).indices(len(self))
        piece = _FIRST_PIECE
        while start + len(wanted) <= end:
            found = self[start : min(start + piece + len(wanted), end)].find(wanted)
            if found >= 0:
                return start + found
            # The last offset that was tried is start + piece.
            start += piece + 1
            piece = min(2 * piece, _LARGEST_PIECE)
        return -1

    def rfind(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """Return the highest offset of `sub` within `start` and `end`, or -1."""
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
