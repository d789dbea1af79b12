"""Streams that are hashed in threads."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from digsigd.errors import DigsigError
from digsigd.hab import Block
from digsigd.signing.block_sums import expected
from digsigd.signing.hashing import MOST_WAITING, SMALL, Hashing
from digsigd.signing.sums import CHUNK, ChangedError, CheckedFile, Unchecked, digest_blocks
from digsigd.testing import TrialPki
from tests.helpers.turns import Turns

DATA = os.urandom(5 * CHUNK + 1234)


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


PLACES = st.lists(
    st.one_of(st.integers(0, len(DATA)), st.sampled_from([0, SMALL, SMALL + 1, 2 * CHUNK, len(DATA)])),
    min_size=2, max_size=8,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(PLACES, min_size=1, max_size=4), st.integers(1000, 3 * CHUNK))
def test_digests_of_blocks_come_from_the_stream(commands: list[list[int]], piece: int) -> None:
    """Those of several commands, in whatever pieces; the file is not read for them."""
    made: Any = Turns()
    blocks = [tuple(zip(one[::2], one[1::2], strict=False)) for one in map(sorted, commands)]
    extents = [tuple((start, end - start) for start, end in one) for one in blocks]
    stream = Hashing(made, made).stream(lambda: extents)
    for start in range(0, len(DATA), piece):
        stream.update(DATA[start : start + piece])
        if start % 2:
            made.run()
    made.run()
    file = CheckedFile(-1, stream.end())
    for one, pieces in zip(extents, blocks, strict=True):
        digest = hashlib.sha256(b"".join(DATA[start:end] for start, end in pieces)).digest()
        assert digest_blocks("sha256", [Block(0, *extent) for extent in one], [file]) == digest


def test_blocks_behind_the_end_have_no_digest(hashing: Hashing, turns: Turns) -> None:
    """Nor have blocks that nobody expected."""
    extents = [((0, len(DATA) + 1), (len(DATA) + 1, 1)), ((5, len(DATA)),), ((5, 10),)]
    stream = hashing.stream(lambda: extents)
    stream.update(DATA[:CHUNK])
    stream.update(DATA[CHUNK:])
    turns.run()
    sums = stream.end()
    found = [sums.of_blocks([Block(0, *extent) for extent in one]) for one in extents]
    assert found == [None, None, hashlib.sha256(DATA[5:15]).digest()]
    assert sums.of_blocks([Block(0, 6, 10)]) is None


@pytest.mark.parametrize(
    ("blocks", "found"),
    [
        ('0x1000 0x0 0x2000 "spl.bin"', []),
        ('0x1000 0x4 0x2000 "spl.bin"', [((4, 0x2000),)]),
        ('0x1000 0x0 0x2000 "spl.bin", 0x9000 0x2000 8 "/x/spl.bin"', [((0, 0x2000), (0x2000, 8))]),
        ('0x1000 0x40 0x20 "spl.bin", 0x9000 0x0 8 "spl.bin"', []),
        ('0x1000 0x0 0x20 "spl.bin", 0x9000 0x10 0x20 "spl.bin"', []),
        ('0x1000 0x0 0x20 "spl.bin", 0x9000 0x40 0x20 "other"', []),
        ('0x1000 nonsense "spl.bin"', []),
    ],
)
def test_what_a_description_will_sign(pki: TrialPki, blocks: str, found: list[Any]) -> None:
    """Of one file, in its order; the digest of its beginning is known anyway."""
    text = pki.csf(blocks)
    assert expected(text.encode(), "spl.bin") == found
    assert expected((text + "#" * (16 << 10)).encode(), "spl.bin") == []


@pytest.mark.parametrize("changed", [False, True])
def test_what_is_read_too_early_is_compared_later(
    hashing: Hashing, turns: Turns, tmp_path: Path, changed: bool
) -> None:
    """It does not wait for its digest, and a change is found once that is known; what is known is compared at once."""
    stream = hashing.stream()
    for start in range(0, len(DATA), CHUNK):
        stream.update(DATA[start : start + CHUNK])
    data = bytearray(DATA)
    data[-1] ^= changed
    (tmp_path / "file").write_bytes(data)
    unchecked = Unchecked()
    file = CheckedFile(os.open(tmp_path / "file", os.O_RDONLY), stream.end(), unchecked)
    assert file.read(5, 10) == DATA[5:15]
    assert file.read(len(DATA) - 9, 9) == data[-9:]
    turns.run()
    with pytest.raises(ChangedError) if changed else nullcontext():
        unchecked.check()
    with pytest.raises(ChangedError) if changed else nullcontext():
        file.read(0, 1)
        file.read(len(DATA) - 9, 9)


def test_who_waits_for_digests_that_cannot_be_computed_is_told(hashing: Hashing, turns: Turns) -> None:
    """Nobody waits for ever, nothing more of the stream is taken, and other streams have its room."""

    def no_memory() -> list[Any]:
        raise MemoryError

    stream, called = hashing.stream(no_memory), []
    stream.update(DATA[:CHUNK])
    while not hashing.is_full:
        stream.update(DATA[CHUNK:])
    hashing.when_room(lambda: called.append(True))
    with capturedLogs() as events:
        turns.run()
    assert [one["log_failure"].type for one in events] == [MemoryError]
    stream.update(DATA)
    sums = stream.end()
    assert (hashing.waiting, called, turns.waiting, stream.is_behind) == (0, [True], [], False)
    for asks in (lambda: sums.sha256, lambda: sums.of_blocks([Block(0, 5, 10)]), lambda: sums.check(1, DATA[:CHUNK])):
        with pytest.raises(DigsigError, match="could not compute"):
            asks()
    assert sums.state(1).digest() == hashlib.sha256(DATA[:CHUNK]).digest()


def test_who_waits_already_is_told_as_well(hashing: Hashing, turns: Turns) -> None:
    """The failure wakes a thread that waits."""

    def wrong() -> list[Any]:
        raise RuntimeError

    stream = hashing.stream(wrong)
    stream.update(DATA)
    sums, told = stream.end(), []

    def ask() -> None:
        with pytest.raises(DigsigError):
            told.append(sums.sha256)
        told.append("failed")

    waits = threading.Thread(target=ask, daemon=True)
    waits.start()
    with capturedLogs():
        turns.run()
    waits.join(60)
    assert told == ["failed"]


def test_a_small_stream_keeps_no_copy_of_its_bytes(hashing: Hashing) -> None:
    """Not while it waits to be signed, as many may."""
    stream = hashing.stream(lambda: [((4, 8),)])
    before = sys.getsizeof(stream._head)
    for _ in range(1000):
        stream.update(DATA[:2])
    assert sys.getsizeof(stream._head) < before + 3000
    assert stream.end().of_blocks([Block(0, 4, 8)]) is None
    assert sys.getsizeof(stream._head) <= before


def test_a_file_that_was_cut_is_noticed_before_its_digests_are_known(hashing: Hashing, tmp_path: Path) -> None:
    """What is missing is not waited for."""
    stream = hashing.stream()
    stream.update(DATA)
    (tmp_path / "file").write_bytes(DATA[: CHUNK + 5])
    file = CheckedFile(os.open(tmp_path / "file", os.O_RDONLY), stream.end(), Unchecked())
    for offset in (CHUNK, 2 * CHUNK):
        with pytest.raises(ChangedError):
            file.read(offset, 10)
