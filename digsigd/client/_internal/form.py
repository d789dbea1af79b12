"""The multipart form of a request: small parts from memory, artifacts streamed from their files. RFC 7578."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from digsigd.client._internal.errors import ClientError
from digsigd.csf.members import base_of
from digsigd.http.exchange import IUpload

# Bytes per read and write. Twisted's transports ask to pause above 64 KiB.
_PIECE = 64 << 10
_ZEROS = bytes(1 << 20)
# What browsers escape in names of files, and how (WHATWG HTML, "multipart form data"): servers take both for the same.
_ESCAPED = re.compile(r'"|%22|%0d|%0a', re.IGNORECASE)

Progress = Callable[[int, int], None]


class ArtifactChanged(Exception):
    """A file got shorter or unreadable while it was being sent."""


@dataclass
class _Piece:
    """A file, the number of bytes that are `left` to send, and the bytes to send after them."""

    file: BinaryIO
    left: int
    behind: bytes


@implementer(IUpload)
class Form:
    """A form of text fields, a CSF description and artifacts, in this order, as the body of one request.

    `artifacts` are pairs of a path and the name to send. `length` and `artifact_bytes`, those of the artifacts
    alone, are known before anything is read. `progress`
    is called with the number of bytes written so far and `length`. The files are opened here and closed at the end or
    by `close`. Raises `ClientError` if a file cannot be opened or a name cannot be sent.
    """

    def __init__(
        self,
        fields: dict[str, str],
        csf: bytes,
        artifacts: Sequence[tuple[Path, str]],
        *,
        reactor: IReactorTime,
        progress: Progress | None = None,
    ) -> None:
        boundary = f"digsign-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        parts = [_part(boundary, name, value.encode()) for name, value in fields.items()]
        parts.append(_part(boundary, "csf", csf, '; filename="description.csf"', "text/plain; charset=utf-8"))
        self._head = b"".join(parts)
        self._pieces: list[_Piece] = []
        names: set[str] = set()
        try:
            for path, name in artifacts:
                name = _checked(name)
                if name in names:
                    raise ClientError(
                        f"two artifacts cannot have the same name, {name!r}",
                        hint="rename one of them: the signing host identifies artifacts by name",
                    )
                names.add(name)
                head = _part(boundary, "artifact", b"", f'; filename="{name}"', "application/octet-stream")
                self._behind(head.removesuffix(b"\r\n"))
                self._pieces.append(_Piece(*_opened(path), b"\r\n"))
        except BaseException:
            self._close_files()
            raise
        self._behind(f"--{boundary}--\r\n".encode())
        self.artifact_bytes = sum(one.left for one in self._pieces)
        self.length = len(self._head) + sum(one.left + len(one.behind) for one in self._pieces)
        self._sent = 0
        self._reactor = reactor
        self._progress = progress
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None
        self._next: IDelayedCall | None = None
        self._paused = False

    @property
    def over(self) -> bool:
        """True if the whole form is written."""
        return self._sent == self.length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Implement `IBodyProducer.startProducing`: write the form; the Deferred fires at its end."""
        self._consumer = consumer
        self._done = Deferred(lambda _: self.stopProducing())
        self._write(self._head)
        self._again()
        return self._done

    def pauseProducing(self) -> None:
        """Implement `IPushProducer.pauseProducing`: stop writing until `resumeProducing`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Implement `IPushProducer.resumeProducing`: go on writing."""
        self._paused = False
        self._again()

    def stopProducing(self) -> None:
        """Implement `IBodyProducer.stopProducing`: write no more and close the files."""
        self._consumer = None
        self.close()

    def close(self) -> None:
        """Close the files, and send no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        self._close_files()

    def pretend(self) -> None:
        """Write zeros for the rest without a pause: for a connection that does not send any more."""
        self.close()
        left = self.length - self._sent
        while left and self._consumer is not None:
            piece = _ZEROS[:left]
            left -= len(piece)
            self._consumer.write(piece)
        self._finish()

    def _again(self) -> None:
        if self._next is None and self._consumer is not None and not self._paused:
            self._next = self._reactor.callLater(0, self._step)

    def _behind(self, data: bytes) -> None:
        """Append `data` to the form."""
        if self._pieces:
            self._pieces[-1].behind += data
        else:
            self._head += data

    def _step(self) -> None:
        """Write one piece of a file."""
        self._next = None
        if self._paused or self._consumer is None:
            return
        try:
            now = self._pieces[0]
            data = now.file.read(min(_PIECE, now.left))
            if not data:
                raise ArtifactChanged("got shorter while it was sent")
            now.left -= len(data)
            if not now.left:
                self._pieces.pop(0).file.close()
                data += now.behind
            self._write(data)
        except OSError as error:
            self._fail(Failure(ArtifactChanged(f"cannot be read: {error.strerror}")))
        except Exception:  # noqa: BLE001 - an error in the caller's progress function ends this request
            self._fail(Failure())
        if self._pieces:
            self._again()
        else:
            self.close()
            self._finish()

    def _close_files(self) -> None:
        for one in self._pieces:
            one.file.close()

    def _write(self, data: bytes) -> None:
        if self._consumer is not None:
            self._sent += len(data)
            self._consumer.write(data)
            if self._progress is not None:
                self._progress(self._sent, self.length)

    def _finish(self) -> None:
        if self._consumer is not None and self._done is not None:
            self._consumer = None
            self._done.callback(None)

    def _fail(self, why: Failure) -> None:
        self.close()
        if self._consumer is not None and self._done is not None:
            self._consumer = None
            self._done.errback(why)


def _part(boundary: str, name: str, value: bytes, more: str = "", kind: str = "") -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n'
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return f"{head}\r\n".encode() + value + b"\r\n"


def _checked(name: str) -> str:
    """Return the last part of a file name, if it needs no escaping: the description's Blocks name it too."""
    base = base_of(name)
    if not base or _ESCAPED.search(base) or not base.isprintable() or len(base.encode()) > 255:
        raise ClientError(
            f"{base[:255]!r} cannot be the name of an artifact",
            hint="use a name of 1 to 255 bytes without quotation marks, control characters and %22, %0d, %0a",
        )
    return base


def _opened(path: Path) -> tuple[BinaryIO, int]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ClientError(f"{path}: is not a regular file")
        file = path.open("rb")
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    size = os.fstat(file.fileno()).st_size
    if not size:
        file.close()
        raise ClientError(f"{path}: is empty", hint="check the path: an empty file cannot be signed")
    return file, size
