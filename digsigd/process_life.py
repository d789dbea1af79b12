"""What a service does for its process under twistd: the log observer, and the signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from twisted.application.service import IServiceCollection
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from digsigd.log import Level, LineObserver
from digsigd.reactor import SigningReactor, keep_monotonic_time

_SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any]


class ProcessLife:
    """The life of a process with one service.

    The first SIGTERM or SIGINT stops the reactor, later ones are only logged. SIGHUP calls `hung_up` in the reactor's
    thread. `observer` returns the log observer, or None to leave the log to twistd's options.
    """

    log = Logger()

    def __init__(
        self,
        reactor: SigningReactor,
        *,
        observer: Callable[[], LineObserver | None],
        hung_up: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        keep_monotonic_time(reactor)
        self._observer = observer
        self._hung_up = hung_up
        self._lines: LineObserver | None = None
        self._before: dict[int, _SignalHandler] = {}
        self._is_told_to_stop = False

    def observe(self, parent: IServiceCollection, level: Level) -> None:
        """Set the log observer of `parent` if it is the application and has none."""
        if isinstance(parent, Componentized) and parent.getComponent(ILogObserver, None) is None:
            self._lines = self._observer()
            self.set_level(level)
            if self._lines is not None:
                # Twisted ends the process with the signal that stopped it: nothing runs at its exit.
                self._reactor.addSystemEventTrigger("after", "shutdown", self._lines.settle)
                parent.setComponent(ILogObserver, self._lines)

    def set_level(self, level: Level) -> None:
        """Set the least level of the lines that are written."""
        if self._lines is not None:
            self._lines.level = level

    def settle(self) -> None:
        """Wait a moment for lines that are not written yet."""
        if self._lines is not None:
            self._lines.settle()

    def take_signals(self) -> None:
        """Install the signal handlers, as soon as the reactor runs."""
        self._is_told_to_stop = False
        # Twisted installs no handler for SIGHUP, whose default is to end the process.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hung_up))
        self._reactor.callWhenRunning(self._take_signals_to_stop)

    def _take_signals_to_stop(self) -> None:
        """Wrap the handlers of the running reactor, for which a second signal is an error."""
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before) and before != self._told_to_stop:
                self._before[number] = before
                signal.signal(number, self._told_to_stop)

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._is_told_to_stop:
            self._reactor.callFromThread(self._stops_already, signal.Signals(number).name)
        else:
            self._is_told_to_stop = True
            self._before[number](number, frame)

    def _stops_already(self, name: str) -> None:
        self.log.info(
            "received {name}, already shutting down (send SIGKILL to end it now)", name=name, event="stopping"
        )
