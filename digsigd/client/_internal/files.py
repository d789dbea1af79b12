"""Image files: read them without a copy, and write them completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from digsigd.client._internal.errors import ClientError
from digsigd.mapped import Mapped

# In bytes. The default limit of the daemon; images have some 2 to 64 MiB.
LARGEST_IMAGE = 1 << 30


@contextmanager
def mapped(path: Path) -> Iterator[Mapped | bytes]:
    """Yield the contents of an image file. Raises `ClientError` if it cannot be read or is too large."""
    with _opened(path) as descriptor:
        if not os.fstat(descriptor).st_size:
            yield b""
            return
        with Mapped.of(descriptor) as contents:
            yield contents


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yield the descriptor of an image file."""
    try:
        # Opening a pipe would block until another process writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ClientError(f"{path} is not a regular file")
        if status.st_size > LARGEST_IMAGE:
            raise ClientError(f"{path} has {status.st_size} bytes; the limit for images is {LARGEST_IMAGE}")
        yield descriptor
    finally:
        os.close(descriptor)


class Replacement:
    """A new file that replaces `path`: `begin` creates it in the same folder, `commit` moves it, `discard` removes it.

    `new` is its temporary path. If `path` is a link, its target is replaced. All methods but `discard` raise
    `ClientError` if the file cannot be written. All block; `begin` and `flush` wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        # The name is known before the file is there, so that it can always be removed.
        self.new = self._target.with_name(f".{self._target.name[:100]}.{secrets.token_hex(8)}")

    def begin(self, *, like: Path | None = None) -> None:
        """Create the new file, empty or as a copy of `like`. Raises `ClientError`, also if `like` cannot be read."""
        if self._target.exists() and not self._target.is_file():
            raise ClientError(f"{self._path} exists and is not a regular file")
        with self.explained():
            # Its permissions are those of any new file: the umask's.
            file = os.fdopen(os.open(self.new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")
        with self.explained(), file:
            if like is not None:
                with _opened(like) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as source:
                    shutil.copyfileobj(source, file, 1 << 20)

    def flush(self) -> None:
        """Wait until the new file is on the disk. Raises `ClientError`."""
        with self.explained(), self.new.open("rb") as file:
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Replace `path` with the new file. Raises `ClientError`."""
        with self.explained():
            self.new.replace(self._target)

    def discard(self) -> None:
        """Remove the new file, if it still exists."""
        with suppress(OSError):
            self.new.unlink()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an `OSError` of the block into a `ClientError`."""
        try:
            yield
        except OSError as error:
            raise ClientError(f"{self._path} cannot be written: {error.strerror or error}") from None


class Sink:
    """Writes to an existing file from its start, as a context manager. `length` is the number of bytes so far.

    Raises `ClientError` if the file cannot be written. Blocks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.length = 0
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Open the file, and empty it."""
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        except OSError as error:
            raise ClientError(f"{self._path} cannot be written: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        """Append `data` to what was written."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self.length += written
                rest = rest[written:]
        except OSError as error:
            raise ClientError(f"{self._path} cannot be written: {error.strerror}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file that replaces `path` on success, and is removed otherwise.

    Raises `ClientError` if it cannot be written, also for an `OSError` of the block.
    """
    new = Replacement(path)
    try:
        new.begin()
        with new.explained():
            yield new.new
        new.flush()
        new.commit()
    finally:
        new.discard()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all. Raises `ClientError`."""
    with replacing(path) as new:
        new.write_bytes(data)
