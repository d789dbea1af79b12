"""An answer that is a file: sent in pieces, as the client reads, and cut off if that or the file goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from digsigd.signing.signed_file import SignedFile
from digsigd.signing.sums import CHUNK, StreamSum
from digsigd.web.sending import Sending

SIZE = 3 * CHUNK + 5


class Channel:
    """A connection, which can be aborted."""

    def __init__(self) -> None:
        self.transport = self
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Request:
    """A request that pauses its producer after each `full` pieces, as a transport does."""

    def __init__(self, full: int = 1) -> None:
        self.channel: Channel | None = Channel()
        self.full = full
        self.written: list[bytes] = []
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert verifyObject(IPushProducer, producer)
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) % self.full == 0:
            self.producer.pauseProducing()


class Threads:
    """Calls at once, and notes what was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self.calls += 1
        try:
            return succeed(function(*args))
        except Exception as error:  # noqa: BLE001
            return fail(error)


class Scene:
    """A file on its way to a client."""

    def __init__(self, folder: Path, size: int = SIZE, full: int = 1) -> None:
        self.path = folder / "file"
        self.data = os.urandom(size)
        self.path.write_bytes(self.data)
        stream = StreamSum()
        stream.update(self.data)
        self.file = SignedFile(os.open(self.path, os.O_RDONLY), stream.end(), ())
        self.request, self.clock, self.threads = Request(full), Clock(), Threads()
        self.channel = Channel()
        self.request.channel = self.channel
        self.ended: list[Any] = []

    def begin(self) -> Deferred[None]:
        threads: Any = self.threads
        sending = Sending(self.request, self.file, in_thread=threads, clock=self.clock, idle=10, longest=100, who={})
        result = Deferred.fromCoroutine(sending.send())
        result.addBoth(self.ended.append)
        return result

    def reads(self) -> None:
        """The client has read what there was."""
        self.request.producer.resumeProducing()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_it_goes_on_when_the_client_has_read(scene: Scene) -> None:
    """A piece at a time, and nothing is read before it is needed."""
    scene.begin()
    for number in range(1, 4):
        assert len(scene.request.written) == number == scene.threads.calls
        scene.clock.advance(9)
        scene.reads()
    assert scene.ended == []
    scene.reads()
    assert b"".join(scene.request.written) == scene.data
    assert scene.ended == [None]
    assert scene.request.producer is None
    assert scene.clock.getDelayedCalls() == []


def test_a_small_file_needs_no_thread(tmp_path: Path) -> None:
    """One that is a chunk at most."""
    scene = Scene(tmp_path, CHUNK, full=9)
    scene.begin()
    assert scene.ended == [None]
    assert scene.request.written == [scene.data]
    assert scene.threads.calls == 0


def test_a_client_that_does_not_read_is_cut_off(scene: Scene) -> None:
    """After so long without progress, not in all; each piece that it reads begins the time anew."""
    scene.begin()
    scene.clock.advance(9)
    scene.reads()
    scene.clock.advance(9.5)
    assert not scene.channel.aborted
    scene.clock.advance(1)
    assert scene.channel.aborted


def test_a_client_that_reads_slowly_is_cut_off(tmp_path: Path) -> None:
    """In all, it has so long."""
    scene = Scene(tmp_path, 40 * CHUNK)
    scene.begin()
    for _ in range(11):
        scene.clock.advance(9)
        scene.reads()
    assert not scene.channel.aborted
    scene.clock.advance(2)
    assert scene.channel.aborted


def test_a_file_that_has_changed_is_not_sent_to_its_end(scene: Scene) -> None:
    """The connection is aborted before the first wrong piece, and nothing is written behind that."""
    with scene.path.open("r+b") as file:
        file.seek(CHUNK + 3)
        file.write(bytes([scene.data[CHUNK + 3] ^ 1]))
    sending = scene.begin()
    scene.reads()
    assert scene.request.written == [scene.data[:CHUNK]]
    assert scene.channel.aborted
    assert scene.ended == []
    # As Klein does when the connection is lost.
    scene.request.channel = None
    sending.cancel()
    assert scene.ended[0].check(CancelledError)
    assert scene.clock.getDelayedCalls() == []


def test_a_connection_that_is_lost_ends_it(scene: Scene) -> None:
    """While it waits for the client; nothing is left that would happen later."""
    sending = scene.begin()
    scene.request.producer.stopProducing()
    scene.request.channel = None
    sending.cancel()
    assert scene.ended[0].check(CancelledError)
    assert scene.clock.getDelayedCalls() == []
    assert not scene.channel.aborted
