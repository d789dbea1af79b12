"""What twistd needs: the options of `twistd digsigd`, and the service made of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from digsigd.log import FORMATS, LineObserver, observer
from digsigd.reactor import Reactor, reactor_of
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
        """Read the configuration, so that mistakes end the start before anything listens. Raises `UsageError`."""
        form = self["log-format"]
        if form not in FORMATS:
            raise usage.UsageError(f"--log-format is text or json, not {form!r}")
        config = self["config"]
        try:
            self.settings = load(Path(config) if config else None, listen=self["listen"])
        except SettingsError as error:
            raise usage.UsageError(str(error)) from None
        if self["check"] and self.parent is not None:
            # A check may run beside the daemon that twistd's pidfile is of.
            self.parent["pidfile"] = ""


def makeService(options: Options, reactor: Reactor | None = None) -> IService:
    """Compose the daemon from its settings, to run on the given reactor or the installed one.

    With `--check` it runs the check instead and raises `SystemExit`. That is not a service that stops the reactor: a
    process that twistd has begun to serve in writes its log where the check prints, is in the background by then, and
    ends with exit code 0 or a signal, whatever its services found. Raises `SystemExit` with one line for settings that
    cannot be.
    """
    # Only now: they import Klein and treq, and those the reactor, which twistd's own options choose.
    from twisted.internet.task import react

    from digsigd.check import check
    from digsigd.daemon import Daemon

    if options["check"]:
        react(check, (options.settings, options["config"], sys.stdout), reactor_of(reactor))
    try:
        return Daemon(options.settings, reactor=reactor, observer=partial(_observer_of, options))
    except SettingsError as error:
        # twistd reads a UsageError only while it parses options.
        raise SystemExit(f"digsigd: {error}") from None


def _observer_of(options: Options) -> LineObserver | None:
    """Return what writes the log, unless twistd's own options say otherwise (--logger goes first by itself)."""
    twistd: Any = getattr(options, "parent", None) or {}
    if twistd.get("syslog"):
        return None
    logfile = twistd.get("logfile")
    if logfile is None and not twistd.get("nodaemon"):
        logfile = "twistd.log"  # what twistd itself would write to
    return observer(options["log-format"], logfile)
