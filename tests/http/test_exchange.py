"""One exchange, on a clock and over connections that are not there: what bounds it, what ends it, what is left."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.web.client import HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from zope.interface import implementer

from digsigd.http.agent import bounded_agent
from digsigd.http.body import TooLong
from digsigd.http.causes import Cause, cause_of
from digsigd.http.connection import HEAD_BYTES
from digsigd.http.deadline import Stalled
from digsigd.http.exchange import Bounds, Exchange, IUpload, OwnExchange, Response
from tests.http.clocked import Wires

BOUNDS = Bounds(body=1000, other_body=10, head=60.0, idle=30.0)
URL = "http://host.example:81/path"


@implementer(IUpload)
class Letters:
    """An upload of as many letters as it is told to, when it is told to."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.sent = 0
        self.closed = False
        self.pretended = False
        self._consumer: Any = None
        self._done: Deferred[None] = Deferred()

    @property
    def over(self) -> bool:
        return self.sent == self.length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        return self._done

    def send(self, count: int) -> None:
        self.sent += count
        self._consumer.write(b"a" * count)
        if self.over:
            self._done.callback(None)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def pretend(self) -> None:
        self.pretended = True
        self._consumer.write(b"z" * (self.length - self.sent))
        self._done.callback(None)


class Case:
    """An exchange, its clock and its wires, and what came of it."""

    def __init__(self, *, upload: Letters | None = None, method: str = "", **wires: Any) -> None:
        clock: Any = Clock()
        self.clock: Clock = clock
        self.wires = Wires(clock, **wires)
        self.upload = upload
        self.exchange = OwnExchange(self.wires, reactor=clock, bounds=BOUNDS)
        self.asking = self.exchange.ask(method or ("POST" if upload else "GET"), URL, Headers(), upload)
        self.results: list[Any] = []
        self.asking.addBoth(self.results.append)

    @property
    def wire(self) -> Any:
        (wire,) = self.wires.made
        return wire

    @property
    def response(self) -> Response:
        (response,) = self.results
        assert isinstance(response, Response), response
        return response

    @property
    def error(self) -> BaseException:
        (failure,) = self.results
        error: BaseException = failure.value
        return error

    def check_nothing_is_left(self) -> None:
        """The connections are closed, whatever was not sent, and nothing is to happen later."""
        assert all(wire.disconnected or wire.closed_by_server for wire in self.wires.made)
        self.clock.advance(0)
        assert all(wire.lost for wire in self.wires.made)
        assert self.clock.getDelayedCalls() == []
        assert self.upload is None or self.upload.closed


def test_the_whole_answer_is_given_and_the_connection_closed() -> None:
    """Whatever its status, in as many pieces as it comes."""
    case = Case()
    assert case.wire.written.startswith(b"GET /path HTTP/1.1\r\n")
    assert b"Host: host.example:81\r\n" in case.wire.written
    assert b"Accept-Encoding: identity\r\n" in case.wire.written
    for byte in b"HTTP/1.1 404 No\r\nContent-Length: 3\r\nX-A: b\r\n\r\nyes":
        assert case.results == []
        case.wire.says(bytes([byte]))
    assert (case.response.status, case.response.body) == (404, b"yes")
    assert case.response.headers.getRawHeaders("x-a") == ["b"]
    case.check_nothing_is_left()


@pytest.mark.parametrize("said", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"])
def test_an_answer_without_a_body_is_over_with_its_headers(said: bytes) -> None:
    """Whatever its length is said to be."""
    case = Case()
    case.wire.says(said)
    assert case.response.body == b""
    case.check_nothing_is_left()


def test_codings_are_told_and_cookies_are_not() -> None:
    """The body is as it came."""
    case = Case()
    case.wire.says(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: Identity, GZIP\r\nContent-Encoding: br\r\nSet-Cookie: a=b\r\n"
        b"Content-Length: 2\r\n\r\nab"
    )
    assert (case.response.body, case.response.codings) == (b"ab", ("gzip", "br"))
    assert not case.response.headers.hasHeader("set-cookie")


def test_a_body_of_200_that_is_too_long_is_not_read() -> None:
    """Where its length says so, and where it just goes on."""
    case = Case()
    case.wire.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
    assert isinstance(case.error, TooLong)
    case.check_nothing_is_left()
    case = Case()
    case.wire.says(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 1000)
    assert case.results == []
    case.wire.says(b"a")
    assert isinstance(case.error, TooLong)
    case.check_nothing_is_left()


def test_a_body_may_be_far_longer_than_headers() -> None:
    """It is not counted with them."""
    clock: Any = Clock()
    wires = Wires(clock)
    bounds = Bounds(body=10 * HEAD_BYTES, other_body=0, head=1, idle=1)
    asking = OwnExchange(wires, reactor=clock, bounds=bounds).ask("GET", URL, Headers())
    results: list[Any] = []
    asking.addBoth(results.append)
    wires.made[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % bounds.body)
    for _ in range(10):
        wires.made[0].says(bytes(HEAD_BYTES))
    assert len(results[0].body) == bounds.body


def test_only_the_beginning_of_another_body_is_read() -> None:
    """It is the answer."""
    case = Case()
    case.wire.says(b"HTTP/1.1 500 No\r\nContent-Length: 10000\r\n\r\n" + b"a" * 11)
    assert case.response.body == b"a" * 11
    case.check_nothing_is_left()


def test_a_request_that_stands_still_is_given_up() -> None:
    """Before there is a connection, and before there is an answer."""
    for wait in (True, False):
        case = Case(wait=wait)
        case.clock.advance(59.9)
        assert case.results == []
        case.clock.advance(0.2)
        assert isinstance(case.error, Stalled)
        assert str(case.error) == "the request stalled for 60 s"
        case.check_nothing_is_left()


def test_an_upload_that_stands_still_is_given_up() -> None:
    """So many seconds after a part of it was sent."""
    upload = Letters(3)
    case = Case(upload=upload)
    for _ in range(2):
        case.clock.advance(59.9)
        upload.send(1)
    assert case.results == []
    case.clock.advance(60)
    assert str(case.error) == "the upload stalled for 60 s"
    case.check_nothing_is_left()


def test_a_server_may_think_about_a_whole_upload_for_long() -> None:
    """How long is for whoever asks."""
    upload = Letters(3)
    case = Case(upload=upload)
    upload.send(3)
    case.clock.advance(1e6)
    assert case.results == []
    case.wire.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    assert case.response.body == b"a"
    case.check_nothing_is_left()


def test_an_answer_that_stands_still_is_given_up() -> None:
    """In the middle of its body, so many seconds after a piece."""
    case = Case()
    case.wire.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(3):
        case.clock.advance(29.9)
        case.wire.says(b"a")
    assert case.results == []
    case.clock.advance(30)
    assert str(case.error) == "the answer stalled for 30 s"
    case.check_nothing_is_left()


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_answer_before_the_upload_is_over_mutes_it(pieces: int) -> None:
    """What is left of the upload is never sent, and the answer is heard."""
    upload = Letters(1 << 20)
    case = Case(upload=upload)
    upload.send(5)
    head, body = b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\n", b"why"
    for piece in [head + body] if pieces == 1 else [head, body]:
        case.wire.says(piece)
    assert (case.response.status, case.response.body) == (403, b"why")
    assert upload.pretended
    assert case.wire.written.endswith(b"\r\n\r\naaaaa")
    case.check_nothing_is_left()


@pytest.mark.parametrize("when", ["connecting", "sending", "waiting", "reading"])
def test_cancelling_ends_it_at_once(when: str) -> None:
    """Whatever is going on; what Twisted makes of it is not heard."""
    upload = Letters(10)
    case = Case(upload=upload, wait=when == "connecting")
    if when != "connecting":
        upload.send(5 if when == "sending" else 10)
    if when == "reading":
        case.wire.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")
    case.asking.cancel()
    assert isinstance(case.error, CancelledError)
    case.check_nothing_is_left()


def test_a_connection_that_comes_too_late_is_closed() -> None:
    """Where connecting does not end with being cancelled."""
    case = Case(wait=True)
    connecting, _ = case.wires.waiting[0]
    case.asking.cancel()
    assert isinstance(case.error, CancelledError)
    connecting.called = False  # as if it had not heard
    case.wires.connect_now()
    assert case.wire.disconnected
    case.check_nothing_is_left()


def test_a_connection_that_breaks_is_told() -> None:
    """With what Twisted says."""
    case = Case()
    case.wire.closes()
    assert isinstance(case.error, ResponseFailed)
    assert cause_of(case.error)[0] is Cause.CLOSED
    case.check_nothing_is_left()
    case = Case(error=OSError("no way"))
    assert str(case.error) == "no way"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_headers_without_an_end_are_not_read(start: bytes) -> None:
    """Nor those of 1xx answers before it; an upload that goes on meanwhile changes nothing."""
    line = b"X: yyyyyyyyyyyyyyyyyy\r\n" if start else b"HTTP/1.1 100 Continue\r\n\r\n"
    upload = Letters(1 << 20)
    case = Case(upload=upload)
    case.wire.says(start)
    said = len(start)
    while not case.wire.disconnected:
        assert said <= HEAD_BYTES
        upload.send(1)
        case.wire.says(line)
        said += len(line)
    assert said > HEAD_BYTES
    case.clock.advance(0)
    assert cause_of(case.error)[0] is Cause.HEAD_TOO_LONG
    case.check_nothing_is_left()


def test_connections_that_are_kept_are_used_again() -> None:
    """Their headers are counted for each request, also where answers have no body."""
    clock: Any = Clock()
    wires = Wires(clock)
    agent = bounded_agent(wires, clock, HTTPConnectionPool(clock))
    # Together far more than one may have.
    for said in (b"HTTP/1.1 304 No\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n") * 3:
        asking = Exchange(agent, reactor=clock, bounds=BOUNDS).ask("GET", URL, Headers())
        (wire,) = wires.made
        # Twisted's parser takes lines of up to 16 KiB.
        for line in (said, *[b"X: " + b"y" * 10_000 + b"\r\n"] * 3, b"\r\n"):
            wire.says(line)
        results: list[Any] = []
        asking.addBoth(results.append)
        assert isinstance(results[0], Response), results
        assert not wire.disconnecting


def test_a_kept_connection_is_closed_where_its_request_is_cancelled() -> None:
    """Nobody else gets its answer."""
    clock: Any = Clock()
    wires = Wires(clock)
    agent = bounded_agent(wires, clock, HTTPConnectionPool(clock))
    for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na"):
        asking = Exchange(agent, reactor=clock, bounds=BOUNDS).ask("GET", URL, Headers())
        wire = wires.made[-1]
        wire.says(said)
        results: list[Any] = []
        asking.addBoth(results.append)
        asking.cancel()
        assert isinstance(results[0].value, CancelledError)
        clock.advance(0)
        assert wire.lost
    assert len(wires.made) == 2
    assert clock.getDelayedCalls() == []
