"""The service under twistd: signals, the log, and a failed start reported in one line."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

from twisted.application.service import IServiceCollection
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from digsigd.descriptors import raise_limit
from digsigd.errors import DigsigError
from digsigd.log import LineObserver
from digsigd.reactor import Reactor, keep_monotonic_time
from digsigd.service import SigningService
from digsigd.settings import Settings, SettingsError
from digsigd.signing.cage import protect_memory

_SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any]


class Daemon(SigningService):
    """A signing service that is the only service of its process.

    A start that fails ends the process with one line instead of a traceback. SIGHUP reloads: `read`
    returns the settings anew. The first SIGTERM or
    SIGINT stops the service, later ones are only logged. `observer` returns the log observer, or None to leave the log
    to twistd's options.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Reactor | None,
        read: Callable[[], Settings],
        observer: Callable[[], LineObserver | None],
    ) -> None:
        super().__init__(settings, reactor=reactor)
        self._read = read
        keep_monotonic_time(self._reactor)
        self._observer = observer
        self._lines: LineObserver | None = None
        self._before: dict[int, _SignalHandler] = {}
        self._is_told_to_stop = False

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Implement `IService.setServiceParent`. If the parent is the application, also set its log observer."""
        if isinstance(parent, Componentized) and parent.getComponent(ILogObserver, None) is None:
            self._lines = self._observer()
            self._set_level()
            if self._lines is not None:
                # Twisted ends the process with the signal that stopped it: nothing runs at its exit.
                self._reactor.addSystemEventTrigger("after", "shutdown", self._lines.settle)
                parent.setComponent(ILogObserver, self._lines)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start, and install the signal handlers. Raises `SystemExit` with one line if it cannot start."""
        protect_memory()
        raise_limit(self.settings)
        try:
            super().startService()
        except DigsigError as error:
            raise SystemExit(f"digsigd: {error.for_operator()}") from None
        except (SettingsError, CannotListenError) as error:
            raise SystemExit(f"digsigd: {error}") from None
        self._is_told_to_stop = False
        # Twisted installs no handler for SIGHUP, whose default is to end the process.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
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

    def _set_level(self) -> None:
        if self._lines is not None:
            self._lines.level = self.settings.daemon.log_level

    def _reload(self) -> None:
        Deferred.fromCoroutine(self._try_to_reload())

    async def _try_to_reload(self) -> None:
        try:
            await self.reload(self._read)
            self._set_level()
        except SettingsError as error:
            self.log.error("not reloaded: {error} (everything is as before)", error=str(error), event="reloaded")
        except Exception:  # noqa: BLE001 - the daemon goes on with what it has
            self.log.failure("not reloaded, everything is as before", event="reloaded")
