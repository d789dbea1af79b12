"""The daemon as a Twisted service. It listens or is mounted on a site, and can be stopped and started again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource

from digsigd import __version__
from digsigd._parts import Parts
from digsigd.descriptors import room
from digsigd.errors import shutting_down
from digsigd.listening import address_of, begin_listening, server_endpoint
from digsigd.metrics_port import MetricsPort
from digsigd.reactor import Reactor, reactor_of
from digsigd.record.recorder import Recorder
from digsigd.reloading import Prepared
from digsigd.settings import Settings
from digsigd.signing.request import Signed, SigningRequest
from digsigd.web.mount import CurrentRequests, CurrentResource, put

Address: TypeAlias = IPv4Address | IPv6Address | UNIXAddress


class SigningService(Service):
    """A signing daemon as a service. Start it alone or in a `MultiService`.

    `listen=False` opens no port: `mount` the service on a site, or call `sign`. `reactor=None` uses the installed
    reactor. `recorder` writes the record instead of the database that the settings name; the program starts and stops
    it. Raises `SettingsError` for settings that cannot work, and `TypeError` for a reactor that lacks an
    interface.

    It can be stopped and started again, and a failed start can be repeated. Each start after the first reads the files
    that the settings name again, such as tokens. A mounted resource stays valid, and answers 503 while the service is
    not running.
    """

    log = Logger()
    name = "digsigd"

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Reactor | None = None,
        listen: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        self.settings = settings
        self.resource: IResource = CurrentResource(lambda: self._parts.resource)
        self._reactor = reactor_of(reactor)
        self._listen = listen
        self._recorder = recorder
        self._parts = self._new_parts()
        self._listening: Deferred[None] | None = None
        self._port: IListeningPort | None = None
        self._metrics: MetricsPort | None = None
        # While it stops: the Deferreds that fire at the end. Otherwise None.
        self._reloading = DeferredLock()
        self._when_stopped: list[Deferred[None]] | None = None

    @property
    def address(self) -> Address | None:
        """The address that it listens on. None if it does not listen, or not on TCP or a UNIX socket."""
        host = self._port.getHost() if self._port is not None else None
        return host if isinstance(host, Address) else None

    def mount(self, root: Resource, path: str) -> INonQueuedRequestFactory:
        """Put the endpoint at `path` below `root`, and return the request factory that the site of `root` needs.

        Use it as `Site(root, requestFactory=service.mount(root, "/signing"))`. Raises `ValueError` if the path is empty
        or taken, or has characters that URLs would escape.
        """
        put(root, path, self.resource)
        return self.request_factory(path)

    def request_factory(self, path: str) -> INonQueuedRequestFactory:
        """Return the request factory for a site that serves `resource` at `path` without `mount`."""
        factory: INonQueuedRequestFactory = CurrentRequests(lambda: self._parts.uploads, path)
        return factory

    async def sign(self, request: SigningRequest) -> Signed:
        """Sign a request without HTTP. Cancelling stops cst.

        Raises the errors of `digsigd.errors`; while the service is not running, that is `Busy`.
        """
        if not self.running:
            raise shutting_down()
        return await self._parts.direct.sign(request)

    async def missing(self) -> list[str]:
        """Return what is missing before requests can be signed, one line each; an empty list means ready."""
        return await self._parts.readiness.missing()

    async def reload(self, read: Callable[[], Settings] | None = None) -> None:
        """Replace who may sign what: callers, rights, policy, machines, pins, TLS, PINs. Try failed tokens again.

        `read` returns the new settings, and is called in a thread; without it, only the files that the settings name
        are read again. Everything is replaced at once, for requests that begin from then on; those under way keep what
        they began with. Settings that need a restart are logged. Raises `SettingsError` if the settings or a file
        cannot be used; nothing has changed then.
        """
        parts = self._parts

        def prepared() -> Prepared:
            return parts.prepare(self.settings if read is None else read())

        await self._reloading.acquire()
        try:
            prepare = parts.in_thread(prepared) if self.running else maybeDeferred(prepared)
            found = await prepare
            restart = parts.reload(found)
            self.settings = found.settings
        finally:
            self._reloading.release()
        if restart:
            self.log.warn("changed, but needs a restart: {keys}", keys=", ".join(restart), event="reloaded")
        self.log.info("reloaded", event="reloaded")
        await parts.warn_unsafe()

    def startService(self) -> None:
        """Make the work directory, start the threads, and listen.

        Raises `DigsigError` if the work directory cannot be used, `CannotListenError` if the port cannot be opened, and
        `SettingsError` if the endpoint is invalid or, at a later start, a file that the settings name can no longer be
        used. Nothing runs then. Raises `RuntimeError` if the service is running or stopping: wait for the Deferred of
        `stopService` first.
        """
        if self.running:
            raise RuntimeError("this SigningService is already running")
        if self._when_stopped is not None:
            raise RuntimeError("this SigningService is still stopping: wait for the Deferred of stopService")
        if self._parts.used:
            self._parts = self._new_parts()
        self._parts.start()
        if self._listen:
            try:
                self._serve_metrics()
                self._begin_listening()
            except BaseException:
                if self._metrics is not None:
                    Deferred.fromCoroutine(self._metrics.stop())
                self._parts.close()
                raise
        super().startService()
        self._parts.observing.start_canary()
        if self._listen:
            Deferred.fromCoroutine(self._warn())

    def stopService(self) -> Deferred[None]:
        """Refuse new requests, let the others finish within `daemon.shutdown_grace` seconds, and end the rest.

        The Deferred fires when every directory is removed and every thread has ended; immediately if the service is
        not running. Cancelling it has no effect on the stop.
        """
        was_running = bool(self.running)
        super().stopService()
        over: Deferred[None] = Deferred()
        if was_running:
            self._when_stopped = [over]
            Deferred.fromCoroutine(self._stop()).addBoth(self._stopped)
        elif self._when_stopped is not None:
            self._when_stopped.append(over)
        else:
            over.callback(None)
        return over

    def _new_parts(self) -> Parts:
        return Parts(self.settings, reactor=self._reactor, listens=self._listen, recorder=self._recorder)

    async def _warn(self) -> None:
        """Log what is not safe, and what is missing."""
        await self._parts.warn()

    def _endpoint(self, endpoint: str) -> IStreamServerEndpoint:
        """Return the endpoint that a string describes."""
        return server_endpoint(self._reactor, endpoint)

    def _serve_metrics(self) -> None:
        """Open the endpoint of the metrics, if there is one."""
        self._metrics = None
        if self._parts.observing.measuring is not None:
            self._metrics = MetricsPort(self.settings, self._parts.observing.measuring.scrape, reactor=self._reactor)
            self._metrics.start()

    def _begin_listening(self) -> None:
        endpoint = self.settings.listen.endpoint
        self._parts.site.max_connections, warning = room(self.settings)
        if warning:
            self.log.warn("{warning}", warning=warning, event="descriptors")
        listening = begin_listening(endpoint, self.settings.listen.backlog, self._endpoint, self._parts.factory)
        self._listening = listening.addCallbacks(self._is_listening, self._cannot_listen)

    def _is_listening(self, port: IListeningPort) -> None:
        self._port = port
        self._parts.site.listens_on(port)
        # A program that waits for this line may send SIGTERM immediately. Before the reactor runs, that signal would
        # end the process without removing the work directory.
        self._reactor.callWhenRunning(partial(self._say_listening, address_of(port)))

    def _say_listening(self, address: str) -> None:
        self.log.info(
            "listening on {address} (digsigd {version})", address=address, version=__version__, event="listening"
        )

    def _cannot_listen(self, failure: Failure) -> None:
        self.log.failure("cannot listen on {endpoint}", failure, endpoint=self.settings.listen.endpoint)

    async def _stop(self) -> None:
        try:
            listening, self._listening = self._listening, None
            if listening is not None:
                await listening
            port, self._port = self._port, None
            self._parts.site.listens_on(None)
            if port is not None:
                await maybeDeferred(port.stopListening)
        finally:
            await self._parts.stop(self.settings.daemon.shutdown_grace)
            if self._metrics is not None:
                await self._metrics.stop()

    def _stopped(self, result: Failure | None) -> None:
        waiting, self._when_stopped = self._when_stopped or [], None
        for over in waiting:
            over.callback(result)
