"""The endpoint that serves nothing but metrics."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from digsigd.listening import address_of, begin_listening, server_endpoint
from digsigd.reactor import SigningReactor
from digsigd.settings import Settings
from digsigd.web.scrape import Scrape, ScrapeSite

KEY = "metrics.endpoint"
# How many connections may wait to be accepted.
_BACKLOG = 16


class MetricsPort:
    """The port of `metrics.endpoint`, between `start` and `stop`; nothing if the settings have none."""

    log = Logger()

    def __init__(self, settings: Settings, scrape: Scrape, *, reactor: SigningReactor) -> None:
        self._endpoint = settings.metrics.endpoint
        self._site = ScrapeSite(scrape, allow_anonymous=settings.metrics.allow_anonymous)
        self._reactor = reactor
        self._listening: Deferred[None] | None = None
        self._port: IListeningPort | None = None

    def start(self) -> None:
        """Listen. Raises `SettingsError` for an endpoint that cannot work, and `CannotListenError`."""
        if self._endpoint is None:
            return
        make = partial(server_endpoint, self._reactor, key=KEY)
        listening = begin_listening(self._endpoint, _BACKLOG, make, self._site, key=KEY)
        self._listening = listening.addCallbacks(self._is_listening, self._cannot_listen)

    async def stop(self) -> None:
        """Stop listening."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    def _is_listening(self, port: IListeningPort) -> None:
        self._port = port
        self.log.info("metrics at {address}, path /metrics", address=address_of(port), event="metrics")

    def _cannot_listen(self, failure: Failure) -> None:
        self.log.failure("cannot listen on {endpoint}", failure, endpoint=self._endpoint)
