"""What twistd needs: the options of `twistd digsigd`, and the service made of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorCore
from twisted.python import usage

from digsigd.log import FORMATS, Format, observer_factory
from digsigd.settings import Settings, SettingsError, load


class Options(usage.Options):
    """The command line of `twistd digsigd`. Everything else is in the configuration file."""

    synopsis = "[--config FILE] [--listen ENDPOINT] [--log-format text|json] [--check]"
    longdesc = (
        "Signs NXP i.MX boot and kernel images: POST /sign/imx. Without a configuration file,"
        " DIGSIGSERVER_KEYFILE_URI says where the key tarballs are and DIGSIGSERVER_IMX_CST_BASE where cst is."
    )
    optParameters: list[list[Any]] = [
        ["config", "c", None, "TOML file with the configuration, e.g. /etc/digsigd/digsigd.toml"],
        ["listen", "l", None, "Twisted endpoint to listen on instead of the configured one"],
        ["log-format", None, "text", "one line of text or JSON for each event: text or json"],
    ]
    optFlags: list[list[Any]] = [
        ["check", None, "validate the configuration, reach the key store and cst, say what was found, and exit"],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    settings: Settings

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
        parent = getattr(self, "parent", None)
        if parent is not None:
            _log_lines(parent, form)
        if self["check"]:
            from twisted.internet.task import react

            from digsigd.check import check

            react(check, (self.settings, config, sys.stdout))


def _log_lines(twistd: Any, form: Format) -> None:
    """Have twistd log through our observer, unless its own options ask for another one."""
    if not twistd.get("logger") and not twistd.get("syslog"):
        logfile = twistd.get("logfile")
        if logfile is None and not twistd.get("nodaemon"):
            logfile = "twistd.log"  # what twistd itself would write to
        twistd["logger"] = observer_factory(form, logfile)


def makeService(options: Options, reactor: IReactorCore | None = None) -> IService:  # noqa: N802
    """Compose the daemon from its settings."""
    from digsigd.service import SigningService

    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = installed  # type: ignore[assignment]
    try:
        return SigningService(options.settings, reactor=reactor)
    except SettingsError as error:
        raise usage.UsageError(str(error)) from None
