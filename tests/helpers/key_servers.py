"""A real web server of Twisted's on loopback, over TCP or TLS, that answers as a test says; and key stores on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.x509.oid import NameOID
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Site

from digsigd.keys import KeyStore, key_source
from digsigd.settings import HttpStoreSettings, KeysSettings
from tests.helpers.certificates import Authority
from tests.http.clocked import ClockedReactor

reactor: Any = installed
MACHINE = "imx8mm+evk"
PATH = f"/store/{MACHINE}/imxsign/imx-cst-keys.tar.gz".replace("+", "%2B")


class Server(Resource):
    """Answers with what `answer` says, and remembers what it was asked."""

    isLeaf = True

    def __init__(self, tarball: bytes) -> None:
        super().__init__()
        self.tarball = tarball
        self.seen: list[Any] = []
        self.answer: Callable[[Any], Any] = self.plain
        self.port: Any = None
        self.scheme = "http"

    def plain(self, request: Any) -> bytes:
        if request.setETag(b'"one"'):
            return b""
        return self.tarball

    def render(self, request: Any) -> Any:
        request.peer_name = None
        if hasattr(request.transport, "getPeerCertificate") and request.transport.getPeerCertificate():
            subject = request.transport.getPeerCertificate().to_cryptography().subject
            request.peer_name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        self.seen.append(request)
        return self.answer(request)

    @property
    def root(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port.getHost().port}"

    def header(self, name: str, number: int = -1) -> str | None:
        values = self.seen[number].requestHeaders.getRawHeaders(name)
        return values[0] if values else None

    async def listen(self, tls: Any = None) -> None:
        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if tls is not None:
            self.scheme = "https"
            endpoint = SSL4ServerEndpoint(reactor, 0, tls, interface="127.0.0.1")
        site = Site(self)
        site.noisy = False
        self.port = await endpoint.listen(site)


class KeyServers:
    """Servers and stores that are gone after the test."""

    def __init__(self, folder: Path, tarball: bytes) -> None:
        self.folder = folder
        self.tarball = tarball
        self._servers: list[Server] = []
        self._stores: list[KeyStore] = []

    async def server(self, tls: Any = None) -> Server:
        server = Server(self.tarball)
        await server.listen(tls)
        self._servers.append(server)
        return server

    def store(self, server: Server, *, path: str = "/store", on: Any = reactor, **more: Any) -> KeyStore:
        """Its times are so long that only what hangs takes them, even on a busy machine."""
        times = {"timeout": 200.0, "connect_timeout": 60.0, "idle_timeout": 60.0}
        settings = KeysSettings(uri=server.root + path, **{"tries": 3, **times, **more})
        source = key_source(settings, reactor=on, in_thread=at_once)
        store = KeyStore(source, keep=60, clock=reactor, in_thread=at_once, max_unpacked=1 << 20)
        self._stores.append(store)
        return store

    async def wait_in_vain(self, server: Server, last: Server | None = None, **more: Any) -> None:
        """Ask for keys; time passes only when the request has come, to the `last` server of redirects."""
        asked, time = last or server, ClockedReactor()
        before = len(asked.seen)
        getting = Deferred.fromCoroutine(self.store(server, on=time, **more).get(MACHINE))
        while len(asked.seen) == before:
            await pause()
        await time.run_out(getting)
        await getting

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def trusting(self, authority: Authority) -> HttpStoreSettings:
        return HttpStoreSettings(ca_file=self.file("authority.pem", authority.pem))

    async def stop(self) -> None:
        for store in self._stores:
            await store.stop()
        for server in self._servers:
            for request in server.seen:
                if getattr(request, "channel", None) is not None:
                    request.channel.transport.abortConnection()
            await maybeDeferred(server.port.stopListening)
        await pause()


def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    async def call() -> Any:
        return function(*args, **kwargs)

    return Deferred.fromCoroutine(call())


async def pause() -> None:
    """A turn or two of the reactor, for connections to close."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0.05, turned.callback, None)
    await turned
