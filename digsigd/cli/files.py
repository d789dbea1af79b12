"""The files of commands: those of the client, with errors as `Trouble`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digsigd.cli.console import Trouble
from digsigd.client._internal import files
from digsigd.client._internal.errors import ClientError
from digsigd.mapped import Mapped


@contextmanager
def mapped(path: Path) -> Iterator[Mapped | bytes]:
    """Yield the contents of an image file. Raises `Trouble`."""
    try:
        with files.mapped(path) as contents:
            yield contents
    except ClientError as error:
        raise Trouble(error.what, hint=error.hint) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file that replaces `path` on success, and is removed otherwise.

    Raises `Trouble`.
    """
    new = files.Replacement(path)
    try:
        new.begin()
        yield new.new
        new.flush()
        new.commit()
    except ClientError as error:
        raise Trouble(error.what, hint=error.hint) from None
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        new.discard()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all. Raises `Trouble`."""
    with replacing(path) as new:
        new.write_bytes(data)
