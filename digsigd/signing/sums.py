"""Digests of a file, taken from the stream that brings it, with which every later read of the file is checked.

The file is in a directory that cst can reach. So what is read from it again is not believed: the SHA-256 of the stream
is kept at the end of each chunk, and bytes that are read again must continue the one before to the one behind. A block
that begins at the start of the file continues a kept SHA-256, so that most of the file need not be read again.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import IO, Any, BinaryIO

from digsigd.hab import Block
from digsigd.hab import digest_blocks as digest_whole

# The distance of kept digests in bytes. Each takes half a KiB of memory: 2 MiB for an artifact of 1 GiB.
CHUNK = 256 << 10


class ChangedError(Exception):
    """The file is not what was sent."""


class StreamSum:
    """The running digest of a stream. `changed` is notified when there is another digest."""

    def __init__(self) -> None:
        self.size = 0
        self.changed = threading.Condition()
        self._running = hashlib.sha256()
        self._states = [self._running.copy()]

    @property
    def is_behind(self) -> bool:
        """Whether bytes wait to be hashed."""
        return False

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while view:
            piece = view[: CHUNK - self.size % CHUNK]
            self._running.update(piece)
            self.size += len(piece)
            view = view[len(piece) :]
            if self.size % CHUNK == 0:
                self._states.append(self._running.copy())

    def end(self) -> Sums:
        """Return the digests, once the stream has ended."""
        if self.size % CHUNK:
            self._states.append(self._running)
        return Sums(self.size, self._states, self.changed)


class Sums:
    """What is known of a file from its stream: `size` in bytes, and the SHA-256 up to the end of each chunk.

    `states` may still grow, with `changed` notified, until the whole stream is hashed.
    """

    def __init__(self, size: int, states: Sequence[Any], changed: threading.Condition) -> None:
        self.size = size
        self._states = states
        self._changed = changed

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, as hexadecimal digits. Blocks until it is known."""
        digest: str = self.state(-(-self.size // CHUNK)).hexdigest()
        return digest

    def state(self, number: int) -> Any:
        """Return the SHA-256 up to the end of so many chunks, not to be updated. Blocks until it is known."""
        if len(self._states) <= number:
            with self._changed:
                self._changed.wait_for(lambda: len(self._states) > number)
        return self._states[number]


class CheckedFile:
    """An open file whose contents are compared with its `Sums` at each read. For one thread at a time."""

    def __init__(self, descriptor: int, sums: Sums) -> None:
        self.size = sums.size
        self._descriptor = descriptor
        self._sums = sums
        self._number = -1
        self._chunk = b""

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`, fewer at the end of the file.

        Raises `ChangedError` if they are not those of the stream, and `OSError` if they cannot be read.
        """
        pieces, end = [], min(offset + length, self.size)
        while offset < end:
            number, start = divmod(offset, CHUNK)
            if number != self._number:
                self._chunk, self._number = self._checked(number), number
            piece = self._chunk[start : start + end - offset]
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _checked(self, number: int) -> bytes:
        chunk = os.pread(self._descriptor, min(CHUNK, self.size - number * CHUNK), number * CHUNK)
        digest = self._sums.state(number).copy()
        digest.update(chunk)
        if digest.digest() != self._sums.state(number + 1).digest():
            raise ChangedError
        return chunk

    def check_size(self) -> None:
        """Raise `ChangedError` if the file has another size now."""
        if os.fstat(self._descriptor).st_size != self.size:
            raise ChangedError

    def begun(self, length: int) -> tuple[Any, int]:
        """Return a SHA-256 of the first bytes of the file, at most `length`, and the number of those bytes.

        Only the last of them are read, and compared as `read` does. Raises `ChangedError` and `OSError`.
        """
        number, rest = divmod(min(length, self.size), CHUNK)
        digest = self._sums.state(number).copy()
        if rest:
            chunk = os.pread(self._descriptor, min(CHUNK, self.size - number * CHUNK), number * CHUNK)
            digest.update(chunk[:rest])
            whole = digest.copy()
            whole.update(chunk[rest:])
            if whole.digest() != self._sums.state(number + 1).digest():
                raise ChangedError
        return digest, number * CHUNK + rest


def copied(source: IO[bytes], target: BinaryIO, size: int) -> Sums:
    """Copy `size` bytes, close `target`, and return their digests.

    Raises `ChangedError` if the source ends before, and `OSError`.
    """
    with target:
        stream = StreamSum()
        while stream.size < size:
            data = source.read(min(CHUNK, size - stream.size))
            if not data:
                raise ChangedError
            stream.update(data)
            target.write(data)
    return stream.end()


def digest_blocks(algorithm: str, blocks: Sequence[Block], files: Sequence[CheckedFile]) -> bytes:
    """Return the digest over the contents of the blocks, as `hab.digest_blocks` does.

    Raises `ChangedError`, `FormatError` if a file ends inside a block, and `OSError`.
    """
    if not blocks or blocks[0].offset or algorithm != "sha256":
        return digest_whole(algorithm, blocks, files)
    first = blocks[0]
    digest, done = files[first.file].begun(first.length)
    rest = Block(first.address + done, done, first.length - done, first.file)
    return digest_whole(algorithm, [rest, *blocks[1:]], files, begun=digest)
