"""Image files: read without copying them, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digsigd.client._internal.errors import ClientError
from digsigd.mapped import Mapped

# In bytes. What a daemon takes at most by default; images have some 2 to 64 MiB.
LARGEST_IMAGE = 1 << 30


@contextmanager
def mapped(path: Path) -> Iterator[Mapped | bytes]:
    """Give the contents of an image file. Raise `ClientError` where it cannot be read, or is too large."""
    with _opened(path) as descriptor:
        if not os.fstat(descriptor).st_size:
            yield b""
            return
        with Mapped.of(descriptor) as contents:
            yield contents


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Give the descriptor of an image file."""
    try:
        # A pipe would hold the process up until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ClientError(f"{path} is no file")
        if status.st_size > LARGEST_IMAGE:
            raise ClientError(f"{path} has {status.st_size} bytes; an image has at most {LARGEST_IMAGE}")
        yield descriptor
    finally:
        os.close(descriptor)


class Replacement:
    """A new file beside `path`: `begin` creates it, then it takes its place by `commit`, or is removed by `discard`.

    `new` is where it is meanwhile. `path` may be a link: what it leads to is replaced. All methods but `discard` raise
    `ClientError` where the file cannot be written, and block: `begin` and `flush` for as long as the disk takes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        # The name is known before the file is there, so that it can always be removed.
        self.new = self._target.with_name(f".{self._target.name[:100]}.{secrets.token_hex(8)}")

    def begin(self, *, like: Path | None = None) -> None:
        """Create the new file, empty, or as a copy of `like`; raise `ClientError` where that cannot be read."""
        if self._target.exists() and not self._target.is_file():
            raise ClientError(f"{self._path} is there, and is no file")
        with self._explained():
            # Its permissions are those of any new file: the umask's.
            file = os.fdopen(os.open(self.new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb")
        with self._explained(), file:
            if like is not None:
                with _opened(like) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as source:
                    shutil.copyfileobj(source, file, 1 << 20)

    def flush(self) -> None:
        """Wait until the new file is on the disk."""
        with self._explained(), self.new.open("rb") as file:
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Put the new file in its place."""
        with self._explained():
            self.new.replace(self._target)

    def discard(self) -> None:
        """Remove the new file, if it is there still."""
        with suppress(OSError):
            self.new.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ClientError(f"{self._path} cannot be written: {error.strerror or error}") from None
