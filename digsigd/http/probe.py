"""Look at what a port speaks, after a request to it has failed, for an error that says more."""

from __future__ import annotations

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from digsigd.http.deadline import within
from digsigd.http.reactor import Reactor


async def certificate_at(reactor: Reactor, host: str, port: int, *, seconds: float) -> x509.Certificate | None:
    """Return the certificate that a port presents, which is not verified: nothing may be sent there.

    None if the port does not speak TLS, or is not reached within `seconds`. Cancelling closes the connection.
    """
    look = _Look()
    endpoint = wrapClientTLS(_Creator(host, look), HostnameEndpoint(reactor, host, port, timeout=seconds))
    try:
        await within(seconds, connectProtocol(endpoint, look), reactor)
        return await within(seconds, look.found, reactor)
    except CancelledError:
        raise
    except Exception:  # noqa: BLE001 - the request's own error is told then
        return None
    finally:
        look.close()


@implementer(IHandshakeListener)
class _Look(Protocol):
    """A connection that has its use when the handshake is over, also if the server wants a certificate of ours."""

    def __init__(self) -> None:
        self.certificate: x509.Certificate | None = None
        self.found: Deferred[x509.Certificate | None] = Deferred()

    def handshakeCompleted(self) -> None:
        self._over()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        self._over()

    def _over(self) -> None:
        if not self.found.called:
            self.found.callback(self.certificate)

    def close(self) -> None:
        transport: ITransport | None = self.transport
        if transport is not None:
            transport.loseConnection()


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes a connection whose certificates are looked at, not verified."""

    def __init__(self, host: str, look: _Look) -> None:
        self._host = host
        self._look = look

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002, N803
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_PEER, self._seen)
        connection = SSL.Connection(context, None)
        connection.set_tlsext_host_name(self._host.encode("idna"))
        connection.set_connect_state()
        return connection

    def _seen(self, _: object, certificate: object, __: int, depth: int, ___: int) -> bool:
        if depth == 0:
            # Not passed on from here: OpenSSL is in the middle of the handshake.
            self._look.certificate = certificate.to_cryptography()  # type: ignore[attr-defined]
        return True
