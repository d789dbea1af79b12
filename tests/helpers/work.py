"""Work that is counted instead of timed: calls, instructions, and bytes that are looked at."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, SupportsIndex, overload


@contextmanager
def nothing_else() -> Iterator[None]:
    """What earlier tests have left is not collected while the work is counted: that runs code, too."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def instructions(function: Callable[[], object]) -> int:
    """How many instructions of Python a call takes. It is fifty times as slow meanwhile."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    with nothing_else():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        finally:
            sys.settrace(before)
    return count


def calls(function: Callable[[], object], *, of: str = "") -> int:
    """How many calls of functions a call makes, those in C and each step of a generator among them.

    With `of`, only those of functions with this name.
    """
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += not of or frame.f_code.co_name == of
        elif event == "c_call":
            count += not of or argument.__name__ == of

    with nothing_else():
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            function()
        finally:
            sys.setprofile(before)
    return count


class CountedBytes(bytes):
    """Bytes that count in `looked_at` how many are copied by slices, of it and of these, and searched through."""

    def __init__(self, *_: object) -> None:
        self._count = [0]

    @property
    def looked_at(self) -> int:
        return self._count[0]

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        found = super().__getitem__(key)
        if isinstance(found, int):
            self._count[0] += 1
            return found
        self._count[0] += len(found)
        piece = CountedBytes(found)
        piece._count = self._count
        return piece

    def find(self, sub: Any, start: Any = None, end: Any = None, /) -> int:
        found = super().find(sub, start, end)
        first, last, _ = slice(start, end).indices(len(self))
        self._count[0] += max(0, (last if found < 0 else found) - first)
        return found

    def rfind(self, sub: Any, start: Any = None, end: Any = None, /) -> int:
        found = super().rfind(sub, start, end)
        first, last, _ = slice(start, end).indices(len(self))
        self._count[0] += max(0, last - max(first, found))
        return found
