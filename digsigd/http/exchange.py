"""One request and its whole answer, with bounds on what a server can make one wait for or keep."""

from __future__ import annotations

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
from digsigd.http.deadline import IdleTimer, StoodStill, Waiting
from digsigd.http.reactor import Reactor


class IUpload(IBodyProducer):
    """A body of a request that can end before all of it is sent."""

    over = Attribute("Whether all of it is on its way.")

    def close() -> None:
        """Close what is open, and send no more."""

    def pretend() -> None:
        """Write anything for all that is left, at once: for a connection that sends nothing any more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one exchange may take.

    `body` is how many bytes the body of a 200 may have, `other_body` how many are read of any other. `head` is for how
    many seconds nothing need go on until the headers of the answer are there, `idle` the same within its body.
    """

    body: int
    other_body: int
    head: float
    idle: float


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. `codings` are those of its body, which nobody asked for: see `PlainAgent`."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    codings: tuple[str, ...] = ()


class Exchange:
    """Asks once over the connections of `agent`, which must be bounded. Cancelling ends it at once."""

    def __init__(self, agent: IAgent, *, reactor: Reactor, bounds: Bounds) -> None:
        self._agent = agent
        self._reactor = reactor
        self._bounds = bounds
        self._upload: IUpload | None = None
        self._connection: Connection | None = None
        self._over = False

    def ask(self, method: str, url: str, headers: Headers, upload: IUpload | None = None) -> Deferred[Response]:
        """Return the whole answer, whatever its status.

        Fails with `StoodStill`, `TooLong`, or with what the layers below say: `digsigd.http.causes` reads it.
        """
        self._upload = upload
        self._timer = IdleTimer(self._reactor, self._bounds.head, self._late)
        self._asking = Deferred.fromCoroutine(self._ask(method, url, headers))
        self._waiting = Waiting(self._asking.addBoth(self._cut), self._cut)
        return self._waiting

    async def _ask(self, method: str, url: str, headers: Headers) -> Response:
        # Both for this request alone: a client of treq's keeps cookies as long as it lives.
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
        )
        return Response(response.code, response.headers, body, plain.codings)

    def _late(self) -> None:
        sending = self._upload is not None and self._connection is not None
        self._waiting.give_up(StoodStill(self._bounds.head, "the upload" if sending else "the request"))

    def _cut(self, result: Response | Failure | None = None) -> Any:
        """Give up whatever there still is, and hand on what came of it."""
        self._over = True
        self._timer.stop()
        if self._upload is not None:
            self._upload.close()
        self._asking.cancel()
        if self._connection is not None:
            self._connection.abort()
        return result


class OwnExchange(Exchange):
    """Asks once over a connection of its own, which is closed at the end, however it ends. It can upload."""

    def __init__(self, endpoints: IAgentEndpointFactory, *, reactor: Reactor, bounds: Bounds) -> None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        super().__init__(bounded_agent(endpoints, reactor, pool, self), reactor=reactor, bounds=bounds)

    def connected(self, connection: Connection) -> None:
        """See `Owner`."""
        self._connection = connection
        if self._over:
            connection.abort()

    def sent(self) -> None:
        """See `Owner`. How long a server may think about the whole of an upload is not bounded here."""
        if self._upload is not None and self._upload.over:
            self._timer.stop()
        else:
            self._timer.went_on()

    def answered(self) -> None:
        """See `Owner`. What has not been sent of the upload by then will never be."""
        if self._upload is not None and self._connection is not None and not self._upload.over:
            # Twisted gives no answer before the request is sent, and a server that has refused it reads no more of it.
            self._connection.mute()
            self._upload.pretend()
