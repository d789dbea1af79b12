"""Collect the body of an answer within bounds, and decode it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from digsigd.http.deadline import IdleTimer, Stalled

_GZIP = b"\x1f\x8b"


class TooLong(Exception):
    """A body that is longer than its limit, as sent or decompressed."""


class BadCoding(Exception):
    """A body with a content coding that is not accepted, or that does not match it. The text is for operators."""


def body_of(
    response: Any,
    *,
    max_bytes: int,
    idle: float,
    clock: IReactorTime,
    only_begin: bool = False,
    into: Callable[[bytes], object] | None = None,
) -> Deferred[bytes]:
    """Return the body of a response: `max_bytes` at most, with at most `idle` seconds between two pieces.

    With `only_begin`, reading stops after `max_bytes` without an error. With `into`, each piece is passed to it, and
    the result is empty. Fails with `TooLong` for a longer body, `Stalled` after `idle` seconds without data, what
    `into` raises, or the error with which the connection was lost.
    """
    if not only_begin and isinstance(response.length, int) and response.length > max_bytes:
        # Without a reader the connection would stay open.
        response.deliverBody(_Hangup())
        return fail(TooLong())
    body = _Body(max_bytes, idle, clock, only_begin=only_begin, into=into)
    response.deliverBody(body)
    return body.done


class _Hangup(Protocol):
    """A body protocol that reads nothing."""

    def connectionMade(self) -> None:
        """Close the connection immediately."""
        _cut(self)


class _Body(Protocol):
    """A body protocol that collects the body."""

    def __init__(
        self,
        max_bytes: int,
        idle: float,
        clock: IReactorTime,
        *,
        only_begin: bool,
        into: Callable[[bytes], object] | None,
    ) -> None:
        self._left = max_bytes
        self._only_begin = only_begin
        self._into = into
        # One buffer: as objects of their own, chunks of one byte would take 60 times their size.
        self._body = bytearray()
        self._timer = IdleTimer(clock, idle, lambda: self._end(Stalled(idle, "the answer")))
        self.done: Deferred[bytes] = Deferred(lambda _: self._drop())

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, or pass it on."""
        self._timer.went_on()
        self._left -= len(data)
        if self._left < 0 and not self._only_begin:
            self._end(TooLong())
            return
        if self._into is None:
            self._body += data
        elif not self.done.called:
            try:
                self._into(data)
            except Exception as error:  # noqa: BLE001 - an error of the caller's function ends this request
                self._end(error)
                return
        if self._left < 0:
            self._end(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fire `done`. A body without a length ends with its connection; only its content shows if it is complete."""
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
            self.done.callback(bytes(self._body))
        else:
            self.done.errback(error)
        _cut(self)


def file_in(body: bytes, codings: tuple[str, ...], max_bytes: int) -> bytes:
    """Return the file in a body with these content codings (RFC 9110, 8.4). Blocks: up to 30 ms for 8 MiB.

    Servers declare `gzip` for a .tar.gz in two cases. Either it means the file's own compression (Apache with
    AddEncoding, objects stored with that metadata): the body is the file, with the SHA-256 that sha256sum prints.
    Or the server compressed the file a second time: the body decompresses to gzip data, which is the file.
    A plain tar that the server compressed looks like the first case, and the body is returned unchanged.

    Raises `BadCoding` for any other coding or a damaged body, `TooLong` if the file has more than `max_bytes`.
    """
    if not codings:
        return body
    if codings not in {("gzip",), ("x-gzip",)}:
        raise BadCoding(f"Content-Encoding is {', '.join(codings)[:80]!r}; only gzip or no coding is accepted")
    if _inflated(body, len(_GZIP)) != _GZIP:
        return body
    file = _inflated(body, max_bytes + 1, whole=True)
    if len(file) > max_bytes:
        raise TooLong
    return file


def _inflated(body: bytes, max_bytes: int, *, whole: bool = False) -> bytes:
    """Return the first `max_bytes` of what a gzip file decompresses to. With `whole`, check that it ends properly."""
    stream = zlib.decompressobj(wbits=31)
    try:
        inflated = stream.decompress(body, max_bytes)
    except zlib.error:
        raise BadCoding("Content-Encoding is gzip, but the body is not gzip data") from None
    if not inflated or (whole and len(inflated) < max_bytes and (not stream.eof or stream.unused_data)):
        raise BadCoding("Content-Encoding is gzip, but the body is truncated or has data after its end")
    return inflated


def _cut(protocol: Protocol) -> None:
    """Close the connection without reading on. After the end of the body there is no transport any more."""
    if protocol.transport is not None:
        protocol.transport.loseConnection()
