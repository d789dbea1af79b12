"""Run the reactor for one command, until its coroutine ends or a signal arrives, without log output."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from digsigd.http.reactor import Reactor

T = TypeVar("T")
_used = False


def run(function: Callable[[Reactor], Awaitable[T]]) -> T:
    """Run the coroutine that `function(reactor)` makes; return what it returns, or raise what it raises.

    SIGINT and SIGTERM cancel it and wait until it has ended; then this raises `KeyboardInterrupt`, or `SystemExit` with
    143. A second signal does not wait. A process can call this once, in its main thread, since reactors cannot be
    restarted: the second call raises `RuntimeError`.
    """
    from twisted.internet import reactor as installed

    global _used
    if _used:
        raise RuntimeError("run() can be called only once in a process: a reactor cannot be restarted")
    _used = True
    reactor: Any = installed
    session = _Session(reactor, function)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    # A thread that waits for a name server must not delay the end of the process.
    pool = reactor.getThreadPool()
    pool.threadFactory = partial(Thread, daemon=True)
    before = {number: signal.signal(number, session.signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    wakeup = _Wakeup()
    try:
        reactor.addReader(wakeup)
        reactor.callWhenRunning(session.begin)
        reactor.run(installSignalHandlers=False)
    finally:
        reactor.removeReader(wakeup)
        wakeup.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    result: T = session.outcome()
    return result


@implementer(IReadDescriptor)
class _Wakeup:
    """Wakes the reactor at each signal.

    Python runs a handler between two instructions of the main thread. A signal that arrives just before that thread
    waits for events, or in another thread, ends no system call of it: without this, it would be noticed at the next
    event.
    """

    def __init__(self) -> None:
        self._receiving, self._sending = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = signal.set_wakeup_fd(self._sending, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return what is read from."""
        return self._receiving

    def doRead(self) -> None:
        """Take the numbers of the signals: their handlers run by themselves."""
        os.read(self._receiving, 4096)

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: it is closed when the reactor has ended."""

    def logPrefix(self) -> str:
        """Return the name of it in Twisted's log."""
        return "signals"

    def close(self) -> None:
        """Have signals as before."""
        signal.set_wakeup_fd(self._before)
        os.close(self._receiving)
        os.close(self._sending)


class _Session:
    def __init__(self, reactor: Any, function: Callable[[Any], Awaitable[Any]]) -> None:
        self._reactor = reactor
        self._function = function
        self._running: Deferred[Any] | None = None
        self._result: Any = None
        self._signal: int | None = None
        self._cancelled = False

    def begin(self) -> None:
        """Start the coroutine."""

        async def awaited() -> Any:
            return await self._function(self._reactor)

        self._running = Deferred.fromCoroutine(awaited())
        self._running.addBoth(self._ended)
        if self._signal is not None:
            self._cancel()

    def signalled(self, number: int, _: object) -> None:
        """Handle a signal: cancel the coroutine, or with a second signal stop the reactor."""
        first, self._signal = self._signal is None, number
        if first:
            self._reactor.callFromThread(self._cancel)
        else:
            self._reactor.callFromThread(self._stop)

    def outcome(self) -> Any:
        """Return or raise the result of the coroutine, or raise `KeyboardInterrupt` or `SystemExit` for the signal."""
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal is not None:
            # The exit code that shells use for a process ended by a signal.
            raise SystemExit(128 + self._signal)
        if isinstance(self._result, Failure):
            self._result.raiseException()
        return self._result

    def _cancel(self) -> None:
        # Only once: a second cancel would interrupt its cleanup. The signal can come while the coroutine begins.
        if self._running is not None and not self._cancelled:
            self._cancelled = True
            self._running.cancel()

    def _ended(self, result: Any) -> None:
        self._result = result
        self._stop()

    def _stop(self) -> None:
        if not self._reactor.running:
            return
        if self._reactor.getThreadPool().working:
            # stop() would wait for those threads.
            self._reactor.crash()
        else:
            self._reactor.stop()
