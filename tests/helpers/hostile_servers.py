"""Servers of the tests: one that says on each connection what it is told to, byte by byte, and daemons behind TLS."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.helpers.daemons import Daemon

reactor: Any = installed
Says = bytes | Callable[["Connection"], None]


class Connection(Protocol):
    """One connection: what came, whether that is a whole request (or its head, for `early`), and whether it is gone."""

    factory: RawServer
    transport: Any

    def __init__(self) -> None:
        self.got = bytearray()
        self.lost = False
        self.asked = False

    def connectionMade(self) -> None:
        self.transport.write(self.factory.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.factory.scheme == "http" and self.got.startswith(b"\x16\x03"):
            # A look at whether this port speaks TLS, which is no request.
            self.factory.connections.remove(self)
            self.transport.loseConnection()
            return
        if not self.asked and self._is_time():
            self.asked = True
            says = self.factory.says
            said = says[min(self.factory.connections.index(self), len(says) - 1)]
            if callable(said):
                said(self)
            else:
                self.transport.write(said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True

    def header(self, name: str) -> str | None:
        match = re.search(rf"^{name}: ([^\r]*)\r$", self.got.decode("latin-1"), re.MULTILINE | re.IGNORECASE)
        return match[1] if match else None

    @property
    def line(self) -> str:
        """The first of the request."""
        return self.got.partition(b"\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return bytes(self.got.partition(b"\r\n\r\n")[2])

    def _is_time(self) -> bool:
        if b"\r\n\r\n" not in self.got:
            return False
        return self.factory.early or len(self.body) >= int(self.header("content-length") or 0)


class RawServer(Factory):
    """Says `says[n]` on connection n, the last one on all later: once the request, or its head (`early`), is there."""

    noisy = False
    protocol: Any = Connection

    def __init__(self, *says: Says, early: bool = False) -> None:
        self.says = says
        self.early = early
        self.greeting = b""
        self.connections: list[Connection] = []
        self.port: Any = None
        self.scheme = "http"

    def buildProtocol(self, addr: Any) -> Any:
        made = Connection()
        made.factory = self
        self.connections.append(made)
        return made

    async def listen(self, tls: Any = None) -> RawServer:
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if tls is not None:
            self.scheme = "https"
            endpoint = SSL4ServerEndpoint(reactor, 0, tls, interface="127.0.0.1")
        self.port = await endpoint.listen(self)
        return self

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port.getHost().port}"

    async def stop(self) -> None:
        for connection in self.connections:
            if not connection.lost:
                connection.transport.abortConnection()
        await maybeDeferred(self.port.stopListening)
        await turned()


def answer(status: int, body: bytes = b"", kind: str = "text/plain", **headers: str) -> bytes:
    """An answer; underlines in names are dashes. A header that is empty is left out."""
    fields = {"content-type": kind, "content-length": str(len(body)), **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value]
    return f"HTTP/1.1 {status} Because\r\n{''.join(lines)}\r\n".encode() + body


def problem(status: int, name: str, detail: str = "said so", **headers: str) -> bytes:
    body = f'{{"type": "urn:digsigd:problem:{name}", "status": {status}, "detail": "{detail}"}}'
    return answer(status, body.encode(), "application/problem+json", **headers)


def then_close(data: bytes) -> Says:
    def say(connection: Connection) -> None:
        connection.transport.write(data)
        connection.transport.loseConnection()

    return say


def nothing(_: Connection) -> None:
    """Never an answer."""


def endless(start: bytes, line: bytes) -> Says:
    """Sends lines for ever, as far as they are read."""

    def say(connection: Connection) -> None:
        connection.transport.write(start)

        class Lines:
            def resumeProducing(self) -> None:
                connection.transport.write(line * (16384 // len(line)))

            def stopProducing(self) -> None:
                pass

        connection.transport.registerProducer(Lines(), False)

    return say


async def turned(seconds: float = 0.02) -> None:
    """Some turns of the reactor."""
    later: Deferred[None] = Deferred()
    reactor.callLater(seconds, later.callback, None)
    await later


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; how long at most only ends a test that would hang."""
    for _ in range(6000):
        if condition():
            return
        await turned(0.01)
    raise AssertionError("waited in vain")


class TlsDaemon(Daemon):
    """A daemon that listens with TLS, with this key and certificate."""

    def with_files(self, key: Path, certificate: Path) -> TlsDaemon:
        self._endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        return self

    def command(self, *options: str) -> list[str]:
        return super().command(*options, "--listen", self._endpoint)

    def start(self) -> TlsDaemon:
        super().start()
        self.url = self.url.replace("http://", "https://")
        return self
