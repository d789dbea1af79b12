"""Time that only a test moves: with real sockets, and for connections that are not there at all."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import alsoProvides, implementer, providedBy

reactor: Any = installed


class ClockedReactor:
    """The installed reactor, but what is to happen later happens when a test says so. Real sockets wait for nobody."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.advance = self.clock.advance
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def callLater(self, delay: float, function: Any, *args: Any, **kwargs: Any) -> Any:
        later = self.clock if delay else reactor
        return later.callLater(delay, function, *args, **kwargs)

    async def run_out(self, waiting: Deferred[Any]) -> None:
        """Let time pass until something has ended."""
        for _ in range(10_000):
            if waiting.called:
                return
            turned: Deferred[None] = Deferred()
            reactor.callLater(0.001, turned.callback, None)
            await turned
            self.advance(1)
        raise AssertionError("it does not end")


class Wire(StringTransport):
    """A connection to nobody. `written` is what was sent; `says` is for the server."""

    lost = False
    closed_by_server = False

    def __init__(self, clock: Clock) -> None:
        super().__init__(lenient=True)
        self._clock = clock
        self.protocol: Any = None

    @property
    def written(self) -> bytes:
        return bytes(self.value())

    def says(self, data: bytes) -> None:
        if not self.disconnecting:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    def abortConnection(self) -> None:
        assert not self.lost, "it is not there any more"
        self.disconnected = True
        self._close(ConnectionAborted())

    def closes(self) -> None:
        """The server closes."""
        self.closed_by_server = True
        self._lose(ConnectionDone())

    def _close(self, why: Exception) -> None:
        self.disconnecting = True
        self._clock.callLater(0, self._lose, why)

    def _lose(self, why: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(why))


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Wires:
    """Endpoints of connections to nobody: made at once, or not for `error`, or where they `wait` by `connect_now`."""

    def __init__(self, clock: Clock, *, wait: bool = False, error: Exception | None = None) -> None:
        self._clock = clock
        self._wait = wait
        self._error = error
        self.made: list[Wire] = []
        self.waiting: list[tuple[Deferred[IProtocol], IProtocolFactory]] = []

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        if self._error is not None:
            return fail(self._error)
        if self._wait:
            connecting: Deferred[IProtocol] = Deferred()
            self.waiting.append((connecting, protocolFactory))
            return connecting
        return succeed(self._made(protocolFactory))

    def connect_now(self) -> None:
        connecting, factory = self.waiting.pop(0)
        protocol = self._made(factory)
        connecting.callback(protocol)

    def _made(self, factory: IProtocolFactory) -> IProtocol:
        wire = Wire(self._clock)
        wire.protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.made.append(wire)
        wire.protocol.makeConnection(wire)
        protocol: IProtocol = wire.protocol
        return protocol
