"""Uploads that begin and send nothing more."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from tests.helpers.daemons import Daemon


@contextlib.contextmanager
def slow_uploads(daemon: Daemon, token: str, count: int, length: int = 100_000) -> Iterator[None]:
    """Hold this many connections of a caller, each of which has announced a body and sent a byte of it."""
    head = (
        "POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {length}\r\nAuthorization: Bearer {token}\r\n\r\n-"
    )
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    with contextlib.ExitStack() as held:
        for _ in range(count):
            held.enter_context(socket.create_connection((host, int(port)))).sendall(head.encode())
        yield
