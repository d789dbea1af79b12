"""The twistd plugin: the options of `twistd digsigd`, and the service that is made from them."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from twisted.application.service import IService
from twisted.python import usage

from digsigd import __version__
from digsigd.log import FORMATS, LineObserver, observer
from digsigd.names import MACHINE, MACHINE_FORM
from digsigd.reactor import Reactor, reactor_of
from digsigd.settings import Settings, SettingsError, load
from digsigd.workers.inherited import Inherited, inherited

# Twisted's choice on Linux. A worker chooses the same, and nothing looks for Twisted's plugins.
_DEFAULT_REACTOR = "twisted.internet.epollreactor"


class Options(usage.Options):
    """The command line options of `twistd digsigd`. Everything else is in the configuration file."""

    synopsis = "[--config FILE] [--listen ENDPOINT] [--log-format text|json] [--check [--machine NAME] [--as USER]]"
    longdesc = (
        "Signs NXP i.MX boot and kernel images: POST /sign/imx. Without a configuration file, set"
        " DIGSIGSERVER_KEYFILE_URI to the location of the key tarballs and DIGSIGSERVER_IMX_CST_BASE to the folder"
        " of cst."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "TOML file with the configuration, for example /etc/digsigd/digsigd.toml"],
        ["listen", "l", None, "Twisted endpoint to listen on, instead of the configured one"],
        ["log-format", None, "text", "format of log lines, one for each event: text or json"],
        ["as", None, None, "with --check: the user that the daemon runs as, with its rights to files; needs root"],
    ]
    optFlags: ClassVar[list[list[Any]]] = [
        ["check", None, "check the configuration, the key store, keys, cst and tokens, print the results, and exit"],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    settings: Settings
    inherited: Inherited | None = None

    def __init__(self) -> None:
        super().__init__()
        self.machines: list[str] = []

    def opt_machine(self, name: str) -> None:
        """with --check: sign a trial image with the keys of this machine, too; can be repeated"""  # noqa: D400, D403, D415 - the text of --help
        if not MACHINE.fullmatch(name):
            raise usage.UsageError(f"--machine {name!r} is not a machine name: expected {MACHINE_FORM}")
        self.machines.append(name)

    def opt_version(self) -> NoReturn:
        """show the version of digsigd and exit"""  # noqa: D400, D403, D415 - the text of --help
        sys.stdout.write(f"digsigd {__version__}\n")
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; below twistd a mistake raises `SystemExit`, alone `UsageError`.

        twistd ends with exit code 0 on a `UsageError` before Twisted 26.10, and systemd would not see that it failed.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            raise SystemExit(f"digsigd: {error}") from None

    def read(self) -> Settings:
        """Read the settings again, for a reload. Raises `SettingsError`."""
        return load(self._config, listen=self["listen"])

    def postOptions(self) -> None:
        """Read the configuration. Raises `UsageError` for mistakes in it or in the options."""
        form = self["log-format"]
        if form not in FORMATS:
            raise usage.UsageError(f"--log-format must be text or json, not {form!r}")
        config = self["config"]
        # twistd changes its working directory when it goes into the background, and a reload reads the file again.
        self._config = Path(config).absolute() if config else None
        # A worker has the settings of its supervisor: the file may have changed meanwhile.
        self.inherited = inherited()
        if self.inherited is not None:
            self.settings = self.inherited.settings
            return
        if self["check"] and self["as"]:
            # Before the configuration is read: the user must be able to read that, too.
            _become(self["as"])
        try:
            self.settings = load(Path(config) if config else None, listen=self["listen"])
        except SettingsError as error:
            raise usage.UsageError(str(error)) from None
        if not self["check"] and (self.machines or self["as"]):
            raise usage.UsageError("--machine and --as need --check")
        if self["check"] and self.parent is not None:
            # A check may run while the daemon runs, which has twistd's pidfile.
            self.parent["pidfile"] = ""


def makeService(options: Options, reactor: Reactor | None = None) -> IService:
    """Return the daemon for the given options, to run on the given reactor (None: the installed one).

    With `--check` it runs the check instead and raises `SystemExit`. The check is not a service that stops the reactor:
    once twistd runs services, its log goes to where the check prints, it may be in the background, and its exit code
    does not depend on its services. Raises `SystemExit` with one line for settings that cannot work.
    """
    # Imported late: they import Klein and treq, which import the reactor, and twistd's options choose that.
    from twisted.internet.task import react

    from digsigd.check import check
    from digsigd.daemon import Daemon
    from digsigd.workers.supervisor import Supervisor
    from digsigd.workers.worker import Worker

    log = partial(_observer_of, options)
    if options["check"]:
        react(check, (options.settings, options["config"], sys.stdout, options.machines), reactor_of(reactor))
    try:
        if options.inherited is not None:
            return Worker(options.inherited, reactor=reactor, observer=log)
        if options.settings.worker_count > 1:
            words = _worker_options(options, reactor_of(reactor))
            return Supervisor(options.settings, reactor=reactor, read=options.read, observer=log, options=words)
        return Daemon(options.settings, reactor=reactor, read=options.read, observer=log)
    except SettingsError as error:
        # twistd catches a UsageError only while it parses options.
        raise SystemExit(f"digsigd: {error}") from None


def _become(name: str) -> None:
    """Continue as another user, with its groups. Raises `UsageError` if that is not possible."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise usage.UsageError(
            f"--as {name}: no such user; for DynamicUser=yes run the check in a unit of the same kind, with systemd-run"
        ) from None
    if user.pw_uid == os.geteuid():
        return
    try:
        os.initgroups(name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except PermissionError:
        raise usage.UsageError(f"--as {name}: only root can check as another user") from None
    os.environ["HOME"] = user.pw_dir
    for path in (os.__file__, __file__):
        if not os.access(path, os.R_OK):
            raise usage.UsageError(f"--as {name}: this user cannot read {path}, so the daemon could not start either")


def _observer_of(options: Options) -> LineObserver | None:
    """Return the log observer, or None if twistd's options choose another (--logger takes precedence anyway)."""
    twistd: Any = getattr(options, "parent", None) or {}
    if twistd.get("syslog"):
        return None
    return observer(
        options["log-format"], _logfile_of(twistd), options.inherited.number if options.inherited is not None else None
    )


def _logfile_of(twistd: Any) -> str | None:
    logfile = twistd.get("logfile")
    if logfile is None and not twistd.get("nodaemon"):
        return "twistd.log"  # twistd's default
    return str(logfile) if logfile is not None else None


def _worker_options(options: Options, reactor: object) -> list[str]:
    """Return the command line of a worker below twistd: in the foreground, with the log and the reactor of this one."""
    twistd: Any = getattr(options, "parent", None) or {}
    words = ["--nodaemon", "--pidfile="]
    module = type(reactor).__module__
    if module != _DEFAULT_REACTOR:
        from twisted.application.reactors import getReactorTypes

        names = [one.shortName for one in getReactorTypes() if getattr(one, "moduleName", "") == module]
        words += [f"--reactor={name}" for name in names[:1]]
    if twistd.get("syslog"):
        words += ["--syslog", f"--prefix={twistd['prefix']}"]
    elif (logfile := _logfile_of(twistd)) is not None:
        # twistd opens it before it changes to --rundir, from where workers start.
        words.append(f"--logfile={logfile if logfile == '-' else Path(logfile).absolute()}")
    if twistd.get("logger"):
        words.append(f"--logger={twistd['logger']}")
    return [*words, "digsigd", f"--log-format={options['log-format']}"]
