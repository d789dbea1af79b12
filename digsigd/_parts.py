"""The parts of a signing service, made from its settings. They start once and stop once."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import DeferredList
from twisted.logger import Logger
from twisted.web.resource import IResource

from digsigd import __version__
from digsigd._observing import Observing
from digsigd._pages import pages_of
from digsigd._pools import Pools
from digsigd._safety import cage_of, no_cage, unsafe
from digsigd.callers.access import CurrentAccess
from digsigd.callers.from_settings import access_of
from digsigd.errors import DigsigError
from digsigd.keys import KeySource, KeyStore, key_source
from digsigd.listening import server_endpoint
from digsigd.metrics.cells import Cells
from digsigd.reactor import SigningReactor
from digsigd.readiness import Readiness
from digsigd.record.recorder import Recorder
from digsigd.reloading import Prepared, check_same_kind, needs_restart, rates_of, rules_of, with_endpoint
from digsigd.settings import Settings, own_workdir, workdir_of
from digsigd.settings.permissions import Finding, check_writable
from digsigd.signing.cst import CstRunner
from digsigd.signing.decisions import Decisions, RecordedSigner
from digsigd.signing.direct import DirectRequests
from digsigd.signing.host import CST, Host, OneProcess
from digsigd.signing.machine_keys import MachineKeyReader
from digsigd.signing.rules import CurrentRules
from digsigd.signing.self_tests import SelfTests
from digsigd.signing.signer import RunBounds, Signer
from digsigd.signing.tools import CstTools
from digsigd.signing.workroot import WorkRoot
from digsigd.tokens import pins_of, tokens_of
from digsigd.web.machine_keys import MachineKeyRequests
from digsigd.web.pages import Pages
from digsigd.web.resource import Endpoint
from digsigd.web.room import Room
from digsigd.web.shares import Shares
from digsigd.web.site import SigningSite
from digsigd.web.tls import CurrentTls, server_tls
from digsigd.web.uploads import Uploads

# How long finished answers may take to be sent, in seconds.
_LAST_SECONDS = 5.0


class Parts:
    """All parts, made and connected. Raises `SettingsError` for settings that cannot work.

    They accept requests between `start` and `stop`; before and after, every request is answered with `Busy`. A worker
    gives its `number`, from 1, and the `cells` of the host's metrics.
    """

    log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: SigningReactor,
        listens: bool = True,
        recorder: Recorder | None = None,
        host: Host | None = None,
        cells: Cells | None = None,
        number: int = 0,
    ) -> None:
        self._listens = listens
        host = OneProcess() if host is None else host
        self._reactor = reactor
        self._settings = self._started = settings
        first = self.prepare(settings)
        self.rules = CurrentRules(first.rules)
        self.tls = CurrentTls(first.tls)
        self.access = CurrentAccess(first.access)
        self.used = False
        self._open = False
        self._pools = Pools(reactor, settings.cst.max_running, pages=settings.page.enabled)
        self.in_thread = self._pools.in_thread
        self.source: KeySource = key_source(settings.keys, reactor=reactor, in_thread=self._pools.in_key_thread)
        self.keys = KeyStore(
            self.source,
            keep=settings.keys.keep,
            clock=reactor,
            in_thread=self._pools.in_key_thread,
            max_unpacked=settings.keys.max_unpacked,
        )
        self.tools = CstTools(settings.cst.base, settings.cst.versions)
        self.workdir = workdir_of(settings)
        self.root = WorkRoot(self.workdir, own=self.workdir == own_workdir())
        self._shares = Shares(
            share=settings.upload.share,
            max_at_once=settings.upload.max_at_once,
            rates=rates_of(settings),
            rate=settings.upload.rate or None,
            clock=reactor,
            counts=host.counts,
        )
        self._room = Room(
            # On the same file system as the directory itself, which may have been removed and is made again then.
            folder=lambda: self.root.path.parent,
            keep_free=settings.upload.keep_free,
            max_running=settings.cst.max_running,
            share=settings.upload.share,
            shares=self._shares,
            counts=host.counts,
        )
        self._queue = host.queue(
            CST,
            settings.cst.max_running,
            settings.cst.max_waiting,
            clock=reactor,
            share=settings.upload.share,
            limited=self._shares.is_limited,
        )
        self.runner = CstRunner(reactor, timeout=settings.cst.timeout, kill_after=settings.cst.kill_after)
        self.cage = no_cage()
        self._settings = settings
        self.bounds = RunBounds(
            cpu_seconds=settings.cst.cpu_seconds, memory=settings.cst.memory, open_files=settings.cst.open_files
        )
        self.tokens = tokens_of(settings, os.environ, clock=reactor, host=host)
        signer = Signer(
            tools=self.tools,
            runner=self.runner,
            queue=self._queue,
            keys=self.keys,
            rules=self.rules.of,
            bounds=self.bounds,
            in_thread=self.in_thread,
            in_digest_thread=self._pools.in_digest_thread,
            tokens=self.tokens,
        )
        self._publisher = self._pools.publisher_of(settings)
        # Ours, to start and stop; None if there is no record, or the recorder is that of an embedding program.
        self.recorder = self._pools.recorder_of(settings, self._publisher) if recorder is None else None
        recorder = recorder if recorder is not None else self.recorder
        decisions = Decisions(recorder)
        recorded = RecordedSigner(signer, decisions, in_thread=self.in_thread)
        self.observing = Observing(settings, cells, number, clock=reactor, in_thread=self.in_thread)
        self.direct = DirectRequests(
            signer=recorded, root=self.root, in_thread=self.in_thread, meter=self.observing.meter
        )
        self.machines = MachineKeyReader(
            keys=self.keys,
            rules=self.rules.of,
            tokens=self.tokens,
            tools=self.tools,
            in_thread=self.in_thread,
            clock=reactor,
        )
        self._key_requests = MachineKeyRequests(
            machines=self.machines, access=self.access, clock=reactor, shares=self._shares
        )
        self.uploads = Uploads(
            bounds=settings.upload,
            access=self.access,
            rules=self.rules,
            root=self.root,
            clock=reactor,
            in_thread=self.in_thread,
            decisions=decisions,
            shares=self._shares,
            room=self._room,
            hashing=self._pools.hashing,
            come_again=self._queue.come_again,
            outcomes=self.observing.outcomes,
        )
        self.readiness = Readiness(
            tools=self.tools,
            root=self.root,
            tokens=self.tokens,
            keys=self.keys,
            in_thread=self.in_thread,
            clock=reactor,
            recorder=recorder,
            canary=self.observing.missing,
        )
        missing = partial(host.missing, self.readiness.missing)
        self._pages = self._pages_of(settings, recorder, missing) if settings.page.enabled else None
        endpoint = Endpoint(
            sign=recorded.sign,
            missing=missing,
            pages=self._pages,
            machine_key_requests=self._key_requests,
            record_key=lambda: self.recorder.vkey if self.recorder is not None else None,
            scrape=self.observing.scrape_for(self.access),
            is_known=self.access.is_known,
            version=__version__,
        )
        self.resource: IResource = endpoint.resource()
        self.site = SigningSite(
            self.resource,
            self.uploads,
            max_connections=settings.listen.max_connections,
            anonymous=not settings.callers,
        )
        self.observing.connect(self, self._queue, self._room)
        # What the port serves: the site, behind TLS if it is configured.
        self.factory = self.tls.around(self.site, reactor)
        self._refuse_new()

    def _pages_of(
        self, settings: Settings, recorder: Recorder | None, missing: Callable[[], Awaitable[list[str]]]
    ) -> Pages:
        return pages_of(
            settings,
            source=self.source,
            named=lambda: self._settings.machines,
            rules=self.rules.of,
            access=self.access,
            shares=self._shares,
            clock=self._reactor,
            missing=missing,
            queue=self._queue,
            uploads=self.uploads,
            recorder=recorder,
            pools=self._pools,
            tests=SelfTests(
                tools=self.tools,
                runner=self.runner,
                queue=self._queue,
                root=self.root,
                bounds=self.bounds,
                in_thread=self.in_thread,
            ),
        )

    @property
    def state(self) -> str:
        """How many cst run, and how many requests wait for one, as a text."""
        return f"{self._queue.running} running, {self._queue.waiting} waiting"

    async def findings(self) -> list[Finding]:
        """Return what is not safe about the configuration and the files that it names. Raises `KeyStoreTimeout`."""
        running, certificate = self._as_running(self._settings), self.tls.value.certificate if self.tls.value else None
        return await unsafe(
            running, self.access.value, certificate, source=self.source, tools=self.tools, in_thread=self.in_thread
        )

    async def warn(self) -> None:
        """Log what is not safe, and what is missing before requests can be signed. Raises nothing."""
        await self.warn_unsafe()
        await self.readiness.warn()

    async def warn_unsafe(self) -> None:
        """Log what is not safe. Raises nothing."""
        try:
            for one in await self.findings():
                self.log.warn("not safe: {finding}", finding=str(one), event="not-safe")
        except DigsigError as error:
            self.log.warn("{error}", error=error.for_operator(), event="not-ready")
        except Exception:  # noqa: BLE001
            self.log.failure("cannot look for what is not safe", event="not-safe")

    def start(self) -> None:
        """Make the work directory, start the threads, and accept requests.

        Call it only once; it sets `used`. Raises `DigsigError` if the work directory cannot be used, and
        `SettingsError` if the cage that the settings require does not work here.
        """
        self.used = True
        self.cage = cage_of(self._settings.cst)
        self.runner.use(self.cage.start)
        self.root.open()
        self._pools.start()
        if self.recorder is not None:
            self.recorder.start()
        self._open = True
        self.uploads.start()
        self._key_requests.start()
        if self._pages is not None:
            self._pages.start()
        self.direct.start()
        self.readiness.start()
        self.observing.start()

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
        self.observing.stop()
        self.root.close()
        if self.recorder is not None:
            self.recorder.stop()
        self._pools.stop()

    def prepare(self, settings: Settings) -> Prepared:
        """Read the tokens, rights, certificates and PINs that settings name. It changes nothing, and blocks.

        Raises `SettingsError` if one cannot be used, or the settings do not fit those of the start.
        """
        check_same_kind(self._started, settings)
        check_writable(settings)
        if self._listens and settings.listen.endpoint != self._started.listen.endpoint:
            # The next start would fail, and nobody would see why.
            server_endpoint(self._reactor, settings.listen.endpoint)
        tls = server_tls(settings.listen.tls) if self._listens else None
        running = self._as_running(settings)
        access = access_of(running, tls.crls if tls is not None else (), listens=self._listens)
        return Prepared(settings, tls, access, rules_of(settings), pins_of(settings, os.environ))

    def reload(self, prepared: Prepared) -> list[str]:
        """Put what was prepared in place, for requests that begin from now on. Those under way keep what they had.

        Returns the keys of the configuration whose new values need a restart.
        """
        self.tokens.reload(prepared.pins, {name: one.machines for name, one in prepared.settings.pkcs11.tokens.items()})
        self.tls.value, self.access.value, self.rules.value = prepared.tls, prepared.access, prepared.rules
        self._settings = prepared.settings
        self._shares.reload(rates_of(prepared.settings))
        self.observing.label(prepared.settings.machines)
        self.site.anonymous = not prepared.settings.callers
        return needs_restart(self._started, prepared.settings)

    def _as_running(self, settings: Settings) -> Settings:
        """Return settings with the endpoint that is listened on. Raises `SettingsError` if they do not fit it."""
        return with_endpoint(settings, self._started.listen.endpoint) if self._listens else settings

    def _refuse_new(self) -> None:
        self.uploads.stop()
        self._key_requests.stop()
        if self._pages is not None:
            self._pages.stop()
        self.direct.stop()
        self.readiness.stop()
        self.observing.refuse_new()

    async def hurry(self) -> None:
        """End what is under way at once; `stop` then has nothing to wait for."""
        self._refuse_new()
        self._queue.stop()
        self._end()
        await self.runner.stop(0)

    async def _stop_in_order(self, grace: float) -> None:
        self._refuse_new()
        under_way = self.uploads.active + self._key_requests.active + self.direct.active
        if under_way or self._queue.running:
            self.log.info("{count} requests have {grace:g} s to finish", count=under_way, grace=grace, event="stopping")
            await self._drained(grace)
        self._queue.stop()
        await self.runner.stop(0)
        self._end()
        await self._drained(_LAST_SECONDS)
        await self.in_thread(self.root.close)
        if self.recorder is not None:
            # Before connections are closed: answers wait for their entries.
            await self.in_thread(self.recorder.stop)
            await self._publisher.stop()
        await self.observing.last(self._reactor)
        await self.site.answer_last()
        self.site.close_connections()
        await self.keys.stop()

    def _end(self) -> None:
        for part in (self.uploads, self._key_requests, self.direct, self._pages):
            if part is not None:
                part.end()

    async def _drained(self, seconds: float) -> None:
        """Wait until no request is under way, at most this many seconds."""
        waiting = (
            self.uploads, self._key_requests, self._queue, self.direct, self.readiness, self.observing, self._pages,
        )  # fmt: skip
        every = DeferredList([part.drained() for part in waiting if part is not None], consumeErrors=True)
        every.addTimeout(seconds, self._reactor)
        await every.addErrback(lambda _: None)
