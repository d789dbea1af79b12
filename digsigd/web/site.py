"""The daemon's own site: HTTP/1.1 connections with bounds on their number, their headers and their pipelines."""

from __future__ import annotations

import re
import select
from collections import Counter
from typing import Any

from OpenSSL.SSL import Error as TlsError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Site

from digsigd.web.failed_tls import FailedTls, reason_of, sent_tls
from digsigd.web.request import LINGER_SECONDS, RequestFactory
from digsigd.web.shares import is_on_this_host
from digsigd.web.upload_state import LINGER_BYTES
from digsigd.web.uploads import Uploads

# How long the headers of a request may take, in seconds, from the connection or the request's first byte. A request
# that is not an upload may take as long with its body, too.
HEAD_SECONDS = 10.0
# How long a client may take to read the end of the last answer, in seconds, before the connection is aborted.
LAST_SECONDS = 60.0
# How long a connection may have been silent, in seconds, before it may be closed to make room for another.
SPARE_SECONDS = 2.0
# How often room is looked for while no connection is accepted, in seconds; how many are closed at a time.
_LOOK_SECONDS, _CLOSED_AT_ONCE = 0.25, 64
# How often new connections are looked at before the last of them are closed, in seconds.
_LAST_LOOK_SECONDS = 0.05
# The part of all connections that one address may have if clients are told apart by their addresses only.
_SHARE = 0.75
# No length has more digits than this one, which is 8 EiB.
_DIGITS = 19
_COMPRESSED = re.compile(rb"gzip|deflate|compress|\bbr\b|zstd", re.IGNORECASE)
# Pieces of requests that wait for their turn are joined from this number on.
_PIECES = 64
# How many connections the port accepts in one turn of the reactor: the most that there can be beyond the limit.
_ACCEPTED_AT_ONCE = 8


class SigningChannel(HTTPChannel):
    """A connection of a `SigningSite`.

    `waiting_since` is when it began to wait for headers; None within a request. `is_new` is true until something comes.
    """

    site: SigningSite
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.waiting_since: float | None = None
        self.is_new = True
        self.address = ""
        self._head: IDelayedCall | None = None
        self._turn: IDelayedCall | None = None
        self._last: IDelayedCall | None = None
        self._discards: int | None = None
        self._has_asked = False

    def connectionMade(self) -> None:
        """Begin, or refuse a connection of an address that has too many."""
        super().connectionMade()
        self.address = str(getattr(self.transport.getPeer(), "host", ""))
        self.waiting_since = self.site.reactor.seconds()
        self._head = self.callLater(HEAD_SECONDS, self._head_too_slow)
        if not self.site.admit(self):
            text = "too many connections from this address"
            self._refuse(_answer(b"503 Service Unavailable", text, b"Retry-After: 5\r\n"))

    def is_in_use(self) -> bool:
        """Return whether the client is owed an answer, or has just connected and may be about to ask."""
        if self.requests or self._discards is not None:
            return True
        asks = self.waiting_since is not None and not self._has_asked
        return asks and self.site.reactor.seconds() - (self.waiting_since or 0.0) < SPARE_SECONDS

    def has_sent(self) -> bool:
        """Return whether something of the client waits to be read."""
        look = select.poll()
        look.register(self.transport.fileno(), select.POLLIN)
        return bool(look.poll(0))

    def turn_away(self) -> None:
        """Close a silent connection to make room, with an answer for a client that is only slow."""
        self.waiting_since = None
        if self.isSecure():
            # Perhaps in the middle of its handshake.
            self.transport.abortConnection()
        else:
            text = "too many connections on this signing host"
            self.transport.write(_answer(b"503 Service Unavailable", text, b"Retry-After: 5\r\n"))
            self.transport.loseConnection()

    def sent_plain_http(self, transport: Any) -> None:
        """Answer a client that sent plain HTTP to this port with TLS, over its bare transport."""
        self.waiting_since = None
        text = "this port uses TLS: use https:// instead of http://"
        self.site.failed_tls.failed(self.address, "the client sent plain HTTP to this port with TLS")
        self._stop_head()
        self.setTimeout(None)
        transport.write(_answer(b"400 Bad Request", text))
        self._head = self.callLater(LINGER_SECONDS, transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection and its timers. Log why TLS failed."""
        if isinstance(reason.value, TlsError):
            self.site.failed_tls.failed(self.address, reason_of(reason.value))
        for clock in (self._head, self._turn, self._last):
            if clock is not None and clock.active():
                clock.cancel()
        self.site.lost(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, or discard them after a refusal. The first of a later request starts the time for its headers."""
        if self._discards is None and self.is_new and sent_tls(data) and not self.isSecure():
            self.site.failed_tls.failed(self.address, "the client sent TLS to this port without TLS")
            self._refuse(_answer(b"400 Bad Request", "this port has no TLS: use http:// instead of https://"))
        elif self._discards is None:
            self.is_new = False
            super().dataReceived(data)
            if self._head is None and self._buffer and not self.requests:
                self._head = self.callLater(HEAD_SECONDS, self._head_too_slow)
        else:
            self._discards += len(data)
            if self._discards > LINGER_BYTES:
                self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """Take a line of the headers."""
        if self._discards is not None:
            return
        if self._head is None:
            self._head = self.callLater(HEAD_SECONDS, self._head_too_slow)
        super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Take bytes of a body, or of requests that wait. Those are joined: the channel sums up its pieces."""
        super().rawDataReceived(data)
        if len(self._dataBuffer) > _PIECES:
            self._dataBuffer = [b"".join(self._dataBuffer)]

    def allHeadersReceived(self) -> None:
        """Handle the end of the headers. Uploads have their own time limits from here on."""
        self.waiting_since = None
        self._has_asked = True
        super().allHeadersReceived()
        if getattr(self.requests[-1], "state", None) is not None:
            self._stop_head()

    def allContentReceived(self) -> None:
        """Handle the end of a request."""
        self._stop_head()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Handle the end of an answer. The next request, if it has been sent already, has to wait for the next turn."""
        self.waiting_since = self.site.reactor.seconds()
        # LineReceiver parses no line while this is set.
        self.paused = True
        super().requestDone(request)
        if self._buffer and self._turn is None:
            self._networkProducer.pauseProducing()
            self._turn = self.callLater(0, self._take_turn)
        elif self._turn is None:
            self.paused = False

    def loseConnection(self) -> None:
        """Close the connection when everything is sent, or abort it if the client does not read."""
        if self._last is None:
            self._last = self.callLater(LAST_SECONDS, self.transport.abortConnection)
        super().loseConnection()

    def _take_turn(self) -> None:
        self._turn = None
        self.paused = False
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()
        self.dataReceived(b"")

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        """Refuse a length that no number has, before it is converted, and compressed bodies with the reason."""
        if header == b"Content-Length" and len(data) > _DIGITS:
            return bool(self._failChooseTransferDecoder())
        if header == b"Transfer-Encoding" and _COMPRESSED.search(data):
            text = "only uncompressed bodies are accepted: send the form without this Transfer-Encoding"
            self._refuse(_answer(b"415 Unsupported Media Type", text, b"Accept-Encoding: identity\r\n"))
            return False
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _stop_head(self) -> None:
        head, self._head = self._head, None
        if head is not None and head.active():
            head.cancel()

    def _head_too_slow(self) -> None:
        self._head = None
        if self._buffer or self._receivedHeaderSize or self.requests:
            self.transport.write(_answer(b"408 Request Timeout", f"the request took longer than {HEAD_SECONDS:g} s"))
        self.loseConnection()

    def _refuse(self, answer: bytes) -> None:
        """Answer before the request is read, and let the client send for a moment so that it reads the answer."""
        self._discards = 0
        self._stop_head()
        self.setTimeout(None)
        self.transport.write(answer)
        self._head = self.callLater(LINGER_SECONDS, self.loseConnection)


class SigningSite(Site):
    """The site of a daemon that serves only the signing endpoint, over HTTP/1.1 only.

    It has at most `max_connections` connections. At the limit it closes those that have sent no request for
    `SPARE_SECONDS`, first those of the address that has the most. If there are none, it accepts no connection until one
    ends; clients wait in the port's backlog meanwhile. If `anonymous`, one address has at most three quarters of the
    connections, except on this host.
    """

    noisy = False
    protocol = SigningChannel  # type: ignore[assignment]

    def __init__(
        self, resource: IResource, uploads: Uploads, *, max_connections: int = 1024, anonymous: bool = True
    ) -> None:
        super().__init__(
            resource, requestFactory=RequestFactory(uploads, keep_others=False), parsePOSTFormSubmission=False
        )
        self.max_connections = max_connections
        self.anonymous = anonymous
        self.channels: set[SigningChannel] = set()
        self._of_address: Counter[str] = Counter()
        self._port: Any = None
        self._looking: IDelayedCall | None = None
        self.failed_tls = FailedTls(self.reactor)

    def listens_on(self, port: Any) -> None:
        """Note the port (None: no more), which stops accepting connections while there is no room for them."""
        self._port = port
        if port is None:
            self.failed_tls.close()
        else:
            # Those beyond the limit need descriptors, too.
            port.numberAccepts = max(1, min(_ACCEPTED_AT_ONCE, self.max_connections // _ACCEPTED_AT_ONCE))
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
        self._looking = None

    def admit(self, channel: SigningChannel) -> bool:
        """Count a new connection, and return whether its address may have it."""
        self.channels.add(channel)
        self._of_address[channel.address] += 1
        if self._port is not None:
            # Twisted's port accepts more at once in the next turn if it has accepted as many as this says.
            self._port.numberAccepts = 0
        if len(self.channels) >= self.max_connections:
            self._make_room()
        limited = self.anonymous and not is_on_this_host(channel.address)
        return not limited or self._of_address[channel.address] <= max(1, int(self.max_connections * _SHARE))

    def lost(self, channel: SigningChannel) -> None:
        """Stop counting a connection."""
        if channel not in self.channels:
            return
        self.channels.discard(channel)
        self._of_address[channel.address] -= 1
        if not self._of_address[channel.address]:
            del self._of_address[channel.address]
        if self._looking is not None and len(self.channels) < self.max_connections:
            self._accept_again()

    async def answer_last(self) -> None:
        """Wait, for at most two seconds, until clients that connected in the moment of a stop have their answers.

        Their requests may be on the way, and an answer is lost if its connection is closed while a body still arrives.
        """
        last = self.reactor.seconds() + max(SPARE_SECONDS, LINGER_SECONDS)
        while self.reactor.seconds() < last and any(channel.is_in_use() for channel in self.channels):
            await deferLater(self.reactor, _LAST_LOOK_SECONDS)

    def close_connections(self) -> None:
        """Close every connection, after its buffered output has been sent."""
        for channel in list(self.channels):
            channel.loseConnection()

    def log(self, request: object) -> None:
        """Write nothing to an access log: `log_answered` logs every answer."""

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols that TLS may negotiate: HTTP/1.1."""
        return [b"http/1.1"]

    def _make_room(self) -> None:
        """Close silent connections; if there are none, accept no connection for now."""
        now = self.reactor.seconds()
        silent = sorted(
            (-self._of_address[channel.address], channel.waiting_since, id(channel), channel)
            for channel in self.channels
            if channel.waiting_since is not None and now - channel.waiting_since >= SPARE_SECONDS
            # Perhaps it was this daemon that was too busy to read.
            if not channel.has_sent()
        )
        for *_, channel in silent[:_CLOSED_AT_ONCE]:
            channel.turn_away()
        if silent or self._port is None:
            self._accept_again()
        else:
            self._port.stopReading()
            if self._looking is None:
                self._looking = self.reactor.callLater(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        if len(self.channels) < self.max_connections:
            self._accept_again()
        else:
            self._make_room()

    def _accept_again(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
        self._looking = None
        if self._port is not None and self._port.connected:
            self._port.startReading()


def _answer(status: bytes, text: str, headers: bytes = b"") -> bytes:
    """Return a whole answer that closes its connection."""
    body = text.encode() + b"\n"
    return (
        b"HTTP/1.1 %s\r\nServer: digsigd\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"%sConnection: close\r\n\r\n%s"
    ) % (status, len(body), headers, body)
