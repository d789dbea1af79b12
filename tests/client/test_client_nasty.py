"""Servers that are broken or mean harm: they cost little, are told in words, and learn nothing."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from digsigd.client._internal.api import ClientError, ServerFailed, ServerRefused, ServerUnreachable
from digsigd.client._internal.retries import Timeouts
from digsigd.http.connection import HEAD_BYTES
from tests.client.conftest import MakeClient, Serve
from tests.helpers.descriptors import open_descriptors
from tests.helpers.hostile_servers import (
    Connection,
    answer,
    endless,
    nothing,
    problem,
    reactor,
    then_close,
    until,
)
from tests.http.clocked import ClockedReactor

Order = dict[str, Any]
BLOB = b"\xd4\x00\x50\x43" + b"x" * 100
HTML = b"<html><title>Please log in</title></html>"
OCTETS = "application/octet-stream"


async def test_what_is_sent(serve: Serve, client: MakeClient, order: Order) -> None:
    """One form whose length is told, with the machine first and the image last; and no more headers than needed."""
    server = await serve(answer(200, BLOB, OCTETS))
    signed = await client(server.url, token="a-token").sign(**order)
    assert signed.blob == BLOB
    (connection,) = server.connections
    assert connection.line == "POST /sign/imx HTTP/1.1"
    assert connection.header("authorization") == "Bearer a-token"
    assert connection.header("x-request-id") == signed.request_id
    assert connection.header("accept-encoding") == "identity"
    assert "application/problem+json" in (connection.header("accept") or "")
    assert connection.header("content-length") == str(len(connection.body))
    assert connection.header("transfer-encoding") is None
    assert connection.header("cookie") is None
    places = [connection.body.index(f'name="{name}"'.encode()) for name in ("machine", "soctype", "csf", "artifact")]
    assert places == sorted(places)
    assert order["artifact"].read_bytes() in connection.body


async def test_a_request_id_of_the_host_counts(serve: Serve, client: MakeClient, order: Order) -> None:
    """Where it is one; else ours."""
    server = await serve(
        answer(200, BLOB, OCTETS, x_request_id="of-the-host"), answer(200, BLOB, OCTETS, x_request_id="\x1b[2J")
    )
    one = client(server.url)
    assert (await one.sign(**order)).request_id == "of-the-host"
    assert (await one.sign(**order)).request_id == server.connections[1].header("x-request-id")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(200, HTML, "text/html"), "without a CSF blob, of type text/html"),
        (answer(200, HTML, OCTETS), "without a CSF blob"),
        (answer(200, b"", OCTETS), "without a CSF blob"),
        (answer(200, BLOB[:3], OCTETS), "without a CSF blob"),
        (answer(200, gzip.compress(BLOB), OCTETS, content_encoding="gzip"), "compressed"),
        (answer(200, BLOB + bytes(70_000), OCTETS), "more bytes"),
        (answer(204, b"", ""), "answers 204"),
        (answer(201, BLOB, OCTETS), "answers 201"),
        (answer(600, BLOB, OCTETS), "answers 600"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: brotli\r\n\r\n", "not answer in HTTP"),
        (answer(400, HTML, "text/html"), "400 with a web page and gives no reason"),
        (answer(400, b"\xff\xfe", "application/problem+json"), "answers 400"),
        (answer(400, b"[" * 30_000, "application/problem+json"), "answers 400"),
        (answer(400, b"a\n\x1b[31mb\x00\xe2\x80\xae", "text/plain"), r"a \\x1b\[31mb"),
        (answer(413, b"", ""), "answers 413"),
    ],
)
async def test_an_answer_that_is_none_is_the_end(
    serve: Serve, client: MakeClient, order: Order, said: bytes, words: str
) -> None:
    """It is told in printable words, and not asked for again."""
    server = await serve(then_close(said))
    with pytest.raises(ClientError, match=words) as caught:
        await client(server.url, retries=4).sign(**order)
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 5000
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://other.example:8443/login?token=SECRET", " to https://other.example:8443,"),
        ("https://user:SECRET@other.example/", " to https://other.example,"),
        ("/SECRET", "redirect, which"),
        ("javascript:SECRET", "redirect, which"),
        ("https://a\\@SECRET", "redirect, which"),
        ("", "redirect, which"),
    ],
)
async def test_a_redirect_is_not_followed(
    serve: Serve, client: MakeClient, order: Order, location: str, told: str
) -> None:
    """The error says where it led, by the host alone."""
    server = await serve(answer(307, location=location))
    with pytest.raises(ClientError) as caught:
        await client(server.url, token="a-token", retries=4).sign(**order)
    assert told in caught.value.what
    assert "SECRET" not in str(caught.value)
    assert caught.value.status == 307
    assert len(server.connections) == 1


async def test_cookies_are_not_kept(serve: Serve, client: MakeClient) -> None:
    """Whatever a server sets."""
    server = await serve(answer(200, b'{"missing": []}', "application/json", set_cookie="a=b"))
    one = client(server.url)
    for _ in range(2):
        assert await one.ready() == []
    assert [connection.header("cookie") for connection in server.connections] == [None, None]


@pytest.mark.parametrize(
    ("start", "line"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Line: " + b"a" * 500 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("early", [False, True])
async def test_headers_without_an_end_are_not_read(
    serve: Serve, client: MakeClient, order: Order, start: bytes, line: bytes, early: bool
) -> None:
    """Nor while an upload goes on, which writes all the time."""
    if early:
        os.truncate(order["artifact"], 256 << 20)
    server = await serve(endless(start, line), early=early)
    with pytest.raises(ServerUnreachable, match=f"headers of more than {HEAD_BYTES}"):
        await client(server.url, retries=4).sign(**order)
    assert len(server.connections) == 1
    if early:
        assert len(server.connections[0].got) < 64 << 20


async def test_bodies_without_an_end_are_not_read(serve: Serve, client: MakeClient, order: Order) -> None:
    """A blob is too large then, and of a reason the beginning is enough."""
    server = await serve(
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n", b"\xd4\0\x50\x43" * 1000),
        endless(b"HTTP/1.1 422 No\r\nContent-Type: text/plain\r\n\r\n", b"no " * 1000),
    )
    one = client(server.url)
    tracemalloc.start()
    with pytest.raises(ServerUnreachable, match="more bytes"):
        await one.sign(**order)
    with pytest.raises(ServerRefused, match=r"^no no no"):
        await one.sign(**order)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    await until(lambda: all(connection.lost for connection in server.connections))


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("close", [False, True])
async def test_an_answer_before_the_upload_is_over_is_heard(
    serve: Serve, client: MakeClient, order: Order, pieces: int, close: bool
) -> None:
    """In one piece or in two, and whether the server closes or just stops reading."""
    os.truncate(order["artifact"], 256 << 20)
    said = problem(403, "not-allowed", "not for you")
    head, _, body = said.partition(b"\r\n\r\n")

    def say(connection: Connection) -> None:
        transport = connection.transport
        transport.pauseProducing()
        transport.write(said if pieces == 1 else head + b"\r\n\r\n")
        if pieces == 2:
            reactor.callLater(0.1, transport.write, body)
        if close:
            reactor.callLater(0.3, transport.loseConnection)

    server = await serve(say, early=True)
    sent: list[int] = []
    with pytest.raises(ServerRefused, match="not for you"):
        await client(server.url, retries=4, progress=lambda now, _: sent.append(now)).sign(**order)
    assert len(server.connections) == 1
    assert sent[-1] < 64 << 20


async def test_a_host_that_says_nothing_is_given_up(
    serve: Serve, client: MakeClient, order: Order, time: ClockedReactor
) -> None:
    """After `timeout` where it has the upload, and after less where it does not even answer a question."""
    server = await serve(nothing)
    one = client(server.url, reactor=time, timeout=300, retries=4)
    signing = Deferred.fromCoroutine(one.sign(**order))
    await until(lambda: bool(server.connections and server.connections[0].asked))
    time.advance(299)
    assert not signing.called
    time.advance(1)
    with pytest.raises(ServerUnreachable, match=r"has not answered within 300 s") as caught:
        await signing
    assert caught.value.request_id == server.connections[0].header("x-request-id")
    assert "--timeout" in caught.value.hint
    asking = Deferred.fromCoroutine(client(server.url, reactor=time, timeout=300).ready())
    await until(lambda: len(server.connections) == 2 and server.connections[1].asked)
    time.advance(59.9)
    assert not asking.called
    time.advance(0.1)
    with pytest.raises(ServerUnreachable, match=r"does not answer in time: the request stalled for 60 s"):
        await asking
    await until(lambda: all(connection.lost for connection in server.connections))


async def test_a_host_that_takes_no_connection_is_given_up(client: MakeClient) -> None:
    """After ten seconds, here fewer; and it is tried again."""
    heard: list[str] = []
    with contextlib.ExitStack() as stack:
        # Whose queue is full: Linux then drops what asks for a connection.
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        timeouts = Timeouts(connect=0.1, first_pause=0.01)
        with pytest.raises(ServerUnreachable, match=r"cannot be reached in time \(2 tries\)"):
            await client(url, retries=1, on_retry=heard.append, timeouts=timeouts).ready()
    assert len(heard) == 1


async def test_an_upload_that_stands_still_is_given_up(
    serve: Serve, client: MakeClient, order: Order, time: ClockedReactor
) -> None:
    """A server that does not read holds nobody for the whole timeout."""
    os.truncate(order["artifact"], 64 << 20)
    server = await serve(lambda connection: connection.transport.pauseProducing(), early=True)
    signing = Deferred.fromCoroutine(client(server.url, reactor=time, timeout=1e5).sign(**order))
    await until(lambda: bool(server.connections and server.connections[0].asked))
    await time.run_out(signing)
    with pytest.raises(ServerUnreachable, match="the upload stalled for 60 s"):
        await signing


async def test_an_answer_that_stands_still_is_given_up(
    serve: Serve, client: MakeClient, order: Order, time: ClockedReactor
) -> None:
    """In the middle of its body."""
    server = await serve(answer(200, BLOB, OCTETS)[:-10])
    signing = Deferred.fromCoroutine(client(server.url, reactor=time, timeout=1e5).sign(**order))
    await until(lambda: bool(server.connections and server.connections[0].asked))
    await time.run_out(signing)
    with pytest.raises(ServerUnreachable, match="in time: the answer stalled for 60 s"):
        await signing
    await until(lambda: server.connections[0].lost)


@pytest.mark.parametrize("how", ["sending", "waiting", "reading"])
async def test_cancelling_closes_at_once(serve: Serve, client: MakeClient, order: Order, how: str) -> None:
    """Whatever is going on, and there is no other try."""
    early = how == "sending"
    if early:
        os.truncate(order["artifact"], 64 << 20)
    said: Any = answer(200, BLOB, OCTETS)[:-10] if how == "reading" else nothing
    if early:

        def said(connection: Connection) -> None:
            connection.transport.pauseProducing()

    server = await serve(said, early=early)
    signing = Deferred.fromCoroutine(client(server.url, retries=4).sign(**order))
    await until(lambda: bool(server.connections and server.connections[0].got))
    if how == "reading":
        await until(lambda: len(server.connections[0].body) == int(server.connections[0].header("content-length") or 1))
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    if early:
        server.connections[0].transport.resumeProducing()
    await until(lambda: server.connections[0].lost)
    assert len(server.connections) == 1
    assert not open_files_of(order["artifact"])


def open_files_of(path: Path) -> list[str]:
    """The descriptors of this process that are of a file."""
    return [one for one in open_descriptors() if one.endswith(f" {path}")]


async def test_no_file_is_left_open(serve: Serve, client: MakeClient, order: Order) -> None:
    """However a call ends."""
    server = await serve(answer(200, BLOB, OCTETS), answer(500), then_close(b""), answer(200, HTML, "text/html"))
    one = client(server.url)
    await one.sign(**order)
    for _ in range(3):
        with pytest.raises(ClientError):
            await one.sign(**order)
    with pytest.raises(ServerUnreachable):
        await client("http://127.0.0.1:1").sign(**order)
    assert not open_files_of(order["artifact"])


async def test_a_proxy_s_error_page_is_told_as_one(serve: Serve, client: MakeClient) -> None:
    """Where `/readyz` is 503 and no JSON."""
    server = await serve(answer(503, HTML, "text/html"))
    with pytest.raises(ServerFailed, match="503 with a web page"):
        await client(server.url).ready()
