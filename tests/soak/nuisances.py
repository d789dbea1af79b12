"""Clients that a daemon has to put up with, many of each kind, in a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Self

from digsigd.testing import TrialPki
from tests.daemon.test_wire import address, form_of
from tests.helpers.daemons import MACHINE, Daemon


class Nuisance:
    """So many connections from `with` to its end. `ended` has how each ended: the status that it was told, or empty.

    A connection that ends is replaced if `again`. `authorization` is a header line, or empty.
    """

    # Whether the daemon ends such a connection by itself, within the limits that the test sets.
    dropped = True
    again = False

    def __init__(self, daemon: Daemon, pki: TrialPki, number: int, authorization: bytes = b"") -> None:
        self.ended: list[str] = []
        self.begun = 0
        self._address = address(daemon)
        headers, self.body = form_of(pki)
        self.head = b"POST /sign/imx HTTP/1.1\r\nHost: a\r\n" + authorization
        self.headers = headers
        self.request = self.head + headers + b"\r\n" + self.body
        self._number = number
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be one connection, until the daemon or this ends it."""
        raise NotImplementedError

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        tasks = [asyncio.create_task(self._connect()) for _ in range(self._number)]
        await self._over.wait()
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(*self._address, limit=1 << 12)
                self.begun += 1
                try:
                    await self.one(reader, writer)
                finally:
                    writer.transport.abort()
            except OSError:
                self.ended.append("")
            if not self.again:
                return
            await asyncio.sleep(0.01)

    async def trickle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send a byte now and then, until there is an answer."""
        answer = asyncio.create_task(reader.read(1 << 12))
        for letter in data:
            writer.write(bytes([letter]))
            if (await asyncio.wait([answer], timeout=0.2))[0]:
                break
        self.ended.append((await answer)[9:12].decode())


class Idle(Nuisance):
    """Says nothing. It is closed when the time for its headers is over."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ended.append((await reader.read(100))[9:12].decode())


class SlowHeaders(Nuisance):
    """Sends its headers byte by byte."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.trickle(reader, writer, self.head + b"X-A: " + b"a" * 1000)


class SlowBody(Nuisance):
    """Sends its body byte by byte."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head + self.headers + b"\r\n")
        await self.trickle(reader, writer, self.body)


class SlowReader(Nuisance):
    """Asks for much and reads nothing of the answers."""

    # Its end is HEAD_SECONDS and more away: tests/web/test_site.py has it, with a clock.
    dropped = False

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        await asyncio.Event().wait()


class Pipelines(Nuisance):
    """Sends many requests ahead, and reads the answers."""

    dropped = False
    again = True

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        while await reader.read(1 << 12):
            pass


class Aborts(Nuisance):
    """Leaves in the middle of its request, or before the answer, and comes again at once."""

    dropped = False
    again = True

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self.begun * 997 % (len(self.request) + 1)
        writer.write(self.request[:cut])
        await asyncio.sleep(0.05)


class Fillers(Nuisance):
    """Uploads nearly 4 MiB of an artifact that does not end, and then nothing more."""

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s'
        begin = part % (b"machine", b"", MACHINE.encode() + b"\r\n")
        begin += part % (b"artifact", b'; filename="spl.bin"', b"")
        form = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % (4 << 20)
        writer.write(self.head + form + begin)
        for _ in range(60):
            writer.write(bytes(1 << 16))
            await writer.drain()
        self.ended.append((await reader.read(1 << 12))[9:12].decode())


NUISANCES: dict[str, tuple[type[Nuisance], int]] = {
    "1,000 idle connections": (Idle, 1000),
    "headers byte by byte": (SlowHeaders, 50),
    "bodies byte by byte": (SlowBody, 50),
    "answers not read": (SlowReader, 20),
    "pipelines": (Pipelines, 4),
    "aborted requests": (Aborts, 8),
    "uploads that fill the work directory": (Fillers, 20),
}
