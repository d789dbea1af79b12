"""The body of an answer: collected with bounds, and the file that it is."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

_GZIP = b"\x1f\x8b"


class TooLong(Exception):
    """A body that goes on, or unpacks, beyond what is taken."""


class BadCoding(Exception):
    """A body that is encoded as it must not be, or is not what it says. The text is for operators."""


class Hangup(Protocol):
    """Reads nothing."""

    def connectionMade(self) -> None:
        """Close at once."""
        _cut(self)


class Body(Protocol):
    """Collects a body: so many bytes at most, with so many seconds between two pieces at most."""

    def __init__(self, limit: int, idle: float, reactor: Any) -> None:
        self._limit = limit
        self._idle = idle
        self._reactor = reactor
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = False
        self._timer: IDelayedCall | None = None
        self._done: Deferred[bytes] = Deferred(lambda _: _cut(self))

    def of(self, response: Any) -> Deferred[bytes]:
        """The body of a response; one that is no tarball is only begun. Fails with `TooLong`, among others."""
        self._whole = response.code == 200
        self._timer = self._reactor.callLater(self._idle, self._end, LateError())
        response.deliverBody(self)
        return self._done

    def dataReceived(self, data: bytes) -> None:
        """A piece."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._idle)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._end(TooLong() if self._whole else None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        # A body without a length ends with its connection; a tarball shows whether it is whole.
        over = reason.check(ResponseDone, PotentialDataLoss)
        self._end(None if over else reason.value)

    def _end(self, error: BaseException | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._done.called:
            return
        if error is None:
            self._done.callback(b"".join(self._pieces))
        else:
            self._done.errback(error)
        _cut(self)


def file_in(body: bytes, codings: tuple[str, ...], max_bytes: int) -> bytes:
    """The file that a body of these content codings (RFC 9110, 8.4) is. It blocks: up to 30 ms for 8 MiB.

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
    """The start of what a gzip file unpacks to, or all of it where that is no more than `max_bytes`."""
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
