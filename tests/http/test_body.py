"""Bodies: how much of one is read, how long it may take, and the file that it is."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH

from digsigd.http.body import BadCoding, TooLong, body_of, file_in
from digsigd.http.deadline import Stalled


class Answer:
    """A response whose body comes as the test says, and what is made of it."""

    def __init__(
        self,
        length: Any = UNKNOWN_LENGTH,
        *,
        only_begin: bool = False,
        most: int = 10,
        into: Callable[[bytes], object] | None = None,
    ) -> None:
        self.length = length
        self.clock = Clock()
        self.transport = StringTransport()
        self.protocol: Any = None
        self.waiting = body_of(self, max_bytes=most, idle=5, clock=self.clock, only_begin=only_begin, into=into)
        self.results: list[Any] = []
        self.waiting.addCallbacks(self.results.append, lambda failure: self.results.append(failure.value))

    def deliverBody(self, protocol: Protocol) -> None:
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def ends(self, why: Exception) -> Any:
        self.protocol.connectionLost(Failure(why))
        (result,) = self.results
        return result


@pytest.mark.parametrize("why", [ResponseDone(), PotentialDataLoss()])
def test_a_whole_body_is_given(why: Exception) -> None:
    """Up to as many bytes as it may have, with a length or ended by the connection."""
    answer = Answer(10)
    answer.protocol.dataReceived(b"12345")
    answer.protocol.dataReceived(b"67890")
    assert answer.results == []
    assert answer.ends(why) == b"1234567890"
    assert answer.clock.getDelayedCalls() == []


def test_a_body_that_breaks_off_is_none() -> None:
    """It fails with what ended the connection."""
    answer = Answer()
    answer.protocol.dataReceived(b"1")
    assert isinstance(answer.ends(ConnectionLost()), ConnectionLost)


@pytest.mark.parametrize("length", [11, UNKNOWN_LENGTH])
def test_a_body_that_is_too_long_is_not_read_on(length: Any) -> None:
    """As soon as that is known the connection is closed."""
    answer = Answer(length)
    if length is UNKNOWN_LENGTH:
        answer.protocol.dataReceived(bytes(11))
    assert isinstance(answer.results[0], TooLong)
    assert answer.transport.disconnecting
    answer.protocol.dataReceived(b"more")
    assert isinstance(answer.ends(ResponseDone()), TooLong)


def test_of_some_bodies_the_beginning_is_enough() -> None:
    """However long they say they are."""
    answer = Answer(100, only_begin=True)
    answer.protocol.dataReceived(b"1234567890")
    assert answer.results == []
    answer.protocol.dataReceived(b"1")
    assert answer.results == [b"12345678901"]
    assert answer.transport.disconnecting


def test_a_body_of_chunks_of_one_byte_takes_no_more_memory_than_another() -> None:
    """It is kept in one buffer, not as an object for each chunk."""
    size = 1 << 18
    answer = Answer(most=size)
    piece = b"xy"
    tracemalloc.start()
    try:
        for _ in range(size):
            answer.protocol.dataReceived(piece[:1])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2 * size
    assert answer.ends(ResponseDone()) == b"x" * size


def test_a_body_can_be_passed_on_piece_by_piece() -> None:
    """Nothing of it is kept, and nothing beyond its limit is passed on."""
    pieces: list[bytes] = []
    answer = Answer(into=pieces.append)
    answer.protocol.dataReceived(b"12345")
    answer.protocol.dataReceived(b"67890")
    assert answer.ends(ResponseDone()) == b""
    assert pieces == [b"12345", b"67890"]
    pieces.clear()
    answer = Answer(into=pieces.append)
    answer.protocol.dataReceived(bytes(10))
    answer.protocol.dataReceived(b"1")
    answer.protocol.dataReceived(b"2")
    assert isinstance(answer.results[0], TooLong)
    assert answer.transport.disconnecting
    assert pieces == [bytes(10)]


def test_a_body_that_cannot_be_passed_on_ends_the_request() -> None:
    """With the error of the function that takes it; no piece follows."""
    error, pieces = OSError("the disk is full"), list[bytes]()

    def full(piece: bytes) -> None:
        pieces.append(piece)
        raise error

    answer = Answer(into=full)
    answer.protocol.dataReceived(b"1")
    assert answer.results == [error]
    assert answer.transport.disconnecting
    answer.protocol.dataReceived(b"2")
    assert pieces == [b"1"]


def test_a_body_that_stands_still_is_given_up() -> None:
    """So long after its last piece; cancelled, nothing is to happen later, even if the connection does not end."""
    answer = Answer()
    for _ in range(2):
        answer.clock.advance(4.9)
        answer.protocol.dataReceived(b"1")
    answer.clock.advance(5)
    assert isinstance(answer.results[0], Stalled)
    assert answer.transport.disconnecting
    answer = Answer()
    answer.waiting.cancel()
    assert answer.transport.disconnecting
    assert answer.clock.getDelayedCalls() == []


FILE = gzip.compress(b"a tarball", mtime=0)
TWICE = gzip.compress(FILE, mtime=0)


@pytest.mark.parametrize(
    ("body", "codings", "file"),
    [
        (b"anything", (), b"anything"),
        (FILE, ("gzip",), FILE),
        (TWICE, ("gzip",), FILE),
        (TWICE, ("x-gzip",), FILE),
        (TWICE, (), TWICE),
    ],
)
def test_the_file_is_what_was_stored(body: bytes, codings: tuple[str, ...], file: bytes) -> None:
    """Whether `gzip` says what it is, or what was done to it on the way."""
    assert file_in(body, codings, 100) == file


def test_what_unpacks_to_too_much_is_no_file() -> None:
    """One byte more than it may have."""
    assert file_in(TWICE, ("gzip",), len(FILE)) == FILE
    with pytest.raises(TooLong):
        file_in(TWICE, ("gzip",), len(FILE) - 1)


@pytest.mark.parametrize("codings", [("br",), ("gzip", "gzip"), ("gzip",)])
def test_what_is_coded_otherwise_is_no_file(codings: tuple[str, ...]) -> None:
    """Nor what is not what it says."""
    with pytest.raises(BadCoding):
        file_in(b"not gzip", codings, 100)
