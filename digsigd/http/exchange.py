"""One request and its whole answer, with limits on waiting time and answer size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer
from zope.interface import Attribute

from digsigd.http.agent import PlainAgent, bounded_agent
from digsigd.http.body import body_of
from digsigd.http.connection import Connection
from digsigd.http.deadline import IdleTimer, Stalled, Waiting
from digsigd.http.reactor import Reactor


class IUpload(IBodyProducer):
    """A request body that can be ended before all of it is sent."""

    over = Attribute("Whether all of the body has been written.")

    def close() -> None:
        """Close open files and send no more."""

    def pretend() -> None:
        """Write filler for the whole rest of the body immediately. The connection is muted and does not send it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one exchange.

    `body` is the most bytes the body of a 200 may have, `other_body` the most bytes that are read of any other body.
    `head` is the longest time without progress until the headers of the answer arrive, `idle` the same within its
    body, both in seconds.
    """

    body: int
    other_body: int
    head: float
    idle: float


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. `codings` are the content codings of its body, although none were requested: see `PlainAgent`."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    codings: tuple[str, ...] = ()


class Exchange:
    """A single request through `agent`, which must bound headers. Cancelling ends it immediately."""

    def __init__(self, agent: IAgent, *, reactor: Reactor, bounds: Bounds) -> None:
        self._agent = agent
        self._reactor = reactor
        self._bounds = bounds
        self._upload: IUpload | None = None
        self._connection: Connection | None = None
        self._over = False

    def ask(
        self,
        method: str,
        url: str,
        headers: Headers,
        upload: IUpload | None = None,
        *,
        into: Callable[[bytes], object] | None = None,
    ) -> Deferred[Response]:
        """Send the request and return a Deferred with the whole answer, whatever its status.

        With `into`, the body of a 200 is passed to it in pieces instead, and is empty in the answer. Fails with
        `Stalled`, `TooLong`, what `into` raises, or an error of the layers below, which `digsigd.http.causes` explains.
        """
        self._upload = upload
        self._into = into
        self._timer = IdleTimer(self._reactor, self._bounds.head, self._late)
        self._asking = Deferred.fromCoroutine(self._ask(method, url, headers))
        self._waiting = Waiting(self._asking.addBoth(self._cut), self._cut)
        return self._waiting

    async def _ask(self, method: str, url: str, headers: Headers) -> Response:
        # Use both for this request only: a treq client keeps cookies as long as it lives.
        plain = PlainAgent(self._agent, url)
        reactor: Any = self._reactor
        response: Any = await HTTPClient(plain).request(
            method,
            plain.url_for_treq,
            headers=headers,
            data=self._upload,
            allow_redirects=False,
            unbuffered=True,
            reactor=reactor,
        )
        self._timer.stop()
        good = response.code == 200
        body = await body_of(
            response,
            max_bytes=self._bounds.body if good else self._bounds.other_body,
            idle=self._bounds.idle,
            clock=self._reactor,
            only_begin=not good,
            into=self._into if good else None,
        )
        return Response(response.code, response.headers, body, plain.codings)

    def _late(self) -> None:
        sending = self._upload is not None and self._connection is not None
        self._waiting.give_up(Stalled(self._bounds.head, "the upload" if sending else "the request"))

    def _cut(self, result: Response | Failure | None = None) -> Any:
        """Stop everything that still runs, and pass the result on."""
        self._over = True
        self._timer.stop()
        if self._upload is not None:
            self._upload.close()
        self._asking.cancel()
        if self._connection is not None:
            self._connection.abort()
        return result


class OwnExchange(Exchange):
    """A single request over a new connection that is always closed at the end. It can upload."""

    def __init__(self, endpoints: IAgentEndpointFactory, *, reactor: Reactor, bounds: Bounds) -> None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        super().__init__(bounded_agent(endpoints, reactor, pool, self), reactor=reactor, bounds=bounds)

    def connected(self, connection: Connection) -> None:
        """Implement `Owner.connected`."""
        self._connection = connection
        if self._over:
            connection.abort()

    def sent(self) -> None:
        """Implement `Owner.sent`. After the whole upload, the wait for the answer's headers has no limit here."""
        if self._upload is not None and self._upload.over:
            self._timer.stop()
        else:
            self._timer.went_on()

    def answered(self) -> None:
        """Implement `Owner.answered`: do not send the rest of the upload."""
        if self._upload is not None and self._connection is not None and not self._upload.over:
            # Twisted delivers an answer only after the whole request is sent; a server that refused it reads no more.
            self._connection.mute()
            self._upload.pretend()
