"""A file with its containers signed: the file that was sent, and what takes the place of some of its bytes.

Its name is removed before cst runs, so nothing else can reach it. It is read from its descriptor, and compared at each
read: before it is signed with the stream that brought it, afterwards with what was proven.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from digsigd.errors import DigsigError, VerificationFailed
from digsigd.signing.sums import CHUNK, ChangedError, CheckedFile, StreamSum, Sums


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes that stand at `offset` of a file, in place of its own."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset behind them."""
        return self.offset + len(self.data)


class PatchedFile(CheckedFile):
    """An open file with patches, compared with the `Sums` of what they make of it."""

    def __init__(self, descriptor: int, sums: Sums, patches: Sequence[Patch]) -> None:
        super().__init__(descriptor, sums)
        self._patches = tuple(patches)

    def _raw(self, length: int, offset: int) -> bytes:
        return patched(super()._raw(length, offset), offset, self._patches)


class SignedFile:
    """An answer of `size` bytes, with `sha256` in hex. It owns the descriptor, and is for one thread at a time."""

    def __init__(self, descriptor: int, sums: Sums, patches: Sequence[Patch]) -> None:
        self.size = sums.size
        self.sha256 = sums.sha256
        self._descriptor = descriptor
        self._file = PatchedFile(descriptor, sums, patches)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it: nothing can be read any more. It may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`, fewer at the end of the file. Blocks.

        Raises `VerificationFailed` if they are not those that were proven, `DigsigError` if they cannot be read.
        """
        if self._descriptor < 0:
            raise DigsigError("the answer cannot be read: it is closed")
        try:
            return self._file.read(offset, length)
        except ChangedError:
            raise changed() from None
        except OSError as error:
            raise DigsigError("the answer cannot be read", detail=str(error)) from error


class Original:
    """The bytes of a file as it was sent, with `len` and slices, and `patches` in place of some. Slices are read.

    Raises `ChangedError` if the file is not what was sent, and `OSError`.
    """

    def __init__(self, file: CheckedFile, patches: Sequence[Patch] = ()) -> None:
        self._file = file
        self._patches = tuple(patches)

    def __len__(self) -> int:
        return self._file.size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._file.size)
        return patched(self._file.read(start, max(0, stop - start)), start, self._patches)


def sums_of(file: CheckedFile, patches: Sequence[Patch]) -> Sums:
    """Return the digests of a file with patches. It reads the whole file, in pieces.

    Raises `ChangedError` if it is not what was sent, and `OSError`.
    """
    stream = StreamSum()
    for offset in range(0, file.size, CHUNK):
        stream.update(patched(file.read(offset, CHUNK), offset, patches))
    return stream.end()


def patched(data: bytes, offset: int, patches: Sequence[Patch]) -> bytes:
    """Return bytes of a file, which are at `offset`, with what patches put in their place."""
    end = offset + len(data)
    for one in patches:
        low, high = max(offset, one.offset), min(end, one.end)
        if low < high:
            data = data[: low - offset] + one.data[low - one.offset : high - one.offset] + data[high - offset :]
    return data


def changed() -> VerificationFailed:
    """Build the error for a file that is not what it was."""
    return VerificationFailed(
        "the artifact on the signing host is not what was sent",
        hint="something on that host changed it during the request; its operator should find out what",
    )
