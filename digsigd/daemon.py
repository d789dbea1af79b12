"""The service as a process of its own under twistd: its signals, its log, and the one line of a failed start."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from twisted.application.service import IServiceCollection
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from digsigd.errors import DigsigError
from digsigd.reactor import Reactor
from digsigd.service import SigningService
from digsigd.settings import Settings, SettingsError

_SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any]


class Daemon(SigningService):
    """A service that has the process to itself.

    A start that fails ends the process with one line instead of a traceback. SIGHUP reloads. The first signal to stop
    acts, others are only logged. `observer` makes what writes the log, or None where twistd's options say it.
    """

    def __init__(
        self, settings: Settings, *, reactor: Reactor | None, observer: Callable[[], ILogObserver | None]
    ) -> None:
        super().__init__(settings, reactor=reactor)
        self._observer = observer
        self._before: dict[int, _SignalHandler] = {}
        self._is_told_to_stop = False

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Tell the application, if this is its service, how to log."""
        if isinstance(parent, Componentized) and parent.getComponent(ILogObserver, None) is None:
            observer = self._observer()
            if observer is not None:
                parent.setComponent(ILogObserver, observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start, and take the signals of the process. Raises `SystemExit` with one line if it cannot start."""
        try:
            super().startService()
        except DigsigError as error:
            raise SystemExit(f"digsigd: {error.for_operator()}") from None
        except (SettingsError, CannotListenError) as error:
            raise SystemExit(f"digsigd: {error}") from None
        self._is_told_to_stop = False
        # Twisted has no handler for it, and by itself it would end the process.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        self._reactor.callWhenRunning(self._take_signals_to_stop)

    def _take_signals_to_stop(self) -> None:
        """Stand before Twisted's handlers, to which a second signal is a fault. The running reactor has set them."""
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
        self.log.info("received {name}, already shutting down (SIGKILL ends it now)", name=name, event="stopping")

    def _reload(self) -> None:
        try:
            self.reload()
        except SettingsError as error:
            self.log.error("not reloaded: {error}", error=str(error), event="reloaded")
