"""Streams that are hashed in threads."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.python.threadpool import ThreadPool

from digsigd.signing.hashing import MOST_WAITING, SMALL, Hashing
from digsigd.signing.sums import CHUNK

DATA = os.urandom(5 * CHUNK + 1234)


class Turns:
    """A pool whose threads work when a test says so, and a reactor that calls at once."""

    joined = False

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def callInThread(self, turn: Callable[[], None]) -> None:
        self.waiting.append(turn)

    def callFromThread(self, function: Callable[[], None]) -> None:
        function()

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def hashing(turns: Turns) -> Hashing:
    made: Any = turns
    return Hashing(made, made)


@pytest.fixture
def threaded() -> Iterator[Hashing]:
    """With two real threads."""
    pool = ThreadPool(0, 2)
    pool.start()
    reactor: Any = Turns()
    yield Hashing(reactor, pool)
    pool.stop()


def test_digests_of_many_streams_are_those_of_their_bytes(threaded: Hashing) -> None:
    """Whatever the threads do at the same time, in whatever pieces, before and after the stream ends."""
    sizes = [0, 1, SMALL, SMALL + 1, 2 * CHUNK, len(DATA)]
    streams = [(size, threaded.stream()) for size in sizes * 3]
    for start in range(0, len(DATA), 50_000):
        for size, stream in streams:
            if start < size:
                stream.update(DATA[start : min(size, start + 50_000)])
    ended = [(size, stream.end()) for size, stream in streams]
    for size, sums in ended:
        assert (sums.size, sums.sha256) == (size, hashlib.sha256(DATA[:size]).hexdigest())
        for number in range(size // CHUNK):
            assert sums.state(number).digest() == hashlib.sha256(DATA[: number * CHUNK]).digest()
    assert threaded.waiting == 0


def test_a_small_stream_takes_no_thread(hashing: Hashing, turns: Turns) -> None:
    """It is hashed where it is received."""
    stream = hashing.stream()
    stream.update(DATA[:SMALL])
    assert not stream.is_behind
    assert not turns.waiting
    assert stream.end().sha256 == hashlib.sha256(DATA[:SMALL]).hexdigest()


def test_who_needs_a_digest_waits_for_it_alone(hashing: Hashing, turns: Turns) -> None:
    """The beginning of a stream is known while its end still waits."""
    stream = hashing.stream()
    stream.update(DATA[:CHUNK])
    stream.update(DATA[CHUNK:])
    sums = stream.end()
    assert sums.state(1).digest() == hashlib.sha256(DATA[:CHUNK]).digest()
    found: list[str] = []
    waits = threading.Thread(target=lambda: found.append(sums.sha256))
    waits.start()
    assert not found
    turns.run()
    waits.join()
    assert found == [hashlib.sha256(DATA).hexdigest()]


def test_threads_take_turns(hashing: Hashing, turns: Turns) -> None:
    """A stream with much to hash does not keep another from its first turn."""
    first, second = hashing.stream(), hashing.stream()
    for _ in range(4):
        first.update(DATA)
    second.update(DATA)
    turns.waiting.pop(0)()
    turns.waiting.pop(0)()
    assert first.is_behind
    assert not second.is_behind
    turns.run()
    assert first.end().sha256 == hashlib.sha256(DATA * 4).hexdigest()


def test_what_waits_is_bounded(hashing: Hashing, turns: Turns) -> None:
    """Who sees that it is full is called when half of it is hashed."""
    stream, called = hashing.stream(), []
    while not hashing.is_full:
        stream.update(DATA)
    hashing.when_room(lambda: called.append(hashing.waiting))
    assert not called
    turns.run()
    assert len(called) == 1
    assert MOST_WAITING // 2 - len(DATA) < called[0] <= MOST_WAITING // 2
    hashing.when_room(lambda: called.append(-1))
    assert called[1:] == [-1]
