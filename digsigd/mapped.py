"""Files mapped into memory for reading, and searched without reading past their end.

`mmap.find` reads one byte past the end before Python 3.11.4 (CPython issue 105235), and Debian 12 has 3.11.2. If the
size of a file is a multiple of the page size, the process may then die from SIGSEGV. Therefore every file is mapped
with `Mapped`.
"""

from __future__ import annotations

import mmap
from typing import Any

# The first piece of a search is small, which is fast for many short searches; each later one is twice as large.
_FIRST_PIECE = 1 << 12
_LARGEST_PIECE = 1 << 20


class Mapped(mmap.mmap):
    """A mapping that is searched in copies of its pieces. The results are those of `bytes.find` and `bytes.rfind`."""

    @classmethod
    def of(cls, descriptor: int) -> Mapped:
        """Map an open file, the whole of it. Raises `ValueError` if it is empty, and `OSError`."""
        return cls(descriptor, 0, access=mmap.ACCESS_READ)

    def find(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """Return the lowest offset at which `sub` is found between `start` and `end`, or -1."""
        wanted = bytes(sub)
        if start > len(self):
            return -1
        start, end, _ = slice(start, end).indices(len(self))
        piece = _FIRST_PIECE
        while start + len(wanted) <= end:
            found = self[start : min(start + piece + len(wanted), end)].find(wanted)
            if found >= 0:
                return start + found
            # The last offset that was searched is start + piece.
            start += piece + 1
            piece = min(2 * piece, _LARGEST_PIECE)
        return -1

    def rfind(self, sub: Any, start: int = 0, end: int | None = None) -> int:
        """Return the highest offset at which `sub` is found between `start` and `end`, or -1."""
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
