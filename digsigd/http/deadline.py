"""Timeouts: idle timers, deadlines, and waiting that can be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Stalled(Exception):
    """There was no progress for `seconds` seconds."""

    def __init__(self, seconds: float, doing: str) -> None:
        super().__init__(f"{doing} stalled for {seconds:g} s")


class IdleTimer:
    """Calls `late` when `seconds` have passed since its creation or the last `went_on`."""

    def __init__(self, clock: IReactorTime, seconds: float, late: Callable[[], object]) -> None:
        self._seconds = seconds
        self._call = clock.callLater(seconds, late)

    def went_on(self) -> None:
        """Restart the timer after progress."""
        if self._call.active():
            self._call.reset(self._seconds)

    def stop(self) -> None:
        """Stop the timer."""
        if self._call.active():
            self._call.cancel()


class Waiting(Deferred[T]):
    """A Deferred with the result of `inner` that fails immediately when it is given up, after calling `stop`.

    Cancelling `inner` itself would not be enough: it can turn the cancellation into some other result.
    """

    def __init__(self, inner: Deferred[T], stop: Callable[[], object]) -> None:
        super().__init__(lambda _: self.give_up(CancelledError()))
        self._stop = stop
        self._over = False
        inner.addBoth(self._pass_on)

    def give_up(self, error: BaseException) -> None:
        """Call `stop` and fail with `error`, unless there is a result already."""
        if not self._over:
            self._over = True
            self._stop()
            self.errback(error)

    def _pass_on(self, result: T | Failure) -> None:
        # A result after giving up is dropped: it says nothing about the answer or the failure.
        if not self._over:
            self._over = True
            self.callback(result)


def within(seconds: float, inner: Deferred[T], clock: IReactorTime) -> Deferred[T]:
    """Return a Deferred with the result of `inner`, which must come within `seconds`.

    Fails with `twisted.internet.defer.TimeoutError` after that. On timeout, and when the returned Deferred is
    cancelled, `inner` is cancelled and not waited for.
    """
    waiting: Deferred[Any] = Waiting(inner, inner.cancel)
    return waiting.addTimeout(seconds, clock)
