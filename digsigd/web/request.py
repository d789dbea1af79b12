"""Requests whose bodies are read while they arrive, and refused as soon as it is known that they will be."""

from __future__ import annotations

from collections.abc import Callable
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
from digsigd.web.upload_state import Action, Event, State, UploadState

PATH = b"/sign/imx"
# Bytes of a body are given to the form in pieces no smaller than this, as long as more are at hand.
SMALL_PIECE = 16 << 10
# A client that still sends gets so long (and LINGER_BYTES) to see an early answer before the connection is closed.
LINGER_SECONDS = 2.0


class UploadRequest(Request):
    """A request that streams what is posted to `/sign/imx` into a work directory.

    `upload` is set for those alone. `path` is where they are posted. Other requests are Twisted's own where
    `keep_others` is true; else their bodies are thrown away, and what has a long one is refused at once.

    What becomes of an upload `upload_state.py` decides: here it is told what the connection brings, and what it says is
    done.
    """

    log = Logger()

    def __init__(self, channel: Any, *, uploads: Uploads, path: bytes, keep_others: bool) -> None:
        super().__init__(channel)
        self.upload: Upload | None = None
        self.began = uploads.clock.seconds()
        self._uploads = uploads
        self._path = path
        self._keep_others = keep_others
        self._life: UploadState | None = None
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._clocks: list[IDelayedCall] = []
        self._idle: IDelayedCall | None = None
        self._later: IDelayedCall | None = None

    @property
    def state(self) -> State | None:
        """Where an upload is in its life; None for other requests."""
        return self._life.state if self._life is not None else None

    @property
    def error(self) -> DigsigError | None:
        """Why an upload was refused; None if it was not."""
        return self._life.error if self._life is not None else None

    def gotLength(self, length: int | None) -> None:
        """All headers are there; `length` is that of the body, None for a chunked one."""
        # The channel gives the request its method and path only with the end of the body.
        method, path = self.channel._command, self.channel._path.partition(b"?")[0]  # noqa: SLF001
        ours = method == b"POST" and path == self._path
        if self._keep_others and not ours:
            super().gotLength(length)
            return
        self.content = BytesIO()
        life = UploadState(length, expects=self.requestHeaders.hasHeader("expect"))
        if not ours and not life.much_to_come:
            return
        self._life = life
        self.notifyFinish().addBoth(self._over)
        if ours:
            self._begin(length)
        else:
            self._wrong(_unwanted(method.decode("ascii", "replace"), path.decode("ascii", "replace")))

    def handleContentChunk(self, data: bytes) -> None:
        """Some bytes of the body are there."""
        if self._life is not None:
            actions = self._life.piece(len(data))
            self._do(actions)
            if Action.FEED in actions:
                self._collect(data)
        elif self._keep_others:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request is there."""
        if self._life is None:
            super().requestReceived(command, path, version)
            return
        self._life.whole()
        if self._life.state is State.RECEIVING and self.upload is not None:
            self._feed_or_refuse(self.upload.finish)
        actions = self.happened(Event.END_OF_BODY)
        if Action.SIGN in actions or Action.ANSWER_AT_END in actions:
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

    def happened(self, event: Event, error: DigsigError | None = None) -> tuple[Action, ...]:
        """Tell the state machine what happened, do what it says, and return that.

        `FEED`, `SIGN`, `ANSWER_AT_END` and `ANSWER` are left to whoever told of the event.
        """
        return self._do(self._life.happened(event, error)) if self._life is not None else ()

    def _do(self, actions: tuple[Action, ...]) -> tuple[Action, ...]:
        for action in actions:
            match action:
                case Action.FEED if self._idle is not None:
                    self._idle.reset(self._uploads.bounds.idle_timeout)
                case Action.STOP_CLOCKS:
                    self._stop_clocks()
                case Action.REMOVE if self.upload is not None:
                    self.upload.remove()
                case Action.CANCEL if self.upload is not None:
                    self.upload.cancel()
                case Action.ANSWER_NOW:
                    self._answer_now()
                case Action.CLOSE if self.channel is not None:
                    self.channel.loseConnection()
        return actions

    def _begin(self, length: int | None) -> None:
        upload = self.upload = self._uploads.begin(self.requestHeaders, self.happened)
        if length != 0:
            bounds = self._uploads.bounds
            # The channel's own timeout closes without an answer: it comes after ours.
            self.channel.setTimeout(bounds.idle_timeout + 30)
            self._idle = self._call_later(bounds.idle_timeout, self._too_slow, "stood still for", bounds.idle_timeout)
            self._call_later(bounds.timeout, self._too_slow, "took longer than", bounds.timeout)
        try:
            upload.begin(self.requestHeaders, length)
        except DigsigError as error:
            self._wrong(error)

    def _collect(self, data: bytes) -> None:
        """Feed the form, and what comes in small pieces at once: each piece is a search through a part's headers."""
        self._pieces.append(data)
        self._pieces_size += len(data)
        if self._pieces_size >= SMALL_PIECE:
            self._feed_or_refuse()
        elif self._later is None:
            self._later = self._uploads.clock.callLater(0, self._feed_or_refuse)

    def _feed_or_refuse(self, then: Callable[[], None] = lambda: None) -> None:
        pieces, self._pieces, self._pieces_size = self._pieces, [], 0
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None
        if self.upload is None or self.state is not State.RECEIVING:
            return
        try:
            if pieces:
                self.upload.feed(b"".join(pieces) if len(pieces) > 1 else pieces[0])
            then()
        except DigsigError as error:
            self._wrong(error)

    def _wrong(self, error: DigsigError) -> None:
        if self._life is not None:
            self._do(self._life.wrong(error))

    def _too_slow(self, did: str, seconds: float) -> None:
        self.happened(Event.TOO_SLOW, UploadTimeout(f"the upload {did} {seconds:g} s"))

    def _over(self, _: object) -> None:
        self.happened(Event.OVER)

    def _answer_now(self) -> None:
        """Answer with the error before the request has ended, which Twisted's own request cannot."""
        error = self.error or DigsigError("this signing host lost the upload")
        # Else the channel would tell the client to go on.
        self.requestHeaders.removeHeader("expect")
        if self.upload is not None:
            request_id, accept = self.upload.request_id, self.upload.accept
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
        self._call_later(LINGER_SECONDS, self.happened, Event.LINGERED)

    def _call_later(self, seconds: float, call: Callable[..., object], *args: object) -> IDelayedCall:
        clock = self._uploads.clock.callLater(seconds, call, *args)
        self._clocks.append(clock)
        return clock

    def _stop_clocks(self) -> None:
        clocks, self._clocks = self._clocks, []
        for clock in (self._later, *clocks):
            if clock is not None and clock.active():
                clock.cancel()


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
