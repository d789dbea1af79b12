"""The daemon put together: everything is made here from the settings, started, and stopped in order."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.resource import IResource

from digsigd import csf
from digsigd.errors import DigsigError, NoKeys, shutting_down
from digsigd.keys import KeySource, KeyStore, key_source
from digsigd.settings import Settings, SettingsError, own_workdir, read_secret, workdir_of
from digsigd.signing.cst import CstRunner
from digsigd.signing.job import MachineRules
from digsigd.signing.machine_keys import MachineKeyReader
from digsigd.signing.queue import Queue
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.selftest import prove
from digsigd.signing.signer import RunBounds, Signer
from digsigd.signing.threads import in_threads_of
from digsigd.signing.tools import CstTool, CstTools
from digsigd.signing.workdir import WorkRoot
from digsigd.tokens import pins_of, tokens_of
from digsigd.web.callers import Callers
from digsigd.web.machine_keys import MachineKeyRequests
from digsigd.web.request import RequestFactory, SigningSite
from digsigd.web.resource import Endpoint
from digsigd.web.upload import Uploads

T = TypeVar("T")
# A token that can be guessed is none. 16 characters of base64 are 96 bits.
_SHORTEST_TOKEN = 16
# Readiness is asked for by load balancers, often; the key store hears of it once in so many seconds.
_READY_FOR = 2.0
# Threads that may wait for a key store that does not answer. They are apart from those that verify.
_KEY_THREADS = 16


class SigningService(Service):
    """A signing daemon as a service: start it alone or in anybody's `MultiService`.

    `listen=False` opens no port: mount `resource` on a site of your own whose requests `request_factory(path)` makes,
    or call `sign`. Raises `SettingsError` where settings name what cannot be. Starting raises `DigsigError` or
    `CannotListenError`. Stopping accepts nothing new, lets requests under way finish within `daemon.shutdown_grace`
    seconds, ends the rest, and removes every directory. It starts once.
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
        self._listening: Deferred[IListeningPort] | None = None
        rules = {name: _rules_of(settings, name) for name in settings.machines}
        general = _rules_of(settings, None)
        self._pool = ThreadPool(1, settings.cst.max_running + 2, name="digsigd")
        self._key_pool = ThreadPool(0, _KEY_THREADS, name="digsigd-keys")
        # Whoever waits for a dead file server must not hold up the end of the process.
        self._key_pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        # Digests of large artifacts take seconds: no other request waits for their threads.
        self._digest_pool = ThreadPool(0, settings.cst.max_running, name="digsigd-digests")
        self._in_thread = in_threads_of(reactor, self._pool)
        self.source: KeySource = key_source(settings.keys, reactor=reactor, in_thread=self._in_key_thread)
        self.keys = KeyStore(
            self.source,
            keep=settings.keys.keep,
            clock=reactor,
            in_thread=self._in_key_thread,
            pins={name: machine.keys_sha256 for name, machine in settings.machines.items() if machine.keys_sha256},
            max_unpacked=settings.keys.max_unpacked,
        )
        self.tools = CstTools(settings.cst.base, settings.cst.versions)
        self.workdir = workdir_of(settings)
        self._root = WorkRoot(self.workdir, own=self.workdir == own_workdir())
        self._queue = Queue(settings.cst.max_running, settings.cst.max_waiting, clock=reactor)
        self._runner = CstRunner(reactor, timeout=settings.cst.timeout, kill_after=settings.cst.kill_after)
        self._bounds = RunBounds(
            cpu_seconds=settings.cst.cpu_seconds, memory=settings.cst.memory, open_files=settings.cst.open_files
        )
        self.tokens = tokens_of(settings, os.environ, clock=reactor)
        self.signer = Signer(
            tools=self.tools,
            runner=self._runner,
            queue=self._queue,
            keys=self.keys,
            rules=lambda machine: rules.get(machine, general),
            bounds=self._bounds,
            in_thread=self._in_thread,
            in_digest_thread=in_threads_of(reactor, self._digest_pool),
            tokens=self.tokens,
        )
        self.machines = MachineKeyReader(
            keys=self.keys,
            fuse_value=lambda machine: rules.get(machine, general).fuse_value,
            tokens=self.tokens,
            tools=self.tools,
            in_thread=self._in_thread,
            clock=reactor,
        )
        callers = _callers_of(settings)
        self._inquiries = MachineKeyRequests(machines=self.machines, callers=callers, clock=reactor)
        self._uploads = Uploads(
            bounds=settings.upload,
            callers=callers,
            root=self._root,
            clock=reactor,
            in_thread=self._in_thread,
        )
        endpoint = Endpoint(sign=self.signer.sign, missing=self.missing, machine_key_requests=self._inquiries)
        self.resource: IResource = endpoint.resource()
        self._site = SigningSite(self.resource, self._uploads)
        self._missing: Deferred[list[str]] | None = None
        # What was asked for without HTTP, and what fires when it is over.
        self._direct: dict[Deferred[Signed], Deferred[None]] = {}

    @property
    def address(self) -> Any:
        """Where it listens, once it does; None before and without a port."""
        port = getattr(self._listening, "result", None)
        return port.getHost() if port is not None and not isinstance(port, Failure) else None

    @property
    def left_alone(self) -> str:
        """What the start found beside directories of daemons in the work directory, and left alone; in words."""
        return self._root.left_alone

    def request_factory(self, mount: str) -> RequestFactory:
        """Makes the requests of a site that has `resource` at the path `mount`: `Site(root, requestFactory=this)`."""
        return RequestFactory(self._uploads, mount=mount, keep_others=True)

    async def sign(self, request: SigningRequest) -> Signed:
        """Sign without HTTP. Raises the errors of `digsigd.errors`, `Busy` among them once the service stops."""
        if not self.running:
            raise shutting_down()
        signing = Deferred.fromCoroutine(self._sign(request))
        over = self._direct[signing] = Deferred()
        try:
            return await signing
        except CancelledError:
            if self.running:
                raise
            raise shutting_down() from None
        finally:
            del self._direct[signing]
            over.callback(None)

    async def _sign(self, request: SigningRequest) -> Signed:
        workdir = self._root.new(f"d{secrets.token_hex(8)}")
        try:
            return await self.signer.sign(request, workdir)
        finally:
            await self._in_thread(workdir.remove)

    async def missing(self) -> list[str]:
        """What is missing before requests can be signed, a line each; nothing means ready."""
        if self._uploads.stopped:
            return ["this signing host is shutting down"]
        if self._missing is None:
            self._missing = Deferred.fromCoroutine(self._find_missing())
            self._missing.addBoth(self._forget_missing)
        waiting: Deferred[list[str]] = Deferred()

        def both(result: Any) -> Any:
            waiting.callback(result)
            return result

        self._missing.addBoth(both)
        return await waiting

    def startService(self) -> None:
        """Make the work directory, start the threads, and listen."""
        if self._pool.joined:
            raise RuntimeError("a SigningService starts once; make a new one")
        self._root.open()
        self._pool.start()
        self._digest_pool.start()
        self._key_pool.start()
        super().startService()
        if self._listen:
            endpoint = self.settings.listen.endpoint
            try:
                listening = serverFromString(self._reactor, endpoint).listen(self._site)
            except (ValueError, TypeError, OSError) as error:
                self._close()
                raise SettingsError(f"listen.endpoint: {endpoint!r}: {error}") from None
            self._listening = listening
            if isinstance(result := getattr(listening, "result", None), Failure):
                listening.addErrback(lambda _: None)
                self._close()
                result.raiseException()
            listening.addCallbacks(self._is_listening, self._cannot_listen)
            Deferred.fromCoroutine(self._warn_of_missing())

    def stopService(self) -> Deferred[None]:
        """Stop accepting, let requests finish within the grace, end the rest, remove every directory."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Read the PINs of tokens again, and use those again that had failed. Raises `SettingsError`."""
        self.tokens.reload(pins_of(self.settings, os.environ))
        self.log.info("reloaded", event="reloaded")

    async def prove(self, tool: CstTool) -> str | None:
        """Why a cst cannot sign on this host; None if it has just signed a trial image. For operators."""
        workdir = self._root.new(f"p{secrets.token_hex(8)}")
        try:
            return await prove(tool, self._runner, workdir, self._in_thread, self._bounds)
        finally:
            await self._in_thread(workdir.remove)

    async def describe_keys(self, machine: str) -> str:
        """What a machine's tarball holds, for operators. Raises the errors of `digsigd.errors`."""
        facts = await self.machines.facts(machine)
        fuses = ", ".join(facts.fuse_values)
        return f"{len(facts.certificates)} certificates, fuse value {fuses}, sha256 {facts.sha256}"

    def _in_key_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._key_pool, function, *args, **kwargs)

    async def _find_missing(self) -> list[str]:
        missing = []
        if not await self._in_thread(self.tools.available):
            missing.append("no cst: there is none below the base folder, and none in [cst.versions]")
        try:
            await self._in_thread(self._try_workdir)
        except DigsigError as error:
            self.log.warn("{error}", error=str(error), event="not-ready")
            missing.append(f"work directory: {error.for_client()}")
        missing += self.tokens.missing()
        try:
            await self.keys.check()
        except NoKeys:
            pass  # it answered
        except DigsigError as error:
            self.log.warn("{error}", error=str(error), event="not-ready")
            missing.append(f"key store: {error.for_client()}")
        return missing

    def _try_workdir(self) -> None:
        self._root.new(f"t{secrets.token_hex(8)}").remove()

    def _forget_missing(self, result: T) -> T:
        def forget() -> None:
            self._missing = None

        if self.running and not self._uploads.stopped:
            self._forgetting = self._reactor.callLater(_READY_FOR, forget)
        else:
            forget()
        return result

    async def _warn_of_missing(self) -> None:
        try:
            for line in await self.missing():
                self.log.warn("not ready: {missing}", missing=line, event="not-ready")
        except Exception:  # noqa: BLE001 - whatever it is, the daemon serves on
            self.log.failure("readiness cannot be told", event="not-ready")

    def _is_listening(self, port: IListeningPort) -> IListeningPort:
        host: Any = port.getHost()
        address = f"{host.host}:{host.port}" if hasattr(host, "port") else str(getattr(host, "name", host))
        # Whoever waits for this line may stop the daemon at once: before the reactor runs, a signal would end the
        # process where it stands, and leave the work directory.
        self._reactor.callWhenRunning(
            partial(self.log.info, "listening on {address}", address=address, event="listening")
        )
        return port

    def _cannot_listen(self, failure: Failure) -> None:
        self.log.failure("cannot listen on {endpoint}", failure, endpoint=self.settings.listen.endpoint)

    async def _stop(self) -> None:
        try:
            await self._stop_in_order()
        finally:
            if self._missing is not None and (call := getattr(self, "_forgetting", None)) and call.active():
                call.cancel()
            self._close()
            self.log.info("stopped", event="stopped")

    async def _stop_in_order(self) -> None:
        if self._listening is not None:
            port = await self._listening
            if port is not None:
                await _deferred(port.stopListening())
        self._uploads.stop()
        self._inquiries.stop()
        grace = self.settings.daemon.shutdown_grace
        under_way = self._uploads.active + self._inquiries.active + len(self._direct)
        if under_way or self._queue.running:
            self.log.info("{count} requests have {grace:g} s to finish", count=under_way, grace=grace, event="stopping")
            await self._drained(grace)
        self._queue.stop()
        await self._runner.stop(0)
        self._uploads.end()
        self._inquiries.end()
        for signing in list(self._direct):
            signing.cancel()
        await self._drained(_LAST_SECONDS)
        await self._in_thread(self._root.close)
        self._site.close_connections()
        await self.keys.stop()

    async def _drained(self, seconds: float) -> None:
        """Wait until no request is under way, but no longer than this."""
        waiting = [self._uploads.drained(), self._inquiries.drained(), self._queue.drained()]
        for over in self._direct.values():
            waiting.append(Deferred())
            over.chainDeferred(waiting[-1])
        every = DeferredList(waiting, consumeErrors=True)
        every.addTimeout(seconds, self._reactor)
        await every.addErrback(lambda _: None)

    def _close(self) -> None:
        """What a start has made and a stop, or a start that failed, gives back."""
        self._root.close()
        self._pool.stop()
        self._digest_pool.stop()
        if not self._key_pool.working:
            self._key_pool.stop()


# How long answers that are ready may take to leave.
_LAST_SECONDS = 5.0


def _deferred(result: Any) -> Deferred[Any]:
    return result if isinstance(result, Deferred) else succeed(result)


def _rules_of(settings: Settings, name: str | None) -> MachineRules:
    """The rules of one machine, or of those that have none of their own."""
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
    """Everybody who may sign, with the tokens from their files."""
    callers = {}
    names: dict[str, str] = {}
    for name, caller in settings.callers.items():
        token = read_secret(caller.token_file, f"callers.{name}.token_file")
        if len(token) < _SHORTEST_TOKEN:
            raise SettingsError(
                f"callers.{name}.token_file: {caller.token_file} has a token of fewer than {_SHORTEST_TOKEN}"
                " characters; make one with: openssl rand -base64 32"
            )
        if token in names:
            raise SettingsError(f"callers.{name}.token_file: has the token of caller {names[token]!r}")
        names[token] = name
        callers[name] = (token, caller.machines, caller.backends)
    return Callers(callers)
