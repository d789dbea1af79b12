"""Digests of a file, taken from the stream that brings it, with which every later read of the file is checked.

The file is in a directory that cst can reach. So what is read from it again is not believed: the SHA-256 of the stream
is kept at the end of each chunk, and bytes that are read again must continue the one before to the one behind. A block
that begins at the start of the file continues a kept SHA-256, so that most of the file need not be read again. Where
the blocks are known before the file arrives, their digests come from the stream as well.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, BinaryIO

from digsigd.errors import DigsigError
from digsigd.hab import Block
from digsigd.hab import digest_blocks as digest_whole

# The distance of kept digests in bytes. Each takes half a KiB of memory: 2 MiB for an artifact of 1 GiB.
CHUNK = 256 << 10
# How many chunks may be used before they are compared.
_MOST_UNCHECKED = 8


class ChangedError(Exception):
    """The file is not what was sent."""


class StreamSum:
    """The running digest of a stream.

    `states` are its SHA-256 up to the end of each chunk, `blocks` those of blocks of it, by their offsets and lengths,
    `images` the digests of images of AHAB, by the name of their hash, offset and length. All are complete when it is
    `finished`, and stay as they are if it has `failed`; `changed` is notified when there are more.
    """

    def __init__(self) -> None:
        self.size = 0
        self.changed = threading.Condition()
        self.blocks: Mapping[tuple[tuple[int, int], ...], bytes] = {}
        self.images: Mapping[tuple[str, int, int], bytes] = {}
        self.finished = False
        self.failed = False
        self._running = hashlib.sha256()
        self.states = [self._running.copy()]

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
                self.states.append(self._running.copy())

    def end(self) -> Sums:
        """Return the digests, once the stream has ended."""
        self._finish()
        return Sums(self.size, self)

    def _finish(self) -> None:
        if self.size % CHUNK:
            self.states.append(self._running)
        self.finished = True


class Sums:
    """What is known of a file from its stream, which has ended: `size` in bytes, and digests.

    Whoever asks for a digest is blocked until it is known. Raises `DigsigError` if it could not be computed.
    """

    def __init__(self, size: int, stream: StreamSum) -> None:
        self.size = size
        self._stream = stream

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, as hexadecimal digits."""
        digest: str = self.state(-(-self.size // CHUNK)).hexdigest()
        return digest

    def state(self, number: int) -> Any:
        """Return the SHA-256 up to the end of so many chunks, not to be updated."""
        states = self._stream.states
        if len(states) <= number:
            self._wait(lambda: len(states) > number)
        return states[number]

    def _wait(self, is_known: Callable[[], bool]) -> None:
        with self._stream.changed:
            self._stream.changed.wait_for(lambda: is_known() or self._stream.failed)
            if not is_known():
                raise DigsigError(
                    "this signing host could not compute the digest of an artifact",
                    hint="search for the cause in the host's log",
                )

    def knows(self, number: int) -> bool:
        """Return whether the SHA-256 up to the end of so many chunks is known already."""
        return len(self._stream.states) > number

    def check(self, number: int, chunk: bytes) -> None:
        """Raise `ChangedError` unless these bytes are that chunk of the stream."""
        digest = self.state(number).copy()
        digest.update(chunk)
        if digest.digest() != self.state(number + 1).digest():
            raise ChangedError

    def of_blocks(self, blocks: Sequence[Block]) -> bytes | None:
        """Return the SHA-256 of blocks of the file; None if it was not taken."""
        self._wait(lambda: self._stream.finished)
        return self._stream.blocks.get(tuple((one.offset, one.length) for one in blocks))

    def of_image(self, name: str, offset: int, length: int) -> bytes | None:
        """Return the hash called `name` of a part of the file; None if it was not taken."""
        self._wait(lambda: self._stream.finished)
        return self._stream.images.get((name, offset, length))


class Unchecked:
    """A few chunks that were read before their digests were known, to be compared with them later."""

    def __init__(self) -> None:
        self._chunks: list[tuple[Sums, int, bytes]] = []

    def takes(self, sums: Sums, number: int, chunk: bytes) -> bool:
        """Return whether a chunk is kept for later: its digest is not known yet, and there is room for it."""
        if sums.knows(number + 1) or len(self._chunks) == _MOST_UNCHECKED:
            return False
        self._chunks.append((sums, number, chunk))
        return True

    def check(self) -> None:
        """Raise `ChangedError` if a chunk is not that of the stream. Blocks as `Sums` do."""
        while self._chunks:
            sums, number, chunk = self._chunks.pop()
            sums.check(number, chunk)


class CheckedFile:
    """An open file whose contents are compared with its `Sums` at each read. For one thread at a time.

    With `unchecked`, what cannot be compared yet is left to it.
    """

    def __init__(self, descriptor: int, sums: Sums, unchecked: Unchecked | None = None) -> None:
        self._unchecked = unchecked
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
        length = min(CHUNK, self.size - number * CHUNK)
        chunk = self._raw(length, number * CHUNK)
        if len(chunk) < length:
            raise ChangedError
        if self._unchecked is None or not self._unchecked.takes(self._sums, number, chunk):
            self._sums.check(number, chunk)
        return chunk

    def _raw(self, length: int, offset: int) -> bytes:
        """Return what is to be compared. Raises `OSError`."""
        return os.pread(self._descriptor, length, offset)

    def check_size(self) -> None:
        """Raise `ChangedError` if the file has another size now."""
        if os.fstat(self._descriptor).st_size != self.size:
            raise ChangedError

    def of_blocks(self, blocks: Sequence[Block]) -> bytes | None:
        """Return the SHA-256 of blocks of the file from its stream; None if it was not taken."""
        return self._sums.of_blocks(blocks)

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
    if not blocks or algorithm != "sha256":
        return digest_whole(algorithm, blocks, files)
    first = blocks[0]
    if all(one.file == first.file for one in blocks) and (known := files[first.file].of_blocks(blocks)) is not None:
        return known
    if first.offset:
        return digest_whole(algorithm, blocks, files)
    digest, done = files[first.file].begun(first.length)
    rest = Block(first.address + done, done, first.length - done, first.file)
    return digest_whole(algorithm, [rest, *blocks[1:]], files, begun=digest)
