"""One request and its answer over a connection of its own, with bounds on what a server can make one wait or keep."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from digsigd.client._internal.form import Form
from digsigd.client._internal.responses import Answer
from digsigd.keys.body import Body
from digsigd.keys.connection import HEAD_BYTES, STAND_IN, HeadTooLong, PlainAgent

# Of an answer that is no 200: enough for the longest reason.
_ERROR_BYTES = 32 << 10
# Answers with no body: RFC 9110, 6.4.1.
_BARE = frozenset({204, 304})


class StoodStill(Exception):
    """Nothing went on for so many seconds."""

    def __init__(self, seconds: float, doing: str) -> None:
        super().__init__(f"{doing} stood still for {seconds:g} s")


@implementer(IAgentEndpointFactory)
class Exchange:
    """Asks once. The connection is closed at the end, however it ends; cancelling ends it at once.

    `limit` is how many bytes the body of a 200 may have, `idle` for how many seconds a part of it may stand still: the
    way to the host, the upload, the answer's body. How long the host may think about an upload is the caller's to say.
    """

    def __init__(self, endpoints: IAgentEndpointFactory, *, reactor: Any, limit: int, idle: float) -> None:
        self._endpoints = endpoints
        self._reactor = reactor
        self._limit = limit
        self._idle = idle
        self._form: Form | None = None
        self._tap: _Tap | None = None
        self._inner: Deferred[Answer] | None = None
        self._outer: Deferred[Answer] = Deferred(lambda _: self._cut())
        self._timer: Any = None
        self._over = False

    def ask(self, method: str, url: str, headers: Headers, form: Form | None = None) -> Deferred[Answer]:
        """The whole answer, whatever its status. Fails with what the layers below say, or `StoodStill`."""
        self._form = form
        self._timer = self._reactor.callLater(self._idle, self._late)
        self._inner = Deferred.fromCoroutine(self._ask(method, url, headers))
        self._inner.addBoth(self._end)
        return self._outer

    def went_on(self) -> None:
        """Some of the form is on its way."""
        if self._timer is not None and self._timer.active():
            if self._form is not None and self._form.over:
                self._timer.cancel()
            else:
                self._timer.reset(self._idle)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See `IAgentEndpointFactory`."""
        return _Tapped(self._endpoints.endpointForURI(uri), self)

    def connected(self, tap: _Tap) -> None:
        """There is a connection."""
        self._tap = tap
        if self._over:
            tap.abort()

    def answered(self) -> None:
        """The headers of an answer are there. What has not been sent of the form then will never be."""
        if self._form is not None and self._tap is not None and not self._form.over:
            # Twisted gives no answer before the request is sent, and a server that has refused it reads no more of it.
            self._tap.mute()
            self._form.pretend()

    async def _ask(self, method: str, url: str, headers: Headers) -> Answer:
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        # Both for this request alone: a client of treq's keeps cookies as long as it lives.
        plain = PlainAgent(Agent.usingEndpointFactory(self._reactor, self, pool), url.encode("ascii"))
        response: Any = await HTTPClient(plain).request(
            method,
            STAND_IN,
            headers=headers,
            data=self._form,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        self._stop_timer()
        body = b""
        if response.code not in _BARE:
            limit = self._limit if response.code == 200 else _ERROR_BYTES
            body = await Body(limit, self._idle, self._reactor).of(response)
        return Answer(response.code, response.headers, body, bool(plain.codings))

    def _late(self) -> None:
        sending = self._form is not None and self._tap is not None
        self._end(Failure(StoodStill(self._idle, "the upload" if sending else "the request")))

    def _end(self, result: Answer | Failure) -> None:
        # What a request that is cut fails with tells nothing of why.
        if not self._over:
            self._cut()
            self._outer.callback(result)

    def _cut(self) -> None:
        """Give up whatever there still is."""
        self._over = True
        self._stop_timer()
        if self._form is not None:
            self._form.close()
        if self._inner is not None:
            self._inner.cancel()
        if self._tap is not None:
            self._tap.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


@implementer(IStreamClientEndpoint)
class _Tapped:
    """Connects through a `_Tap`."""

    def __init__(self, endpoint: IStreamClientEndpoint, exchange: Exchange) -> None:
        self._endpoint = endpoint
        self._exchange = exchange

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - the interface's
        """See `IStreamClientEndpoint`."""
        factory = _TapFactory(protocolFactory)
        factory.exchange = self._exchange
        connecting: Deferred[Any] = self._endpoint.connect(factory)
        return connecting.addCallback(lambda tap: tap.wrappedProtocol)


class _Tap(ProtocolWrapper):
    """A connection for one exchange: it tells when the answer's headers are over, and bounds them.

    Twisted's parser of answers pauses the transport when it has seen the last header, until somebody takes the body.
    The bound that is below counts from each write, and an upload writes all the time.
    """

    transport: Any
    factory: _TapFactory
    _muted = False
    _lost = False
    _in_head = True
    _too_long = False
    _bytes = 0

    def makeConnection(self, transport: Any) -> None:
        """Tell that there is one."""
        super().makeConnection(transport)
        self.factory.exchange.connected(self)

    def mute(self) -> None:
        """Send no more."""
        self._muted = True

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        if not self._lost:
            self.transport.abortConnection()

    def write(self, data: bytes) -> None:
        """Send, unless muted."""
        if not self._muted:
            super().write(data)

    def writeSequence(self, data: Any) -> None:
        """Send, unless muted."""
        if not self._muted:
            super().writeSequence(data)

    def pauseProducing(self) -> None:
        """The headers are over, and there is a body."""
        self._in_head = False
        self.transport.pauseProducing()
        self.factory.exchange.answered()

    def dataReceived(self, data: bytes) -> None:
        """Hand it on first: a body may come in one piece with its headers."""
        super().dataReceived(data)
        if self._in_head and not self._too_long:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES:
                self._too_long = True
                self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say why, where it was us."""
        self._lost = True
        super().connectionLost(Failure(HeadTooLong()) if self._too_long else reason)


class _TapFactory(WrappingFactory):
    noisy = False
    protocol = _Tap
    exchange: Exchange
