"""Listening on a socket that another process has opened: systemd, or the supervisor of several workers."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

from digsigd.reactor import SigningReactor
from digsigd.settings.endpoints import options


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """Listen on a copy of an open socket. The socket, its queue and its file stay when the port is closed.

    Twisted's `adoptStreamPort` changes the mode of a Unix socket, ends it for its owner, and removes its file.
    """
    with socket.socket(fileno=socket.dup(descriptor)) as given:
        given.setblocking(False)
        family = given.family
    if family == socket.AF_UNIX:
        port: Any = _UnixPort._fromListeningDescriptor(reactor, descriptor, factory)  # noqa: SLF001
        port.startListening()
    else:
        port = reactor.adoptStreamPort(descriptor, family, factory)
    adopted: IListeningPort = port
    return adopted


def from_systemd(reactor: SigningReactor, endpoint: str) -> IStreamServerEndpoint:
    """Return the endpoint that a `systemd:` string describes: `name=` or `index=` of a socket that systemd has passed.

    What Twisted does not do: the domain is that of the socket, and the socket stays usable for the next start. Raises
    `LookupError` if systemd has not passed it, and `ValueError` if it is not one that listens.
    """
    names = {name for name, _ in options(endpoint)}
    if not names & {"name", "index"}:
        raise ValueError("expected name= or index=, as in systemd:name=digsigd")
    if "domain" not in names:
        endpoint += ":domain=INET"
    # Only Twisted's parser knows them: it takes the variables out of the environment when it is imported.
    parsed: Any = serverFromString(reactor, endpoint)
    descriptor: int = parsed.fileno
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=socket.dup(descriptor)) as given:
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if given.type != socket.SOCK_STREAM or not listens:
            raise ValueError(
                "this socket of systemd does not listen: the socket unit needs ListenStream= and Accept=no"
            )
    return Adopted(reactor, descriptor)


@implementer(IStreamServerEndpoint)
class Adopted:
    """An endpoint that listens on an open socket."""

    def __init__(self, reactor: object, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Implement `IStreamServerEndpoint.listen`."""
        return execute(adopt, self._reactor, self._descriptor, protocolFactory)


class _UnixPort(unix.Port):
    """A Unix socket whose file is its owner's: it is not changed, and not removed at the end."""

    _shouldShutdown = False

    def startListening(self) -> None:
        port: Any = self
        port.factory.doStart()
        port.socket, port._preexistingSocket = port._preexistingSocket, None  # noqa: SLF001
        port.fileno = port.socket.fileno
        port.connected = True
        port.numberAccepts = 100
        port.startReading()

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)
