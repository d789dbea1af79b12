"""What twistd needs: the options of `twistd digsigd`, and the service made of them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from digsigd.errors import DigsigError
from digsigd.log import FORMATS, LineObserver, observer
from digsigd.settings import Settings, SettingsError, load


class Options(usage.Options):
    """The command line of `twistd digsigd`. Everything else is in the configuration file."""

    synopsis = "[--config FILE] [--listen ENDPOINT] [--log-format text|json] [--check]"
    longdesc = (
        "Signs NXP i.MX boot and kernel images: POST /sign/imx. Without a configuration file,"
        " DIGSIGSERVER_KEYFILE_URI says where the key tarballs are and DIGSIGSERVER_IMX_CST_BASE where cst is."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "TOML file with the configuration, e.g. /etc/digsigd/digsigd.toml"],
        ["listen", "l", None, "Twisted endpoint to listen on instead of the configured one"],
        ["log-format", None, "text", "one line of text or JSON for each event: text or json"],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["check", None, "validate the configuration, reach the key store and cst, say what was found, and exit"],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    settings: Settings

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; below twistd a mistake raises `SystemExit`, alone `UsageError`.

        twistd ends with exit code 0 on a `UsageError` before Twisted 26.10, and systemd would not see that it failed.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            raise SystemExit(f"twistd digsigd: {error}") from None

    def postOptions(self) -> None:
        """Read the configuration, so that mistakes end the start before anything listens."""
        form = self["log-format"]
        if form not in FORMATS:
            raise usage.UsageError(f"--log-format is text or json, not {form!r}")
        config = self["config"]
        try:
            self.settings = load(Path(config) if config else None, listen=self["listen"])
        except SettingsError as error:
            raise usage.UsageError(str(error)) from None
        if self["check"]:
            from twisted.internet.task import react

            from digsigd.check import check

            react(check, (self.settings, config, sys.stdout))


def _observer_of(options: Options) -> LineObserver | None:
    """What writes the log, unless twistd's own options say otherwise (--logger goes first by itself)."""
    twistd: Any = getattr(options, "parent", None) or {}
    if twistd.get("syslog"):
        return None
    logfile = twistd.get("logfile")
    if logfile is None and not twistd.get("nodaemon"):
        logfile = "twistd.log"  # what twistd itself would write to
    return observer(options["log-format"], logfile)


def makeService(options: Options, reactor: IReactorCore | None = None) -> IService:
    """Compose the daemon from its settings."""
    from digsigd.service import SigningService

    class Daemon(SigningService):
        """A service whose failure to start ends the process with one line instead of a traceback."""

        def startService(self) -> None:
            try:
                super().startService()
            except DigsigError as error:
                told = (error.what, error.detail, error.hint)
                raise SystemExit(f"digsigd: {' | '.join(part for part in told if part)}") from None
            except (SettingsError, CannotListenError) as error:
                raise SystemExit(f"digsigd: {error}") from None
            # Twisted has no handler for it, and by itself it would end the process.
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
            self._reactor.callWhenRunning(self._stop_once)

        def _stop_once(self) -> None:
            """Have the first signal to stop act, and the others be told so: Twisted takes them for a fault."""
            stopping = False

            def handler(before: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
                def handle(number: int, frame: FrameType | None) -> None:
                    nonlocal stopping
                    if stopping:
                        self._reactor.callFromThread(self._stops_already, signal.Signals(number).name)
                    else:
                        stopping = True
                        before(number, frame)

                return handle

            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                if callable(before):
                    signal.signal(number, handler(before))

        def _stops_already(self, name: str) -> None:
            self.log.info("received {name}, already shutting down (SIGKILL ends it now)", name=name, event="stopping")

        def _reload(self) -> None:
            try:
                self.reload()
            except SettingsError as error:
                self.log.error("not reloaded: {error}", error=str(error), event="reloaded")

        def setServiceParent(self, parent: Any) -> None:
            """Tell the application, if this is its service, how to log."""
            if isinstance(parent, Componentized) and parent.getComponent(ILogObserver, None) is None:
                lines = _observer_of(options)
                if lines is not None:
                    parent.setComponent(ILogObserver, lines)
            super().setServiceParent(parent)

    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = installed
    try:
        return Daemon(options.settings, reactor=reactor)
    except SettingsError as error:
        # twistd reads a UsageError only while it parses options.
        raise SystemExit(f"digsigd: {error}") from None
