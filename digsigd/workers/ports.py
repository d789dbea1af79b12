"""The port that workers share: the supervisor opens it and never accepts; each worker adopts a copy of it."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory

from digsigd.adopted import Adopted, adopt
from digsigd.reactor import SigningReactor
from digsigd.settings import SettingsError
from digsigd.settings.endpoints import options


def keep_for_workers(port: IListeningPort, endpoint: str) -> int:
    """Stop accepting connections on a new port, and return the descriptor that workers inherit.

    Raises `SettingsError` for a port without a socket, as a plugin of Twisted may have.
    """
    if not isinstance(port, tcp.Port | unix.Port):
        raise SettingsError(f"daemon.workers: several workers cannot listen on {endpoint!r}; set it to 1")
    port.stopReading()
    # shutdown(2) would end it for the workers, who still take what waits in its queue.
    vars(port)["_shouldShutdown"] = False
    descriptor: int = port.fileno()
    return descriptor


def inherited_endpoint(reactor: SigningReactor, endpoint: str, descriptor: int) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes, which listens on an inherited socket instead of a new one.

    Everything else about it, such as TLS, is as the string says. Raises what `serverFromString` raises.
    """
    inherited: Any = _Inherited(reactor, descriptor)
    if options(endpoint)[0] == (None, "systemd"):
        # The descriptors that systemd has passed are those of the supervisor.
        return Adopted(reactor, descriptor)
    made: IStreamServerEndpoint = serverFromString(inherited, endpoint)
    return made


class _Inherited:
    """A reactor whose listening methods adopt one socket, whatever address they are given."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, *rest: Any, **options: Any) -> IListeningPort:  # noqa: ARG002
        return self.adopt(factory)

    def listenUNIX(self, address: str, factory: Any, *rest: Any, **options: Any) -> IListeningPort:  # noqa: ARG002
        return self.adopt(factory)

    def listenSSL(self, port: int, factory: Any, *rest: Any, **options: Any) -> IListeningPort:  # noqa: ARG002
        context = rest[0] if rest else options["contextFactory"]
        return self.adopt(TLSMemoryBIOFactory(context, False, factory))

    def adopt(self, factory: Any) -> IListeningPort:
        """Listen on the inherited socket."""
        return adopt(self._reactor, self._descriptor, factory)
