"""twistd with digsigd as its only plugin: `digsigd run`, and the processes of workers.

`twistd digsigd` looks for all plugins of Twisted that are installed, and writes what it finds to a cache in their
folders. A user who may not write there gets a traceback in the log at each start. Here nothing is looked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.scripts import twistd

# As in twisted/plugins/digsigd_plugin.py, which is for twistd itself.
_MAKER: Any = ServiceMaker("digsigd", "digsigd.tap", "Signing daemon for NXP i.MX boot and kernel images.", "digsigd")
_TwistdOptions: Any = getattr(twistd, "ServerOptions")  # noqa: B009 - it is not in the module's __all__


class _Options(_TwistdOptions):
    """The options of twistd, with one subcommand."""

    @property
    def subCommands(self) -> list[tuple[str, None, Any, str]]:
        """The subcommand, as `usage.Options` wants it. twistd finds its plugin in `loadedPlugins`."""
        self.loadedPlugins = {_MAKER.tapname: _MAKER}
        return [(_MAKER.tapname, None, lambda: _MAKER.options(), _MAKER.description)]


def in_foreground(words: Sequence[str], *, logfile: str | None = None) -> list[str]:
    """Return the command line of twistd for the options `words` of digsigd: in the foreground, without a pidfile."""
    log = [] if logfile is None else [f"--logfile={logfile}"]
    return ["--nodaemon", "--pidfile=", *log, _MAKER.tapname, *words]


def run(words: Sequence[str] | None = None) -> None:
    """Run twistd with a command line (None: that of the process) until it ends.

    Raises `SystemExit` for mistakes in it or in the configuration. A signal that stopped the daemon ends the process.
    """
    options = _Options()
    try:
        options.parseOptions(sys.argv[1:] if words is None else list(words))
    except usage.UsageError as error:
        raise SystemExit(f"digsigd: {error}") from None
    twistd.runApp(options)
