"""Watches whether workers still answer: one that hangs would keep its slots, and so take them from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from digsigd.workers.child import Child

# How often workers are asked, in seconds, and after how many questions without an answer one is given up.
_PERIOD, MOST_MISSED = 15.0, 4


class Watch:
    """Asks each of `children` that is ready, and calls `hung` with one that has not answered for a minute.

    It counts questions instead of time: if the supervisor itself was stopped, that is no fault of its workers.
    """

    def __init__(
        self, clock: IReactorTime, children: Callable[[], Iterable[Child]], hung: Callable[[Child], None]
    ) -> None:
        self._clock = clock
        self._children = children
        self._hung = hung
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._next = self._clock.callLater(_PERIOD, self._look)

    def stop(self) -> None:
        """Stop watching."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _look(self) -> None:
        self.start()
        for child in list(self._children()):
            if not child.is_ready:
                continue
            if child.missed >= MOST_MISSED:
                self._hung(child)
            child.missed += 1
            child.ask("ping").addCallbacks(child.heard, lambda _: None)
