"""Connections to web servers: over TCP or TLS, with a bound on what comes before a body, and nothing done unasked."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

# Status line and headers, those of 1xx answers before it included. Servers send some hundred bytes.
HEAD_BYTES = 64 << 10
# A name that nobody has: RFC 2606.
STAND_IN = "http://stand-in.invalid/"
# What treq would act on by itself.
_TAKEN_OFF = ("content-encoding", "set-cookie", "set-cookie2")


class HeadTooLong(Exception):
    """The headers of an answer go on beyond `HEAD_BYTES`."""


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Connects within `connect_timeout` seconds to `http` and `https`.

    `trust_root` is whom to trust (None: the system's authorities), `certificate` the one to show (None: none).
    """

    def __init__(
        self, reactor: Any, *, connect_timeout: float, trust_root: Any, certificate: PrivateCertificate | None
    ) -> None:
        self._reactor = reactor
        self._connect_timeout = connect_timeout
        self._trust_root = trust_root
        self._certificate = certificate

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """How to reach an address."""
        host = uri.host.decode("ascii")
        endpoint: Any = HostnameEndpoint(self._reactor, host, uri.port, timeout=self._connect_timeout)
        if uri.scheme == b"https":
            more = {} if self._trust_root is None else {"trustRoot": self._trust_root}
            endpoint = wrapClientTLS(optionsForClientTLS(host, clientCertificate=self._certificate, **more), endpoint)
        return _BoundedEndpoint(endpoint)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """Connects through a `_BoundedHead`."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - the interface's
        """See `IStreamClientEndpoint`."""
        connecting: Deferred[Any] = self._endpoint.connect(_BoundedFactory(protocolFactory))
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _BoundedHead(ProtocolWrapper):
    """Ends a connection whose answer does not come to a body within `HEAD_BYTES`.

    Twisted's parser of answers bounds a line, not how many there are. It pauses the transport when it has seen the
    last of them, until somebody takes the body; so what comes between a request and that pause are headers. If it
    did not pause, a large body would fail loudly, and nothing would be unbounded.
    """

    transport: Any
    _in_head = True
    _bytes = 0
    _too_long = False

    def write(self, data: bytes) -> None:
        """A request begins."""
        self._in_head, self._bytes = True, 0
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        """A request begins."""
        self._in_head, self._bytes = True, 0
        super().writeSequence(data)

    def pauseProducing(self) -> None:
        """The headers are over."""
        self._in_head = False
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        """Hand it on first: a body may come in one piece with its headers."""
        super().dataReceived(data)
        if self._in_head and not self._too_long:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES:
                self._too_long = True
                self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say why, where it was us."""
        super().connectionLost(Failure(HeadTooLong()) if self._too_long else reason)


class _BoundedFactory(WrappingFactory):
    noisy = False
    protocol = _BoundedHead


@implementer(IAgent)
class PlainAgent:
    """An agent for one request of treq's: no cookies, and no unpacking without a bound.

    `codings` are the content codings of the answer once it is there, in the order in which they were applied
    (RFC 9110, 8.4), in lower case, without `identity`.

    With `url`, that address is asked, whatever treq was told: hyperlink, which treq reads addresses with, takes [::1]
    for a name in need of IDNA, and fails. treq is told `STAND_IN` then.
    """

    def __init__(self, agent: IAgent, url: bytes | None = None) -> None:
        self._agent = agent
        self._url = url
        self.codings: tuple[str, ...] = ()

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - the interface's
    ) -> Deferred[IResponse]:
        """See `IAgent`."""
        headers = Headers() if headers is None else headers.copy()
        # treq adds that it takes gzip.
        headers.setRawHeaders("accept-encoding", ["identity"])
        asking: Deferred[IResponse] = self._agent.request(method, self._url or uri, headers, bodyProducer)
        return asking.addCallback(self._taken_off)

    def _taken_off(self, response: IResponse) -> IResponse:
        named = b",".join(response.headers.getRawHeaders(b"content-encoding", [])).decode("latin-1").lower().split(",")
        self.codings = tuple(coding for name in named if (coding := name.strip()) not in {"", "identity"})
        for name in _TAKEN_OFF:
            response.headers.removeHeader(name)
        return response
