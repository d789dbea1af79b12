"""Threads that work when a test says so."""

from __future__ import annotations

from collections.abc import Callable


class Turns:
    """A pool whose threads work when a test says so, and a reactor that calls at once."""

    joined = False

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def callInThread(self, turn: Callable[[], None]) -> None:
        self.waiting.append(turn)

    def callFromThread(self, function: Callable[[], None]) -> None:
        function()

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()
