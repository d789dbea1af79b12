"""Files of commands: images read without copying them, and results that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digsigd.cli.console import Trouble
from digsigd.mapped import Mapped

# What a daemon takes at most by default; images have some 2 to 64 MiB.
LARGEST_IMAGE = 1 << 30


@contextmanager
def mapped(path: Path) -> Iterator[Mapped | bytes]:
    """The contents of an image file. Raises `Trouble`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Trouble(f"{path} is no file")
        if status.st_size > LARGEST_IMAGE:
            raise Trouble(f"{path} has {status.st_size} bytes; an image has at most {LARGEST_IMAGE}")
        if not status.st_size:
            yield b""
            return
        with Mapped.of(descriptor) as contents:
            yield contents
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, *, like: Path | None = None) -> Iterator[Path]:
    """A new file beside `path` that takes its place when all went well, and is gone otherwise.

    It begins as a copy of `like`, or empty. Raises `Trouble`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise Trouble(f"{path} is there, and is no file")
    mask = os.umask(0)
    os.umask(mask)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}") from None
    new = Path(name)
    try:
        try:
            with os.fdopen(descriptor, "wb") as file:
                if like is not None:
                    with like.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
            yield new
            with new.open("rb") as file:
                os.fchmod(file.fileno(), 0o666 & ~mask)
                os.fsync(file.fileno())
            new.replace(target)
        except OSError as error:
            raise Trouble(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            new.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises `Trouble`."""
    with replacing(path) as new:
        new.write_bytes(data)
