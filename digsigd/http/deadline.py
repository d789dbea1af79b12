"""How long something may take or stand still, and waiting that can be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class StoodStill(Exception):
    """Nothing went on for so many seconds."""

    def __init__(self, seconds: float, doing: str) -> None:
        super().__init__(f"{doing} stood still for {seconds:g} s")


class IdleTimer:
    """Calls `late` once `seconds` have passed since it was made, or since something went on."""

    def __init__(self, clock: IReactorTime, seconds: float, late: Callable[[], object]) -> None:
        self._seconds = seconds
        self._call = clock.callLater(seconds, late)

    def went_on(self) -> None:
        """Wait for `seconds` from now."""
        if self._call.active():
            self._call.reset(self._seconds)

    def stop(self) -> None:
        """Wait no more."""
        if self._call.active():
            self._call.cancel()


class Waiting(Deferred[T]):
    """Gives what `inner` gives, unless it is given up before: then it fails at once, and `stop` is called.

    Unlike with a Deferred that is cancelled itself, whatever `inner` makes of that does not hide that it was given up.
    """

    def __init__(self, inner: Deferred[T], stop: Callable[[], object]) -> None:
        super().__init__(lambda _: self.give_up(CancelledError()))
        self._stop = stop
        self._over = False
        inner.addBoth(self._pass_on)

    def give_up(self, error: BaseException) -> None:
        """Fail with `error`, unless it is over."""
        if not self._over:
            self._over = True
            self._stop()
            self.errback(error)

    def _pass_on(self, result: T | Failure) -> None:
        # What comes once it is over tells nothing: neither of an answer nor of why there is none.
        if not self._over:
            self._over = True
            self.callback(result)


def within(seconds: float, inner: Deferred[T], clock: IReactorTime) -> Deferred[T]:
    """Return what `inner` gives within `seconds`.

    It fails with `twisted.internet.defer.TimeoutError` after that. Then, and when it is cancelled, `inner` is cancelled
    and not waited for.
    """
    waiting: Deferred[Any] = Waiting(inner, inner.cancel)
    return waiting.addTimeout(seconds, clock)
