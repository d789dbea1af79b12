"""Requests whose bodies are read while they arrive, and refused as soon as a fault is found."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.server import Request
from zope.interface import implementer

from digsigd.errors import DigsigError, TooLarge, UploadTimeout
from digsigd.web.answers import OWN_ID, methods_of, not_routed, render, request_id_of, text_of, trace_of
from digsigd.web.asking import asking_of
from digsigd.web.upload import Upload
from digsigd.web.upload_state import Action, Event, State, UploadState
from digsigd.web.uploads import Uploads

# Smaller pieces of a body, in bytes, are collected before the form parses them, if more follow in the same turn.
SMALL_PIECE = 16 << 10
# From this length in bytes on, a body is received in larger pieces, of so many bytes.
LARGE_BODY = 1 << 20
LARGE_PIECE = 256 << 10
# How long a client that still sends has to read an early answer before the connection is closed; see LINGER_BYTES.
LINGER_SECONDS = 2.0
# The beginning of a target in absolute form.
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)", re.IGNORECASE)


class UploadRequest(Request):
    """A request that streams an upload into a work directory.

    `mount` is the path below which uploads are posted, to one of `Uploads.kinds`. `upload` is None for all other
    requests. If `keep_others` is true, Twisted handles those; else their bodies are discarded, and one with a long body
    is refused immediately.

    `upload_state.py` decides what happens to an upload: this class passes it the events of the connection, and carries
    out its actions.
    """

    log = Logger()

    def __init__(self, channel: Any, *, uploads: Uploads, mount: bytes, keep_others: bool) -> None:
        super().__init__(channel)
        self.upload: Upload | None = None
        self.began = uploads.clock.seconds()
        self.own_id = secrets.token_hex(8)
        # The fields of all log lines of this request.
        self.who: dict[str, str] = {"request_id": self.own_id, "own_id": self.own_id, "caller": "-"}
        # How it was answered, for metrics: "signed", or the problem.
        self.outcome = ""
        self._uploads = uploads
        self._mount = mount
        self._keep_others = keep_others
        self._life: UploadState | None = None
        # Whether the connection is gone, and whether an early answer waits for its entry in the record.
        self._left = False
        self._recording = False
        # Whether nothing is read from the connection, because too much waits for its digest.
        self._waiting = False
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._clocks: list[IDelayedCall] = []
        self._idle: IDelayedCall | None = None
        self._later: IDelayedCall | None = None

    @property
    def state(self) -> State | None:
        """The state of an upload; None for other requests."""
        return self._life.state if self._life is not None else None

    @property
    def error(self) -> DigsigError | None:
        """The reason why an upload was refused; None if it was not."""
        return self._life.error if self._life is not None else None

    @property
    def base(self) -> str | None:
        """The path of the host's root, for an upload to the page for people; None for others."""
        if self.upload is None or not self.upload.is_of_page:
            return None
        return self._mount.decode("ascii") + "/"

    def gotLength(self, length: int | None) -> None:
        """Handle the end of the headers. `length` is the body's length in bytes, None for a chunked body."""
        self.who["request_id"] = request_id_of(self.requestHeaders) or self.own_id
        self.who["address"] = getattr(self.getClientAddress(), "host", "a local socket")
        self.who.update(trace_of(self.requestHeaders))
        # The channel sets the request's method and path only at the end of the body.
        method, path = self.channel._command, self._origin_form(self.channel._path).partition(b"?")[0]  # noqa: SLF001
        below = path.removeprefix(self._mount) if path.startswith(self._mount + b"/") else b""
        ours = method == b"POST" and below in self._uploads.kinds
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
            self._begin(length, below)
        else:
            self._wrong(self._unwanted(method.decode("ascii", "replace"), path.decode("ascii", "replace")))

    def handleContentChunk(self, data: bytes) -> None:
        """Handle the next bytes of the body."""
        if self._life is not None:
            actions = self._life.piece(len(data))
            self._do(actions)
            if Action.FEED in actions:
                self._collect(data)
        elif self._keep_others:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Handle the end of the request."""
        path = self._origin_form(path)
        if self._life is None:
            super().requestReceived(command, path, version)
            return
        self._life.whole()
        if self._life.state is State.RECEIVING and self.upload is not None:
            self._feed_or_refuse(self.upload.finish)
            self.upload.evidence.took("upload", self.seconds())
        actions = self.happened(Event.END_OF_BODY)
        if Action.SIGN in actions or Action.ANSWER_AT_END in actions:
            super().requestReceived(command, path, version)

    def _origin_form(self, target: bytes) -> bytes:
        """Return a request's target as a path: RFC 9112, 3.2.2. Its authority replaces the header Host."""
        found = _ABSOLUTE.match(target)
        if found is None or not (rest := target[found.end() :] or b"/").startswith(self._mount + b"/"):
            return target
        self.requestHeaders.setRawHeaders(b"host", [found[1].rpartition(b"@")[2]])
        return rest

    def getRequestHostname(self) -> bytes:
        """Return the host name that the client used; localhost if it is not valid. Only links would need it."""
        try:
            name: bytes = super().getRequestHostname()
            name.decode("ascii").encode("idna")
        except (ValueError, AttributeError):  # AttributeError: no Host header on a local socket
            return b"localhost"
        return name

    def seconds(self) -> float:
        """Return the seconds since the request began."""
        return self._uploads.clock.seconds() - self.began

    def happened(self, event: Event, error: DigsigError | None = None) -> tuple[Action, ...]:
        """Pass an event to the state machine, carry out its actions, and return them.

        The caller carries out `FEED`, `SIGN`, `ANSWER_AT_END` and `ANSWER`.
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
                # Not before the answer, which may wait for its entry in the record.
                case Action.CLOSE if self.channel is not None and not self._recording:
                    self.channel.loseConnection()
        return actions

    def _begin(self, length: int | None, below: bytes) -> None:
        upload = self.upload = self._uploads.begin(self.requestHeaders, self.happened, self.who, below)
        upload.evidence.address = getattr(self.getClientAddress(), "host", "a local socket")
        if length != 0:
            bounds = self._uploads.bounds
            # The channel's timeout closes without an answer, so it has to come later than ours.
            self.channel.setTimeout(bounds.idle_timeout + 30)
            self._idle = self._call_later(bounds.idle_timeout, self._too_slow, "stalled for", bounds.idle_timeout)
            self._call_later(bounds.timeout, self._too_slow, "took longer than", bounds.timeout)
        if length is None or length > LARGE_BODY:
            _read_more(self.channel.transport)
        try:
            upload.begin(self.requestHeaders, length, asking_of(self.channel, self.requestHeaders))
        except DigsigError as error:
            self._wrong(error)

    def _collect(self, data: bytes) -> None:
        """Feed the form. Small pieces are joined first, because each one costs a search through a part's headers."""
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
            return
        hashing = self._uploads.hashing
        if hashing is not None and hashing.is_full and self.upload.is_behind and not self._waiting:
            self._waiting = True
            self.channel._networkProducer.pauseProducing()  # noqa: SLF001
            hashing.when_room(self._go_on)

    def _go_on(self) -> None:
        self._waiting = False
        # It reads no more either while the channel's client does not read.
        if not self._left and not self.channel._waitingForTransport:  # noqa: SLF001
            self.channel._networkProducer.resumeProducing()  # noqa: SLF001

    def _wrong(self, error: DigsigError) -> None:
        if self._life is not None:
            self._do(self._life.wrong(error))

    def _too_slow(self, did: str, seconds: float) -> None:
        self.happened(Event.TOO_SLOW, UploadTimeout(f"the upload {did} {seconds:g} s"))

    def _over(self, _: object) -> None:
        self._left = True
        if self.upload is not None:
            self.upload.count(self.outcome, self.seconds())
        self.happened(Event.OVER)

    def _answer_now(self) -> None:
        """Answer with the error before the body has ended, which Twisted's request class cannot do."""
        error = self.error or DigsigError("internal error on the signing host: the upload is gone")
        if self.upload is None:
            self._answer_early(error)
        else:
            # It fires immediately unless the decision has to be recorded first.
            self._recording = True
            Deferred.fromCoroutine(self.upload.decided(error)).addCallback(self._answer_early)

    def _answer_early(self, error: DigsigError) -> None:
        self._recording = False
        if self._left:
            return
        # Otherwise the channel would send 100 Continue.
        self.requestHeaders.removeHeader("expect")
        self.outcome = error.problem
        accept = text_of(self.requestHeaders, b"accept")
        status, fields, body = render(error, self.who["request_id"], accept, self.base)
        fields[OWN_ID] = self.own_id
        headers = Headers({name: [value] for name, value in fields.items()})
        headers.setRawHeaders("connection", ["close"])
        headers.setRawHeaders("content-length", [str(len(body))])
        self.channel.writeHeaders(b"HTTP/1.1", str(status).encode(), HTTPStatus(status).phrase.encode(), headers)
        self.channel.write(body)
        # The channel would answer again, with its own 400, if the rest of the body turned out to be malformed.
        vars(self.channel)["_respondToBadRequestAndDisconnect"] = self.channel.loseConnection
        log_answered(self.log, self.who, status, self.seconds(), error)
        if self.state is State.GONE:
            self.channel.loseConnection()  # the body has ended meanwhile
        else:
            self._call_later(LINGER_SECONDS, self.happened, Event.LINGERED)

    def _call_later(self, seconds: float, call: Callable[..., object], *args: object) -> IDelayedCall:
        clock = self._uploads.clock.callLater(seconds, call, *args)
        self._clocks.append(clock)
        return clock

    def _unwanted(self, method: str, path: str) -> DigsigError:
        """Build the error for a request that is not an upload and has a long body."""
        pages = self._uploads.has_pages
        if method in methods_of(path, pages=pages):
            return TooLarge(f"{method} {path} does not accept a body")
        return not_routed(path, pages=pages)

    def _stop_clocks(self) -> None:
        clocks, self._clocks = self._clocks, []
        for clock in (self._later, *clocks):
            if clock is not None and clock.active():
                clock.cancel()


def _read_more(transport: Any) -> None:
    """Let a connection receive large pieces from now on. With TLS, it is its transport that receives."""
    while transport is not None:
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = LARGE_PIECE
        transport = getattr(transport, "transport", None)


def log_answered(log: Logger, who: Mapping[str, str], status: int, seconds: float, error: DigsigError | None) -> None:
    """Log the end of a request, of which `who` are the fields of all lines.

    Faults of this host are logged as errors, faults of clients as information.
    """
    write = log.error if status >= 500 and status != 503 else log.info
    if error is None:
        write(
            "answered {status} in {seconds:.3f} s",
            event="answered",
            status=status,
            seconds=seconds,
            **who,
        )
    else:
        write(
            "answered {status} in {seconds:.3f} s: {reason}",
            event="answered", status=status, seconds=seconds, reason=str(error), **who,
        )  # fmt: skip


@implementer(INonQueuedRequestFactory)
class RequestFactory:
    """The factory of a site's requests, for `Site(root, requestFactory=...)`."""

    def __init__(self, uploads: Uploads, *, mount: str = "/", keep_others: bool) -> None:
        """Make requests for `uploads`. `mount` is the path of the resource on the site."""
        self._uploads = uploads
        below = mount.strip("/").encode()
        self._mount = b"/" + below if below else b""
        self._keep_others = keep_others

    def __call__(self, channel: Any, queued: bool = False) -> Request:
        """Return a new request for a channel. A channel of HTTP/2 gets Twisted's class: it has no `gotLength`."""
        if not isinstance(channel, HTTPChannel):
            return Request(channel, queued)
        return UploadRequest(channel, uploads=self._uploads, mount=self._mount, keep_others=self._keep_others)
