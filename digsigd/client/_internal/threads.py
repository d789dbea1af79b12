"""Blocking work in threads, which a cancelled call still waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(reactor: Any, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
    """Return a Deferred of what `function` returns or raises, called in a thread of the reactor's pool.

    A thread cannot be stopped: a cancelled Deferred fails with `CancelledError` only after the call has ended, so that
    the caller can then remove what the call wrote.
    """
    outer: _Patient[T] = _Patient()

    def done(result: Any) -> None:
        if outer.was_cancelled:
            outer.errback(CancelledError())
        elif isinstance(result, Failure):
            outer.errback(result)
        else:
            outer.callback(result)

    deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs).addBoth(done)
    return outer


class _Patient(Deferred[T]):
    """A Deferred whose `cancel` only sets a flag; it fires at the end of its call."""

    was_cancelled = False

    def cancel(self) -> None:
        """Set the flag."""
        self.was_cancelled = True
