"""The daemon as a service: it starts, listens or is mounted, and stops in order, as often as anybody likes."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, TypeAlias

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource

from digsigd._parts import Parts
from digsigd.errors import shutting_down
from digsigd.reactor import Reactor, reactor_of
from digsigd.settings import Settings, SettingsError
from digsigd.signing.request import Signed, SigningRequest
from digsigd.tokens import pins_of
from digsigd.web.mount import CurrentRequests, CurrentResource, put

Address: TypeAlias = IPv4Address | IPv6Address | UNIXAddress


class SigningService(Service):
    """A signing daemon as a service: start it alone or in anybody's `MultiService`.

    `listen=False` opens no port: `mount` it on a site of your own, or call `sign`. Raises `SettingsError` where
    settings name what cannot be, and `TypeError` for a reactor that lacks what is needed (None: the installed one).

    It can be stopped and started again, and a start that failed can be tried again. Each start after the first reads
    anew the files that the settings name, such as tokens. What is mounted stays valid, and answers 503 while the
    service does not run.
    """

    log = Logger()
    name = "digsigd"

    def __init__(self, settings: Settings, *, reactor: Reactor | None = None, listen: bool = True) -> None:
        self.settings = settings
        self.resource: IResource = CurrentResource(lambda: self._parts.resource)
        self._reactor = reactor_of(reactor)
        self._listen = listen
        self._parts = Parts(settings, reactor=self._reactor)
        self._listening: Deferred[None] | None = None
        self._port: IListeningPort | None = None
        # While it stops: those who wait for the end.
        self._when_stopped: list[Deferred[None]] | None = None

    @property
    def address(self) -> Address | None:
        """Where it listens; None unless it does, or on a transport that is neither TCP nor a UNIX socket."""
        host = self._port.getHost() if self._port is not None else None
        return host if isinstance(host, Address) else None

    def mount(self, root: Resource, path: str) -> INonQueuedRequestFactory:
        """Put the endpoint at `path` below `root`, and return the request factory that the site of `root` needs.

        `Site(root, requestFactory=service.mount(root, "/signing"))` is all it takes. Raises `ValueError` if the path is
        empty, taken, or has characters that URLs would escape.
        """
        put(root, path, self.resource)
        return self.request_factory(path)

    def request_factory(self, path: str) -> INonQueuedRequestFactory:
        """Return the request factory of a site that has `resource` at `path` by other means than `mount`."""
        factory: INonQueuedRequestFactory = CurrentRequests(lambda: self._parts.uploads, path)
        return factory

    async def sign(self, request: SigningRequest) -> Signed:
        """Sign without HTTP.

        Raises the errors of `digsigd.errors`, `Busy` among them while the service does not run. Cancelling stops cst.
        """
        if not self.running:
            raise shutting_down()
        return await self._parts.direct.sign(request)

    async def missing(self) -> list[str]:
        """Return what is missing before requests can be signed, a line each; an empty list means ready."""
        return await self._parts.readiness.missing()

    def reload(self) -> None:
        """Read the PINs of tokens again, and use those again that had failed. Raises `SettingsError`."""
        self._parts.tokens.reload(pins_of(self.settings, os.environ))
        self.log.info("reloaded", event="reloaded")

    def startService(self) -> None:
        """Make the work directory, start the threads, and listen.

        Raises `DigsigError` if the work directory cannot be used, `CannotListenError`, and `SettingsError` if the
        endpoint cannot be or, at another start, a file that the settings name has gone wrong. Nothing runs then. Raises
        `RuntimeError` if it runs already, or if a stop is not over: wait for the Deferred of `stopService`.
        """
        if self.running:
            raise RuntimeError("this SigningService runs already")
        if self._when_stopped is not None:
            raise RuntimeError("this SigningService still stops: wait for the Deferred of stopService")
        if self._parts.used:
            self._parts = Parts(self.settings, reactor=self._reactor)
        self._parts.start()
        if self._listen:
            try:
                self._begin_listening()
            except BaseException:
                self._parts.close()
                raise
        super().startService()
        if self._listen:
            Deferred.fromCoroutine(self._parts.readiness.warn())

    def stopService(self) -> Deferred[None]:
        """Accept nothing new, let requests finish within `daemon.shutdown_grace` seconds, end the rest.

        The Deferred fires when every directory is removed and every thread has ended; at once if nothing runs.
        Cancelling it cuts nothing short.
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

    def _begin_listening(self) -> None:
        endpoint = self.settings.listen.endpoint
        try:
            listening = serverFromString(self._reactor, endpoint).listen(self._parts.site)
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"listen.endpoint: {endpoint!r}: {error}") from None
        if isinstance(result := getattr(listening, "result", None), Failure):
            listening.addErrback(lambda _: None)
            result.raiseException()
        self._listening = listening.addCallbacks(self._is_listening, self._cannot_listen)

    def _is_listening(self, port: IListeningPort) -> None:
        self._port = port
        host: Any = port.getHost()
        where = f"{host.host}:{host.port}" if hasattr(host, "port") else str(getattr(host, "name", host))
        # Whoever waits for this line may stop the daemon at once: before the reactor runs, a signal would end the
        # process where it stands, and leave the work directory.
        self._reactor.callWhenRunning(
            partial(self.log.info, "listening on {address}", address=where, event="listening")
        )

    def _cannot_listen(self, failure: Failure) -> None:
        self.log.failure("cannot listen on {endpoint}", failure, endpoint=self.settings.listen.endpoint)

    async def _stop(self) -> None:
        try:
            listening, self._listening = self._listening, None
            if listening is not None:
                await listening
            port, self._port = self._port, None
            if port is not None:
                await maybeDeferred(port.stopListening)
        finally:
            await self._parts.stop(self.settings.daemon.shutdown_grace)

    def _stopped(self, result: Failure | None) -> None:
        waiting, self._when_stopped = self._when_stopped or [], None
        for over in waiting:
            over.callback(result)
