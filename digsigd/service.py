"""The daemon put together: everything is made here from the settings, started, and stopped in order."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from klein.resource import KleinResource
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from digsigd import csf, hab
from digsigd.errors import BadTarball, DigsigError
from digsigd.keys import KeyStore, key_source
from digsigd.settings import Settings, SettingsError, workdir_of
from digsigd.signing.cst import CstRunner
from digsigd.signing.line import Line
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.signer import MachineRules, RunBounds, Signer
from digsigd.signing.threads import in_threads_of
from digsigd.signing.tools import CstTool, CstTools, probe
from digsigd.signing.workdir import Workdir, WorkRoot


class SigningService(Service):
    """A signing daemon as a service: start it alone or in anybody's `MultiService`.

    `listen=False` opens no port: mount `resource` under a site of your own, or call `sign`. Raises `SettingsError`
    where settings name what cannot be. Stopping stops accepting, lets requests under way finish within
    `daemon.shutdown_grace` seconds, ends the rest, and removes every directory.
    """

    log = Logger()
    name = "digsigd"

    def __init__(self, settings: Settings, *, reactor: Any = None, listen: bool = True) -> None:
        if reactor is None:
            from twisted.internet import reactor as installed

            reactor = installed
        self.settings = settings
        self._reactor = reactor
        self._listen = listen
        self._port: IListeningPort | None = None
        self._rules = {name: _rules_of(settings, name) for name in settings.machines}
        self._general = _rules_of(settings, None)
        self._pool = ThreadPool(1, settings.cst.max_running + 4, name="digsigd")
        self.source = _source_of(settings, reactor)
        self.keys = KeyStore(self.source)
        self.tools = CstTools(settings.cst.base, {v: str(p) for v, p in settings.cst.versions.items()})
        self.workdir = workdir_of(settings)
        self.root = WorkRoot(self.workdir)
        self.line = Line(settings.cst.max_running, settings.cst.max_waiting, clock=reactor)
        self.runner = CstRunner(reactor, timeout=settings.cst.timeout, kill_after=settings.cst.kill_after)
        self.signer = Signer(
            tools=self.tools,
            runner=self.runner,
            line=self.line,
            keys=self.keys,
            rules=lambda machine: self._rules.get(machine, self._general),
            bounds=RunBounds(
                cpu_seconds=settings.cst.cpu_seconds, memory=settings.cst.memory, open_files=settings.cst.open_files
            ),
            in_thread=in_threads_of(reactor, self._pool),
        )
