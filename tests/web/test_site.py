"""Connections of the daemon's own site, in memory, with a clock that tests turn."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from digsigd import csf
from digsigd.callers.access import Access, CurrentAccess
from digsigd.settings import UploadSettings
from digsigd.signing.decisions import Decisions
from digsigd.signing.rules import CurrentRules, MachineRules, Rules
from digsigd.signing.workroot import WorkRoot
from digsigd.web.request import LINGER_SECONDS
from digsigd.web.site import HEAD_SECONDS, LAST_SECONDS, SPARE_SECONDS, SigningSite
from digsigd.web.upload_state import LINGER_BYTES
from digsigd.web.uploads import Uploads

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Port:
    """A listening port that accepts or not."""

    connected = True

    def __init__(self) -> None:
        self.reading = True
        self.numberAccepts = 100

    def accepts(self) -> bool:
        return self.reading

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False


class Here(Resource):
    """Answers at once, and counts."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def render_GET(self, _: Any) -> bytes:
        self.asked += 1
        return b"here"


class Transport(StringTransport):
    """The client's end of a connection."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.ends = socket.socketpair()

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def turned_away(self) -> bool:
        """Told to come again, and closed."""
        answer = self.value()
        return self.closing() and answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 5\r\n" in answer

    def closing(self) -> bool:
        return bool(self.disconnecting)

    def aborted(self) -> bool:
        return bool(self.disconnected)


class Server:
    """A site with a few connections."""

    def __init__(self, folder: Path, connections: int = 8) -> None:
        self.clock = Clock()
        self.here = Here()
        self.transports: list[Transport] = []
        unused: Any = None
        uploads = Uploads(
            bounds=UploadSettings(),
            access=CurrentAccess(Access(callers={})),
            rules=CurrentRules(Rules(MachineRules(csf.Policy()))),
            root=WorkRoot(folder),
            clock=self.clock,
            in_thread=unused,
            decisions=Decisions(None),
        )
        self.site = SigningSite(self.here, uploads, max_connections=connections)
        self.site.reactor = self.clock
        self.port = Port()
        self.site.listens_on(self.port)

    def connect(self, host: str = "192.0.2.1") -> tuple[Any, Transport]:
        where: IAddress = UNIXAddress(None) if host == "" else IPv4Address("TCP", host, 1)
        transport = Transport(peerAddress=where)
        self.transports.append(transport)
        protocol: Any = self.site.buildProtocol(where)
        protocol.makeConnection(transport)
        return protocol, transport

    def lose(self, *protocols: Any) -> None:
        for protocol in protocols:
            protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    for transport in made.transports:
        for end in transport.ends:
            end.close()


def test_at_the_limit_the_longest_silent_connection_of_the_greediest_address_is_closed(server: Server) -> None:
    """Others of fewer connections, and those that have just come, stay."""
    few = server.connect("192.0.2.7")
    many = [server.connect() for _ in range(4)]
    server.clock.advance(SPARE_SECONDS)
    young = [server.connect() for _ in range(3)]
    assert server.port.accepts()
    assert [transport.turned_away() for _, transport in (*many, few, *young)] == [True] * 4 + [True] + [False] * 3


def test_a_connection_with_a_request_under_way_is_never_closed_for_another(server: Server) -> None:
    """Nobody is accepted until one ends, or becomes silent for long enough."""
    busy = [server.connect(f"192.0.2.{number}") for number in range(10, 17)]
    for protocol, _ in busy:
        protocol.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    server.clock.advance(SPARE_SECONDS)
    last = server.connect("192.0.2.7")
    assert not server.port.accepts()
    server.clock.advance(SPARE_SECONDS / 2)
    assert not server.port.accepts()
    server.lose(last[0])
    assert server.port.accepts()
    assert not any(transport.aborted() or transport.turned_away() for _, transport in (*busy, last))
    server.lose(*(protocol for protocol, _ in busy))
    assert not server.site.channels


def test_room_is_made_by_the_address_that_has_the_most(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if another has been silent for longer."""
    monkeypatch.setattr("digsigd.web.site._CLOSED_AT_ONCE", 1)
    few = server.connect("192.0.2.7")[1]
    server.clock.advance(1)
    many = [server.connect()[1] for _ in range(5)]
    server.clock.advance(SPARE_SECONDS)
    server.connect("192.0.2.8")
    server.connect("192.0.2.9")
    assert sum(one.turned_away() for one in many) == 1
    assert not few.turned_away()


def test_a_port_accepts_no_more_in_a_turn_that_has_brought_a_connection(server: Server) -> None:
    """Twisted would accept as many again as this says before the site knows of the first."""
    assert server.port.numberAccepts == 1
    server.connect()
    assert server.port.numberAccepts == 0
    # What is accepted beyond the limit is a small part of it.
    server.site.max_connections = 1024
    server.site.listens_on(server.port)
    assert server.port.numberAccepts == 8


def test_a_silent_connection_makes_room_once_it_is_old_enough(server: Server) -> None:
    """The port accepts again as soon as it is closed."""
    held = [server.connect() for _ in range(8)]
    assert not server.port.accepts()
    server.clock.advance(SPARE_SECONDS)
    assert all(transport.turned_away() for _, transport in held)
    assert server.port.accepts()
    for protocol, _ in held:
        protocol.connectionLost(Failure(ConnectionAborted()))
    assert not server.site.channels


def test_a_connection_whose_request_is_there_is_not_silent(server: Server) -> None:
    """The daemon was too busy to read it."""
    held = [server.connect()[1] for _ in range(8)]
    held[0].ends[1].send(b"GET / HTTP/1.1\r\n")
    server.clock.advance(SPARE_SECONDS)
    assert [one.turned_away() for one in held] == [False] + [True] * 7


def test_one_address_has_three_quarters_of_the_connections(server: Server) -> None:
    """What is beyond that is told to come again, before it has sent anything, and can read that."""
    for _ in range(6):
        assert server.connect()[1].value() == b""
    protocol, transport = server.connect()
    assert transport.value().startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 5\r\n" in transport.value()
    protocol.dataReceived(GET)
    assert server.here.asked == 0
    assert not transport.closing()
    server.clock.advance(2)
    assert transport.closing()
    protocol.dataReceived(bytes(LINGER_BYTES))
    assert transport.aborted()
    assert server.connect("192.0.2.7")[1].value() == b""


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_clients_of_this_host_are_not_told_apart(server: Server, host: str) -> None:
    """All that come through a proxy or from this machine have the same address."""
    for _ in range(8):
        assert server.connect(host)[1].value() == b""


def test_the_time_for_headers_does_not_begin_anew_with_each_byte(server: Server) -> None:
    """A connection that trickles is answered and closed, a silent one closed."""
    protocol, transport = server.connect()
    silent = server.connect()[1]
    for letter in range(9):
        server.clock.advance(1)
        protocol.dataReceived(b"%d" % letter)
    assert not transport.closing()
    server.clock.advance(HEAD_SECONDS - 9)
    assert transport.closing()
    assert transport.value().startswith(b"HTTP/1.1 408 ")
    assert silent.closing()
    assert silent.value() == b""


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"G"])
def test_the_time_for_later_headers_begins_with_their_first_byte(server: Server, first: bytes) -> None:
    """A connection that is kept open may be silent for longer."""
    protocol, transport = server.connect()
    protocol.dataReceived(GET)
    server.clock.advance(HEAD_SECONDS * 2)
    assert not transport.closing()
    protocol.dataReceived(first)
    server.clock.advance(HEAD_SECONDS - 1)
    protocol.dataReceived(b"ET")
    assert not transport.closing()
    server.clock.advance(1)
    assert transport.closing()


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP, chunked", b"x-compress", b"deflate"])
def test_a_compressed_transfer_is_refused_with_the_reason(server: Server, coding: bytes) -> None:
    """What follows is neither parsed nor answered, and the client has a moment to read the answer."""
    protocol, transport = server.connect()
    protocol.dataReceived(b"POST / HTTP/1.1\r\nTransfer-Encoding: %s\r\nHost: x\r\n\r\nbody\r\n" % coding + GET)
    answer = transport.value()
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"only uncompressed bodies" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not transport.closing()
    server.clock.advance(LINGER_SECONDS)
    assert transport.closing()
    assert server.here.asked == 0


def test_the_body_of_what_is_no_upload_has_the_time_of_its_headers(server: Server) -> None:
    """A byte now and then does not keep the connection either."""
    protocol, transport = server.connect()
    protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
    for _ in range(10):
        assert not transport.closing()
        server.clock.advance(1)
        protocol.dataReceived(b"x")
    assert transport.closing()


def test_each_pipelined_request_waits_for_a_turn(server: Server) -> None:
    """One is answered as it comes, the others one in each turn of the reactor; nothing is read meanwhile."""
    protocol, transport = server.connect()
    protocol.dataReceived(GET * 3)
    assert server.here.asked == 1
    assert transport.producerState == "paused"
    protocol._turn.cancel()
    protocol._take_turn()
    assert server.here.asked == 2
    server.clock.advance(0)
    assert server.here.asked == 3
    assert transport.producerState == "producing"
    protocol.dataReceived(GET)
    assert server.here.asked == 4


def test_a_pipeline_ends_with_its_connection(server: Server) -> None:
    """No turn is left of a connection that is lost."""
    protocol, _ = server.connect()
    protocol.dataReceived(GET * 3)
    server.lose(protocol)
    server.clock.advance(0)
    assert server.here.asked == 1
    assert not server.clock.getDelayedCalls()


def test_pieces_that_wait_are_joined(server: Server) -> None:
    """Bytes one at a time do not cost the square of their number."""
    protocol, _ = server.connect()
    protocol._handlingRequest = True
    protocol.setRawMode()
    for _ in range(1000):
        protocol.dataReceived(b"x")
    assert len(protocol._dataBuffer) <= 64
    assert b"".join(protocol._dataBuffer) == b"x" * 1000


def test_a_client_that_does_not_read_its_last_answer_is_cut_off(server: Server) -> None:
    """A connection that closes does not wait forever."""
    protocol, transport = server.connect()
    protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    assert transport.closing()
    assert not transport.aborted()
    server.clock.advance(LAST_SECONDS)
    assert transport.aborted()


def test_a_stop_waits_for_clients_that_have_just_connected(server: Server) -> None:
    """Until they have an answer or two seconds have passed; not for those that are idle after one."""
    idle, _ = server.connect()
    idle.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    server.clock.advance(0)
    assert Deferred.fromCoroutine(server.site.answer_last()).called
    asks, transport = server.connect()
    server.connect()
    closing = Deferred.fromCoroutine(server.site.answer_last())
    server.clock.pump([0.25] * 4)
    asks.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transport.value().endswith(b"here")
    server.clock.pump([0.125] * 7)
    assert not closing.called
    server.clock.pump([0.125] * 2)
    assert closing.called
