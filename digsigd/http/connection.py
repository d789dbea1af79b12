"""Connections to web servers with a limit on the size of an answer's headers."""

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

# Status line and headers, including those of preceding 1xx answers. Servers send a few hundred bytes.
HEAD_BYTES = 64 << 10


class HeadTooLong(Exception):
    """The headers of an answer are longer than `HEAD_BYTES`."""


class Owner(Protocol):
    """The owner of a connection that serves a single request."""

    def connected(self, connection: Connection) -> None:
        """Called when the connection is made."""

    def sent(self) -> None:
        """Called when a piece of the request's body was written."""

    def answered(self) -> None:
        """Called when the headers of an answer with a body have arrived."""


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """Wraps the endpoints of `endpoints`, so that each connection is a `Connection`.

    Without an `owner`, a connection can serve several requests.
    """

    def __init__(self, endpoints: IAgentEndpointFactory, owner: Owner | None = None) -> None:
        self._endpoints = endpoints
        self._owner = owner

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Implement `IAgentEndpointFactory.endpointForURI`: return the wrapped endpoint for an address."""
        return _BoundedEndpoint(self._endpoints.endpointForURI(uri), self._owner)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, owner: Owner | None) -> None:
        self._endpoint = endpoint
        self._owner = owner

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - the interface's
        """Implement `IStreamClientEndpoint.connect`."""
        connecting: Deferred[Any] = self._endpoint.connect(_ConnectionFactory(protocolFactory, self._owner))
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)


class Connection(ProtocolWrapper):
    """A connection that is aborted if the headers of an answer exceed `HEAD_BYTES`.

    Twisted's HTTP parser limits the length of a header line, not the number of lines. After the last header it pauses
    the transport until a protocol takes the body; so all data between a request and that pause is headers. If it
    did not pause, a large body would fail with `HeadTooLong`, and nothing would be unbounded.
    """

    transport: Any
    factory: _ConnectionFactory
    _in_head = True
    _bytes = 0
    _too_long = False
    _muted = False
    _lost = False

    def makeConnection(self, transport: Any) -> None:
        """Connect, and notify the owner."""
        super().makeConnection(transport)
        if self.factory.owner is not None:
            self.factory.owner.connected(self)

    def mute(self) -> None:
        """Discard everything written from now on."""
        self._muted = True

    def abort(self) -> None:
        """Close the connection immediately and discard unsent data."""
        if not self._lost:
            self.transport.abortConnection()

    def write(self, data: bytes) -> None:
        """Send `data`, unless muted."""
        if not self._muted:
            self._count_anew()
            super().write(data)
            if self.factory.owner is not None:
                self.factory.owner.sent()

    def writeSequence(self, data: Any) -> None:
        """Send the pieces of `data`, unless muted. Twisted writes a request's headers with this method."""
        if not self._muted:
            self._count_anew()
            super().writeSequence(data)

    def pauseProducing(self) -> None:
        """Note that the headers are complete and a body follows, and notify the owner."""
        self._in_head = False
        self.transport.pauseProducing()
        if self.factory.owner is not None:
            self.factory.owner.answered()

    def dataReceived(self, data: bytes) -> None:
        """Pass `data` on, then count it: one piece can hold headers and the start of the body."""
        super().dataReceived(data)
        if self._in_head and not self._too_long:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES:
                self._too_long = True
                self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the loss on, as `HeadTooLong` if that was the reason."""
        self._lost = True
        super().connectionLost(Failure(HeadTooLong()) if self._too_long else reason)

    def _count_anew(self) -> None:
        # Without an owner, requests have no body, so each write begins a request. An upload writes many times.
        if self.factory.owner is None:
            self._in_head, self._bytes = True, 0


class _ConnectionFactory(WrappingFactory):
    noisy = False
    protocol = Connection

    def __init__(self, factory: IProtocolFactory, owner: Owner | None) -> None:
        super().__init__(factory)
        self.owner = owner
