"""The service under twistd: signals, the log, and a failed start reported in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.application.service import IServiceCollection
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from digsigd.descriptors import raise_limit
from digsigd.errors import DigsigError
from digsigd.log import LineObserver
from digsigd.notices import Notices
from digsigd.process_life import ProcessLife
from digsigd.reactor import Reactor
from digsigd.service import SigningService
from digsigd.settings import Settings, SettingsError
from digsigd.signing.cage import protect_memory

T = TypeVar("T")


class Daemon(SigningService):
    """A signing service that is the only service of its process.

    A start that fails ends the process with one line instead of a traceback. SIGHUP reloads: `read`
    returns the settings anew. `observer` returns the log observer, or None to leave the log to twistd's options.
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
        self._life = ProcessLife(self._reactor, observer=observer, hung_up=self._hung_up)
        self._notices = Notices(self._reactor, lambda: self._parts.state)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Implement `IService.setServiceParent`. If the parent is the application, also set its log observer."""
        self._life.observe(parent, self.settings.daemon.log_level)
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
        self._life.take_signals()

    def stopService(self) -> Deferred[None]:
        """Stop, as `SigningService.stopService`, and report it to systemd."""

        def over(result: T) -> T:
            self._notices.close()
            return result

        self._notices.stopping(self.settings.daemon.shutdown_grace)
        return super().stopService().addBoth(over)

    def _say_listening(self, address: str) -> None:
        super()._say_listening(address)
        self._notices.ready()

    def _hung_up(self) -> None:
        Deferred.fromCoroutine(self._try_to_reload())

    async def _try_to_reload(self) -> None:
        refused = True
        self._notices.reloading()
        try:
            await self.reload(self._read)
            refused = False
            self._life.set_level(self.settings.daemon.log_level)
        except SettingsError as error:
            self.log.error("not reloaded: {error} (everything is as before)", error=str(error), event="reloaded")
        except Exception:  # noqa: BLE001 - the daemon goes on with what it has
            self.log.failure("not reloaded, everything is as before", event="reloaded")
        finally:
            self._notices.reloaded(refused=refused)
