"""Connections to web servers, with a bound on what comes before a body."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

# Status line and headers, those of 1xx answers before it included. Servers send some hundred bytes.
HEAD_BYTES = 64 << 10


class HeadTooLong(Exception):
    """The headers of an answer go on beyond `HEAD_BYTES`."""


class Owner(Protocol):
    """Whoever has a connection alone, for one request."""

    def connected(self, connection: Connection) -> None:
        """Hear that there is a connection."""

    def sent(self) -> None:
        """Hear that a piece of the request's body is on its way."""

    def answered(self) -> None:
        """Hear that the headers of an answer with a body are there."""


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """Connects as `endpoints` does, and through a `Connection`. Without an `owner` connections may be used again."""

    def __init__(self, endpoints: IAgentEndpointFactory, owner: Owner | None = None) -> None:
        self._endpoints = endpoints
        self._owner = owner

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See `IAgentEndpointFactory`."""
        return _BoundedEndpoint(self._endpoints.endpointForURI(uri), self._owner)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, owner: Owner | None) -> None:
        self._endpoint = endpoint
        self._owner = owner

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - the interface's
        """See `IStreamClientEndpoint`."""
        connecting: Deferred[Any] = self._endpoint.connect(_ConnectionFactory(protocolFactory, self._owner))
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)


class Connection(ProtocolWrapper):
    """Ends where an answer does not come to a body within `HEAD_BYTES`.

    Twisted's parser of answers bounds a line, not how many there are. It pauses the transport when it has seen the
    last of them, until somebody takes the body; so what comes between a request and that pause are headers. If it
    did not pause, a large body would fail loudly, and nothing would be unbounded.
    """

    transport: Any
    factory: _ConnectionFactory
    _in_head = True
    _bytes = 0
    _too_long = False
    _muted = False
    _lost = False

    def makeConnection(self, transport: Any) -> None:
        """Tell the owner."""
        super().makeConnection(transport)
        if self.factory.owner is not None:
            self.factory.owner.connected(self)

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
            self._count_anew()
            super().write(data)
            if self.factory.owner is not None:
                self.factory.owner.sent()

    def writeSequence(self, data: Any) -> None:
        """Send, unless muted. Twisted writes a request's headers with it."""
        if not self._muted:
            self._count_anew()
            super().writeSequence(data)

    def pauseProducing(self) -> None:
        """Note that the headers are over, and that there is a body."""
        self._in_head = False
        self.transport.pauseProducing()
        if self.factory.owner is not None:
            self.factory.owner.answered()

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

    def _count_anew(self) -> None:
        # Without an owner requests have no body, so each write begins one. An upload writes all the time.
        if self.factory.owner is None:
            self._in_head, self._bytes = True, 0


class _ConnectionFactory(WrappingFactory):
    noisy = False
    protocol = Connection

    def __init__(self, factory: IProtocolFactory, owner: Owner | None) -> None:
        super().__init__(factory)
        self.owner = owner
