"""The parts of a signing service, made from its settings. They start once and stop once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import IResource

from digsigd import csf
from digsigd.keys import KeySource, KeyStore, key_source
from digsigd.reactor import SigningReactor
from digsigd.readiness import Readiness
from digsigd.settings import Settings, SettingsError, own_workdir, read_secret, workdir_of
from digsigd.signing.cst import CstRunner
from digsigd.signing.direct import DirectRequests
from digsigd.signing.job import MachineRules
from digsigd.signing.machine_keys import MachineKeyReader
from digsigd.signing.queue import Queue
from digsigd.signing.signer import RunBounds, Signer
from digsigd.signing.threads import in_threads_of
from digsigd.signing.tools import CstTools
from digsigd.signing.workdir import WorkRoot
from digsigd.tokens import tokens_of
from digsigd.web.callers import Callers
from digsigd.web.machine_keys import MachineKeyRequests
from digsigd.web.resource import Endpoint
from digsigd.web.shares import Shares
from digsigd.web.site import SigningSite
from digsigd.web.upload import Uploads

P = ParamSpec("P")
T = TypeVar("T")
# Shorter tokens could be guessed. 16 characters of base64 are 96 bits.
_SHORTEST_TOKEN = 16
# How many threads may wait for a key store that does not answer. They are separate from the threads that verify.
_KEY_THREADS = 16
# How long finished answers may take to be sent, in seconds.
_LAST_SECONDS = 5.0


class Parts:
    """All parts, made and connected. Raises `SettingsError` for settings that cannot work.

    They accept requests between `start` and `stop`; before and after, every request is answered with `Busy`.
    """

    log = Logger()

    def __init__(self, settings: Settings, *, reactor: SigningReactor) -> None:
        rules = {name: _rules_of(settings, name) for name in settings.machines}
        general = _rules_of(settings, None)
        self.used = False
        self._open = False
        self._reactor = reactor
        self._pools = _Pools(reactor, settings.cst.max_running)
        self.in_thread = self._pools.in_thread
        self.source: KeySource = key_source(settings.keys, reactor=reactor, in_thread=self._pools.in_key_thread)
        self.keys = KeyStore(
            self.source,
            keep=settings.keys.keep,
            clock=reactor,
            in_thread=self._pools.in_key_thread,
            pins={name: machine.keys_sha256 for name, machine in settings.machines.items() if machine.keys_sha256},
            max_unpacked=settings.keys.max_unpacked,
        )
        self.tools = CstTools(settings.cst.base, settings.cst.versions)
        self.workdir = workdir_of(settings)
        self.root = WorkRoot(self.workdir, own=self.workdir == own_workdir())
        self._queue = Queue(
            settings.cst.max_running,
            settings.cst.max_waiting,
            clock=reactor,
            share=settings.upload.share if len(settings.callers) > 1 else 1.0,
        )
        self.runner = CstRunner(reactor, timeout=settings.cst.timeout, kill_after=settings.cst.kill_after)
        self.bounds = RunBounds(
            cpu_seconds=settings.cst.cpu_seconds, memory=settings.cst.memory, open_files=settings.cst.open_files
        )
        self.tokens = tokens_of(settings, os.environ, clock=reactor)
        signer = Signer(
            tools=self.tools,
            runner=self.runner,
            queue=self._queue,
            keys=self.keys,
            rules=lambda machine: rules.get(machine, general),
            bounds=self.bounds,
            in_thread=self.in_thread,
            in_digest_thread=self._pools.in_digest_thread,
            tokens=self.tokens,
        )
        self.direct = DirectRequests(signer=signer, root=self.root, in_thread=self.in_thread)
        self.machines = MachineKeyReader(
            keys=self.keys,
            fuse_value=lambda machine: rules.get(machine, general).fuse_value,
            tokens=self.tokens,
            tools=self.tools,
            in_thread=self.in_thread,
            clock=reactor,
        )
        callers = _callers_of(settings)
        self._key_requests = MachineKeyRequests(machines=self.machines, callers=callers, clock=reactor)
        shares = Shares(
            share=settings.upload.share,
            max_at_once=settings.upload.max_at_once,
            callers=len(settings.callers),
            rates={name: caller.rate for name, caller in settings.callers.items()},
            rate=settings.upload.rate or None,
            folder=lambda: self.root.path,
            clock=reactor,
        )
        self.uploads = Uploads(
            bounds=settings.upload,
            callers=callers,
            root=self.root,
            clock=reactor,
            in_thread=self.in_thread,
            shares=shares,
        )
        self.readiness = Readiness(
            tools=self.tools,
            root=self.root,
            tokens=self.tokens,
            keys=self.keys,
            in_thread=self.in_thread,
            clock=reactor,
        )
        endpoint = Endpoint(sign=signer.sign, missing=self.readiness.missing, machine_key_requests=self._key_requests)
        self.resource: IResource = endpoint.resource()
        self.site = SigningSite(
            self.resource,
            self.uploads,
            max_connections=settings.listen.max_connections,
            anonymous=not settings.callers,
        )
        self._refuse_new()

    def start(self) -> None:
        """Make the work directory, start the threads, and accept requests.

        Call it only once; it sets `used`. Raises `DigsigError` if the work directory cannot be used.
        """
        self.used = True
        self.root.open()
        self._pools.start()
        self._open = True
        self.uploads.start()
        self._key_requests.start()
        self.direct.start()
        self.readiness.start()

    async def stop(self, grace: float) -> None:
        """Refuse new requests, let the others finish within `grace` seconds, end the rest, remove every directory."""
        try:
            await self._stop_in_order(grace)
        finally:
            self.close()
            self.log.info("stopped", event="stopped")

    def close(self) -> None:
        """Release immediately what `start` has taken. It may be called again."""
        if not self._open:
            return
        self._open = False
        self._refuse_new()
        self.root.close()
        self._pools.stop()

    def _refuse_new(self) -> None:
        self.uploads.stop()
        self._key_requests.stop()
        self.direct.stop()
        self.readiness.stop()

    async def _stop_in_order(self, grace: float) -> None:
        self._refuse_new()
        under_way = self.uploads.active + self._key_requests.active + self.direct.active
        if under_way or self._queue.running:
            self.log.info("{count} requests have {grace:g} s to finish", count=under_way, grace=grace, event="stopping")
            await self._drained(grace)
        self._queue.stop()
        await self.runner.stop(0)
        self.uploads.end()
        self._key_requests.end()
        self.direct.end()
        await self._drained(_LAST_SECONDS)
        await self.in_thread(self.root.close)
        self.site.close_connections()
        await self.keys.stop()

    async def _drained(self, seconds: float) -> None:
        """Wait until no request is under way, at most this many seconds."""
        waiting = (self.uploads, self._key_requests, self._queue, self.direct)
        every = DeferredList([part.drained() for part in waiting], consumeErrors=True)
        every.addTimeout(seconds, self._reactor)
        await every.addErrback(lambda _: None)


class _Pools:
    """The thread pools of one run of the service: a stopped pool cannot start again."""

    def __init__(self, reactor: IReactorThreads, max_running: int) -> None:
        self._reactor = reactor
        self._work = ThreadPool(1, max_running + 2, name="digsigd")
        # Digests of large artifacts take seconds. They have a separate pool, so that no other request waits for it.
        self._digests = ThreadPool(0, max_running, name="digsigd-digests")
        self._keys = ThreadPool(0, _KEY_THREADS, name="digsigd-keys")
        # A thread that waits for a dead file server must not keep the process from ending.
        self._keys.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self.in_thread = in_threads_of(reactor, self._work)
        self.in_digest_thread = in_threads_of(reactor, self._digests)

    def in_key_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a blocking function in a thread that does not keep the process from ending."""
        return deferToThreadPool(self._reactor, self._keys, function, *args, **kwargs)

    def start(self) -> None:
        """Start all pools."""
        for pool in (self._work, self._digests, self._keys):
            pool.start()

    def stop(self) -> None:
        """Stop all pools. Wait for the threads that work for requests, but not for those that wait for a key store."""
        self._work.stop()
        self._digests.stop()
        if self._keys.working:
            self._keys.adjustPoolsize(0, 0)
        else:
            self._keys.stop()


def _rules_of(settings: Settings, name: str | None) -> MachineRules:
    """Return the rules of a machine; for None the rules of all machines that the settings do not name."""
    machine = settings.machines.get(name) if name is not None else None
    where = "policy.allow" if machine is None else f"machines.{name}.allow"
    try:
        policy = csf.Policy(frozenset(settings.policy.allow + (machine.allow if machine else ())))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    require_ivt = settings.policy.require_ivt
    if machine is not None and machine.require_ivt is not None:
        require_ivt = machine.require_ivt
    fuses = bytes.fromhex(machine.fuses) if machine and machine.fuses else None
    return MachineRules(policy, fuses, require_ivt)


def _callers_of(settings: Settings) -> Callers:
    """Return the callers who may sign, with the tokens read from their files."""
    callers = {}
    names: dict[str, str] = {}
    for name, caller in settings.callers.items():
        token = read_secret(caller.token_file, f"callers.{name}.token_file")
        if len(token) < _SHORTEST_TOKEN:
            raise SettingsError(
                f"callers.{name}.token_file: the token in {caller.token_file} has fewer than {_SHORTEST_TOKEN}"
                " characters; make a longer one with: openssl rand -base64 32"
            )
        if token in names:
            raise SettingsError(
                f"callers.{name}.token_file: has the same token as caller {names[token]!r}; each caller needs a"
                " different one"
            )
        names[token] = name
        callers[name] = (token, caller.machines, caller.backends)
    return Callers(callers)
