"""Digests of large streams, computed in threads while the stream goes on, with bounded memory.

A processor without instructions for SHA-256 hashes 400 MB/s, and the reactor receives three times as much. So pieces of
a large stream wait for a thread, in order; what is hashed are the bytes that arrived, never those of the file. The
stream may end before its digests are known: who needs them waits for them (`Sums.state`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger, LogLevel
from twisted.python.threadpool import ThreadPool

from digsigd.signing.ahab_sums import ContainerSum
from digsigd.signing.block_sums import BlockSum, Extents
from digsigd.signing.sums import CHUNK, StreamSum, Sums

# What waits for threads in all, in bytes: from here on, no more is received. It goes on at half of it.
MOST_WAITING = 8 << 20
# The size in bytes up to which a stream is hashed where it is received: it is over before a thread has begun.
SMALL = CHUNK
# After how many bytes a thread takes up another stream.
_TURN = 1 << 20
# Returns what a stream is hashed for besides itself: blocks, and images of containers.
Expects: TypeAlias = Callable[[], Sequence[Extents | ContainerSum]]


class Hashing:
    """The threads that hash, and how much waits for them. Used on the reactor's thread, except `hashed`."""

    def __init__(self, reactor: IReactorFromThreads, pool: ThreadPool) -> None:
        self._reactor = reactor
        self._pool = pool
        self._lock = threading.Lock()
        self._paused: list[Callable[[], None]] = []
        self.waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be received."""
        return self.waiting >= MOST_WAITING

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once on the reactor's thread when half of what may wait is hashed."""
        with self._lock:
            self._paused.append(resume)
        self.hashed(0)

    def stream(self, expects: Expects | None = None) -> HashedStream:
        """Return the digest of a new stream. `expects` returns of what it takes digests besides, in a thread."""
        return HashedStream(self, expects)

    def enter(self, size: int) -> None:
        """Count bytes that wait."""
        with self._lock:
            self.waiting += size

    def hashed(self, size: int) -> None:
        """Stop counting bytes that are hashed. Called in any thread."""
        with self._lock:
            self.waiting -= size
            if self.waiting > MOST_WAITING // 2 or not self._paused:
                return
            paused, self._paused = self._paused, []
        for resume in paused:
            self._reactor.callFromThread(resume)

    def work(self, turn: Callable[[], None]) -> None:
        """Call `turn` in a thread, or here when there are no threads any more."""
        if self._pool.joined:
            turn()
        else:
            self._pool.callInThread(turn)


class HashedStream(StreamSum):
    """The running digest of a stream, of which all but the beginning is hashed in threads."""

    log = Logger()

    def __init__(self, hashing: Hashing, expects: Expects | None) -> None:
        super().__init__()
        self._hashing = hashing
        self._waits: deque[bytes] = deque()
        # Whether a thread works on this stream, or will; its pieces are hashed by one thread at a time.
        self._busy = False
        self._received = 0
        self._ended = False
        self._expects = expects
        # The beginning, until the blocks are known.
        self._head = bytearray()
        self._block_sums: list[BlockSum] = []
        self._container_sums: list[ContainerSum] = []

    @property
    def is_behind(self) -> bool:
        """Whether bytes wait to be hashed."""
        return self._busy

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._received += len(data)
        if self._received <= SMALL:
            super().update(data)
            if self._expects is not None:
                self._head += data
            return
        piece = bytes(data)
        with self.changed:
            if self.failed:
                return
            self._waits.append(piece)
            self._hashing.enter(len(piece))
            if self._busy:
                return
            self._busy = True
        self._hashing.work(self._turn)

    def end(self) -> Sums:
        """Return the digests, once the stream has ended. Some of them may still have to be waited for."""
        with self.changed:
            self._ended = True
            if self._received <= SMALL:
                self._expects, self._head = None, bytearray()
            if not self._busy and not self.failed:
                self._finish()
            return Sums(self._received, self)

    def _turn(self) -> None:
        """Hash what waits, or as much as one turn may."""
        try:
            self._hash_some()
        except BaseException:  # noqa: BLE001 - whatever it is, who waits for the digest has to be told
            self._fail()
            self.log.failure("cannot compute the digest of an artifact", level=LogLevel.error, event="unexpected")

    def _fail(self) -> None:
        """Give up: nobody waits for these digests any longer, nor for what is left to hash."""
        with self.changed:
            self.failed, self._busy = True, False
            left = sum(map(len, self._waits))
            self._waits.clear()
            self.changed.notify_all()
        self._hashing.hashed(left)

    def _hash_some(self) -> None:
        if self._expects is not None:
            self._expect(self._expects)
        done = 0
        while True:
            with self.changed:
                if not self._waits:
                    self._busy = False
                    if self._ended:
                        self._finish()
                    self.changed.notify_all()
                    return
                if done >= _TURN:
                    break
                piece = self._waits.popleft()
            try:
                self._hash(memoryview(piece))
            finally:
                self._hashing.hashed(len(piece))
            done += len(piece)
            with self.changed:
                self.changed.notify_all()
        self._hashing.work(self._turn)

    def _finish(self) -> None:
        digests = ((one.extents, one.digest(self.size)) for one in self._block_sums)
        self.blocks = {extents: digest for extents, digest in digests if digest is not None}
        self.images = {part: digest for one in self._container_sums for part, digest in one.digests().items()}
        super()._finish()

    def _expect(self, expects: Expects) -> None:
        """Take the digests of blocks from the beginning of the stream on."""
        self._expects = None
        for what in expects():
            if isinstance(what, ContainerSum):
                self._container_sums.append(what)
            else:
                self._block_sums.append(BlockSum(what, SMALL))
        head, self._head = self._head, bytearray()
        for container in self._container_sums:
            container.update(0, memoryview(head))
        for one in self._block_sums:
            one.update(0, memoryview(head))

    def _hash(self, view: memoryview) -> None:
        """Hash the next bytes, for the whole stream and for blocks."""
        while view:
            joins = min((one.joins for one in self._block_sums if one.joins > self.size), default=None)
            part = view if joins is None else view[: joins - self.size]
            offset = self.size
            super().update(part)
            for container in self._container_sums:
                container.update(offset, part)
            for one in self._block_sums:
                one.update(offset, part)
                if one.joins == self.size:
                    one.join(self._running)
            view = view[len(part) :]
