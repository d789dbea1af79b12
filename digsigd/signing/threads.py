"""Blocking work in threads that a cancelled request still waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from digsigd.errors import shutting_down

P = ParamSpec("P")
T = TypeVar("T")


class InThread(Protocol):
    """Calls a blocking function and gives its result later."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Start it; what it raises fails the Deferred."""


def in_threads_of(reactor: IReactorThreads, pool: ThreadPool) -> InThread:
    """Calls in threads of `pool` that end before their Deferred does; once it has stopped, calls fail with `Busy`.

    A thread cannot be stopped. Cancelling the Deferred therefore fails it only once the call has ended: whoever
    cleans up after a cancelled request can rely on nothing still writing into its directory.
    """

    def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if pool.joined:
            # It would wait for a thread for ever.
            return fail(shutting_down())
        outer: _Patient[T] = _Patient()

        def done(result: Any) -> None:
            if outer.was_cancelled:
                outer.errback(CancelledError())
            elif isinstance(result, Failure):
                outer.errback(result)
            else:
                outer.callback(result)

        deferToThreadPool(reactor, pool, function, *args, **kwargs).addBoth(done)
        return outer

    return call


class _Patient(Deferred[T]):
    """A Deferred that notes being cancelled, and leaves firing to the end of its call."""

    was_cancelled = False

    def cancel(self) -> None:
        """Only note it."""
        self.was_cancelled = True
