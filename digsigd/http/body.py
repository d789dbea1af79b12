"""The body of an answer: collected with bounds, and the file that it is."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from digsigd.http.deadline import IdleTimer, StoodStill

_GZIP = b"\x1f\x8b"


class TooLong(Exception):
    """A body that goes on, or unpacks, beyond what is taken."""


class BadCoding(Exception):
    """A body that is encoded as it must not be, or is not what it says. The text is for operators."""


def body_of(
    response: Any, *, max_bytes: int, idle: float, clock: IReactorTime, only_begin: bool = False
) -> Deferred[bytes]:
    """Return the body of a response, of which a piece comes at least every `idle` seconds.

    With `only_begin` what goes beyond `max_bytes` is not read, and nobody minds. Fails with `TooLong` otherwise, with
    `StoodStill`, or with what the connection was lost with.
    """
    if not only_begin and isinstance(response.length, int) and response.length > max_bytes:
        # Else the connection would wait for somebody to read from it.
        response.deliverBody(_Hangup())
        return fail(TooLong())
    body = _Body(max_bytes, idle, clock, only_begin=only_begin)
    response.deliverBody(body)
    return body.done


class _Hangup(Protocol):
    """Reads nothing."""

    def connectionMade(self) -> None:
        """Close at once."""
        _cut(self)


class _Body(Protocol):
    """Collects a body."""

    def __init__(self, max_bytes: int, idle: float, clock: IReactorTime, *, only_begin: bool) -> None:
        self._max_bytes = max_bytes
        self._only_begin = only_begin
        self._pieces: list[bytes] = []
        self._size = 0
        self._timer = IdleTimer(clock, idle, lambda: self._end(StoodStill(idle, "the answer")))
        self.done: Deferred[bytes] = Deferred(lambda _: self._drop())

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece."""
        self._timer.went_on()
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._max_bytes:
            self._end(None if self._only_begin else TooLong())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give what came. A body without a length ends with its connection; its content shows whether it is whole."""
        over = reason.check(ResponseDone, PotentialDataLoss)
        self._end(None if over else reason.value)

    def _drop(self) -> None:
        self._timer.stop()
        _cut(self)

    def _end(self, error: BaseException | None) -> None:
        self._timer.stop()
        if self.done.called:
            return
        if error is None:
            self.done.callback(b"".join(self._pieces))
        else:
            self.done.errback(error)
        _cut(self)


def file_in(body: bytes, codings: tuple[str, ...], max_bytes: int) -> bytes:
    """Return the file that a body of these content codings (RFC 9110, 8.4) is. It blocks: up to 30 ms for 8 MiB.

    Servers say `gzip` of a .tar.gz in two cases. Of the file's own compression (Apache with AddEncoding, objects
    stored with that metadata): then the body is the file as it is, and has the SHA-256 that sha256sum gives for it.
    Or because they compressed it once more on the way: then it unpacks to what is gzip again, and that is the file.
    A plain tar that was compressed on the way is not told from the first case; it is read all the same.

    Raises `BadCoding`, or `TooLong` where the file has more than `max_bytes`.
    """
    if not codings:
        return body
    if codings not in {("gzip",), ("x-gzip",)}:
        raise BadCoding(f"Content-Encoding is {', '.join(codings)[:80]!r}, where none was asked for and gzip is read")
    if _inflated(body, len(_GZIP)) != _GZIP:
        return body
    file = _inflated(body, max_bytes + 1, whole=True)
    if len(file) > max_bytes:
        raise TooLong
    return file


def _inflated(body: bytes, max_bytes: int, *, whole: bool = False) -> bytes:
    """Return the start of what a gzip file unpacks to, or all of it where that is no more than `max_bytes`."""
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(body, max_bytes)
    except zlib.error:
        raise BadCoding("Content-Encoding is gzip, and the body is not") from None
    if not inflated or (whole and len(inflated) < max_bytes and (not stream.eof or stream.unused_data)):
        raise BadCoding("Content-Encoding is gzip, and the body ends too early or goes on after its end")
    return inflated


def _cut(protocol: Protocol) -> None:
    """Close a connection without reading on. Where the body has ended it is not there any more."""
    if protocol.transport is not None:
        protocol.transport.loseConnection()
