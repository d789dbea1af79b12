"""Requests whose bodies are read while they arrive, and refused as soon as it is known that they will be."""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from digsigd.errors import DigsigError, TooLarge, UploadTimeout
from digsigd.web.answers import methods_of, new_request_id, not_routed, render, text_of
from digsigd.web.upload import Upload, Uploads

PATH = b"/sign/imx"
# A refused body that ends within so many bytes is read to its end, and the connection lives on. More is answered at
# once, and the connection closed.
SHORT_REST = 64 << 10
# Bytes of a body are given to the form in pieces no smaller than this, as long as more are at hand.
SMALL_PIECE = 16 << 10
# A client that still sends gets so long, and so many bytes, to see the answer before the connection is closed: closing
# one with unread bytes resets it, and the answer is lost (RFC 9112, 9.6).
LINGER_SECONDS = 2.0
LINGER_BYTES = 16 << 20


class UploadRequest(Request):
    """A request that streams what is posted to `/sign/imx` into a work directory.

    `upload` is set for those alone. `path` is where they are posted. Other requests are Twisted's own where
    `keep_others` is true; else their bodies are thrown away.
    """

    log = Logger()

    def __init__(self, channel: Any, *, uploads: Uploads, path: bytes, keep_others: bool) -> None:
        super().__init__(channel)
        self.upload: Upload | None = None
        self.began = uploads.clock.seconds()
        self._uploads = uploads
        self._path = path
        self._keep_others = keep_others
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._later: IDelayedCall | None = None
        self._rest: int | None = None
        self._expects = False
        self._answered = False
        self._discarded = 0
        self._idle: IDelayedCall | None = None
        self._whole: IDelayedCall | None = None

    def gotLength(self, length: int | None) -> None:
        """All headers are there; `length` is that of the body, None for a chunked one."""
        # The channel gives the request its method and path only with the end of the body.
        method, path = self.channel._command, self.channel._path.partition(b"?")[0]  # noqa: SLF001
        ours = method == b"POST" and path == self._path
        if self._keep_others and not ours:
            super().gotLength(length)
            return
        self.content = BytesIO()
        self._rest = length
        self._expects = self.requestHeaders.hasHeader("expect")
        if not ours:
            if self._answer_now():
                self._refuse(_unwanted(method.decode("ascii", "replace"), path.decode("ascii", "replace")))
            return
        upload = self.upload = self._uploads.begin(self.requestHeaders)
        self.notifyFinish().addBoth(self._gone)
        upload.refuse = self._end
        if length != 0:
            bounds, clock = self._uploads.bounds, self._uploads.clock
            # The channel's own timeout closes without an answer: it comes after ours.
            self.channel.setTimeout(bounds.idle_timeout + 30)
            self._idle = clock.callLater(bounds.idle_timeout, self._too_slow, "stood still for", bounds.idle_timeout)
            self._whole = clock.callLater(bounds.timeout, self._too_slow, "took longer than", bounds.timeout)
        try:
            upload.begin(self.requestHeaders, length)
        except DigsigError as error:
            self._refuse(error)

    def handleContentChunk(self, data: bytes) -> None:
        """Some bytes of the body are there."""
        if self._rest is not None:
            self._rest -= len(data)
        if self._answered:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self._close()
        elif self.upload is not None:
            if self.upload.error is None:
                if self._idle is not None:
                    self._idle.reset(self._uploads.bounds.idle_timeout)
                self._collect(data)
        elif self._keep_others:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request is there."""
        self._stop_timers()
        if self.upload is not None:
            self.upload.refuse = None
        if self._answered:
            self._close()
            return
        if self.upload is not None and self.upload.error is None:
            try:
                self._feed()
                self.upload.finish()
            except DigsigError as error:
                self.upload.error = error
        super().requestReceived(command, path, version)

    def getRequestHostname(self) -> bytes:
        """The host that the client has asked, or localhost where that is no name: only links would need it."""
        try:
            name: bytes = super().getRequestHostname()
            name.decode("ascii").encode("idna")
        except (ValueError, AttributeError):  # AttributeError: no Host header on a local socket
            return b"localhost"
        return name

    def seconds(self) -> float:
        """How long ago it began."""
        return self._uploads.clock.seconds() - self.began

    def _collect(self, data: bytes) -> None:
        """Feed the form, and what comes in small pieces at once: each piece is a search through a part's headers."""
        self._pieces.append(data)
        self._pieces_size += len(data)
        if self._pieces_size >= SMALL_PIECE:
            self._feed_or_refuse()
        elif self._later is None:
            self._later = self._uploads.clock.callLater(0, self._feed_or_refuse)

    def _feed_or_refuse(self) -> None:
        try:
            self._feed()
        except DigsigError as error:
            self._refuse(error)

    def _feed(self) -> None:
        pieces, self._pieces, self._pieces_size = self._pieces, [], 0
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None
        if self.upload is not None and self.upload.error is None and pieces:
            self.upload.feed(b"".join(pieces) if len(pieces) > 1 else pieces[0])

    def _too_slow(self, did: str, seconds: float) -> None:
        self._end(UploadTimeout(f"the upload {did} {seconds:g} s"))

    def _end(self, error: DigsigError) -> None:
        """Refuse at once, however little is to come."""
        if not self._answered:
            self._rest = None
            self._refuse(error)

    def _refuse(self, error: DigsigError) -> None:
        """Answer with an error: at once, or where little is to come, when the body has ended."""
        if self.upload is not None:
            self.upload.error = error
        if self._answer_now():
            self._answer(error)
        elif self.upload is not None:
            # Whoever sends the rest slowly holds nothing that others wait for.
            self.upload.dispose()

    def _answer_now(self) -> bool:
        return self._rest is None or self._rest > SHORT_REST or (self._expects and self._rest > 0)

    def _answer(self, error: DigsigError) -> None:
        """Answer before the request has ended, which Twisted's own request cannot."""
        self._answered = True
        self._stop_timers()
        # Else the channel would tell the client to go on.
        self.requestHeaders.removeHeader("expect")
        if self.upload is not None:
            request_id, accept = self.upload.request_id, self.upload.accept
            self.upload.dispose()
        else:
            request_id = new_request_id(self.requestHeaders)
            accept = text_of(self.requestHeaders, b"accept")
        status, fields, body = render(error, request_id, accept)
        headers = Headers({name: [value] for name, value in fields.items()})
        headers.setRawHeaders("connection", ["close"])
        headers.setRawHeaders("content-length", [str(len(body))])
        self.channel.writeHeaders(b"HTTP/1.1", str(status).encode(), HTTPStatus(status).phrase.encode(), headers)
        self.channel.write(body)
        log_answered(self.log, request_id, status, self.seconds(), error)
        closing = self._uploads.clock.callLater(LINGER_SECONDS, self._close)
        self.notifyFinish().addBoth(lambda _: closing.cancel() if closing.active() else None)

    def _close(self) -> None:
        if self.channel is not None:
            self.channel.loseConnection()

    def _gone(self, result: object) -> None:
        """The connection is gone, or the answer is."""
        self._stop_timers()
        if self.upload is not None:
            self.upload.gone = isinstance(result, Failure)
            if not self.upload.taken:
                self.upload.dispose()

    def _stop_timers(self) -> None:
        for timer in (self._idle, self._whole, self._later):
            if timer is not None and timer.active():
                timer.cancel()


def _unwanted(method: str, path: str) -> DigsigError:
    """The error of a request that nobody reads the body of."""
    if method in methods_of(path):
        return TooLarge(f"{method} {path} takes no body")
    return not_routed(path)


def log_answered(log: Logger, request_id: str, status: int, seconds: float, error: DigsigError | None) -> None:
    """The line of a request's end. Faults of this host are errors, those of clients are not."""
    write = log.error if status >= 500 and status != 503 else log.info
    if error is None:
        write(
            "answered {status} in {seconds:.3f} s",
            request_id=request_id,
            event="answered",
            status=status,
            seconds=seconds,
        )
    else:
        write(
            "answered {status} in {seconds:.3f} s: {reason}",
            request_id=request_id, event="answered", status=status, seconds=seconds, reason=str(error),
        )  # fmt: skip


@implementer(INonQueuedRequestFactory)
class RequestFactory:
    """Makes the requests of a site: `Site(root, requestFactory=this)`."""

    def __init__(self, uploads: Uploads, *, mount: str = "/", keep_others: bool) -> None:
        """`mount` is the path of the resource on the site."""
        self._uploads = uploads
        self._path = mount.strip("/").encode()
        self._path = (b"/" + self._path if self._path else b"") + PATH
        self._keep_others = keep_others

    def __call__(self, channel: Any, queued: bool = False) -> Request:
        """The request of a channel. HTTP/2's tell of their headers in another way: theirs are Twisted's own."""
        if not isinstance(channel, HTTPChannel):
            return Request(channel, queued)
        return UploadRequest(channel, uploads=self._uploads, path=self._path, keep_others=self._keep_others)


class _Channel(HTTPChannel):
    """A connection that its site knows of."""

    site: SigningSite

    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        super().connectionLost(reason)


class SigningSite(Site):
    """The site of a daemon that serves nothing else, over HTTP/1.1 alone."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(self, resource: IResource, uploads: Uploads) -> None:
        super().__init__(
            resource, requestFactory=RequestFactory(uploads, keep_others=False), parsePOSTFormSubmission=False
        )
        self.channels: set[HTTPChannel] = set()

    def close_connections(self) -> None:
        """Close every connection, once what is on its way out has left."""
        for channel in list(self.channels):
            channel.loseConnection()

    def log(self, request: object) -> None:
        """Write no access log: every answer has its own line already."""

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS may agree on."""
        return [b"http/1.1"]
