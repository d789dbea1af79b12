"""Run blocking calls in threads, and wait for their end even when a request is cancelled."""

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
    """A function that calls a blocking function in a thread."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Start `function`. The Deferred fires with its result or fails with its exception."""


def in_threads_of(reactor: IReactorThreads, pool: ThreadPool) -> InThread:
    """Return an `InThread` that uses the threads of `pool`. Once the pool has stopped, calls fail with `Busy`.

    A thread cannot be stopped, so a cancelled Deferred fails only when its call has ended. After a cancelled request,
    nothing writes into its directory any more.
    """

    def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if pool.joined:
            # The call would wait for a thread forever.
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
    """A Deferred that only notes a cancellation, and fires when its call ends."""

    was_cancelled = False

    def cancel(self) -> None:
        """Note the cancellation."""
        self.was_cancelled = True
