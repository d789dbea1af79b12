"""A web server that means harm or is broken: what it sends costs little, is its own failure, and tells nothing."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from twisted.web.server import NOT_DONE_YET

from digsigd.errors import BadTarball, KeyStoreFailed, KeyStoreTimeout, NoKeys
from digsigd.http.connection import HEAD_BYTES
from digsigd.keys import KeyStore
from digsigd.testing import TrialPki
from tests.helpers.certificates import Authority
from tests.helpers.key_servers import MACHINE, KeyServers, Server
from tests.helpers.ports import refusing_port

Answer = Callable[[Any], Any]


def to(location: bytes) -> Answer:
    return lambda request: request.setResponseCode(307) or request.setHeader(b"location", location) or b""


def with_header(name: bytes, value: bytes, body: bytes, status: int = 200) -> Answer:
    return lambda request: request.setResponseCode(status) or request.setHeader(name, value) or body


@pytest.mark.parametrize(
    "location",
    [
        b"http://127.0.0.1:99999/x",
        b"http://127.0.0.1:abc/x",
        b"http://[::1/x",
        b"http://127.0.0.1/\xff",
        b"http://127.0.0.1 :80/x",
        b"http://a:1\\@127.0.0.1:80/x",
        b"http://user:SECRET@127.0.0.1:80/x",
        b"http://user:SECRET/x",
        b"http://user:SECRET@host:port/x",
        "http://xn--\x80.example/x".encode(),
        b"ftp://user:SECRET@127.0.0.1/x?SECRET",
    ],
)
async def test_a_redirect_to_nowhere_is_the_stores_failure(key_servers: KeyServers, location: bytes) -> None:
    """For a machine and for the check of the store, at once, and without what may be a secret in it."""
    server = await key_servers.server()
    server.answer = to(location)
    for ask in (key_servers.store(server).check, lambda: key_servers.store(server).get(MACHINE)):
        with pytest.raises(KeyStoreFailed) as caught:
            await ask()
        assert "127.0.0.1" in caught.value.detail
        assert "127.0.0.1" not in caught.value.for_client()
        assert "SECRET" not in str(caught.value)
    assert len(server.seen) == 2


async def test_an_etag_that_is_no_text_is_the_stores_failure(key_servers: KeyServers, pki: TrialPki) -> None:
    """A time that is none is not looked at."""
    server = await key_servers.server()
    server.answer = with_header(b"etag", b'"\xff"', server.tarball)
    with pytest.raises(KeyStoreFailed, match=r"sent an invalid response .*etag"):
        await key_servers.store(server).get(MACHINE)
    server.answer = with_header(b"last-modified", b"\xff", server.tarball)
    assert (await key_servers.store(server).get(MACHINE)).tarball.members == pki.files


async def test_a_presigned_address_is_not_told(key_servers: KeyServers) -> None:
    """Where a redirect to it fails, in whatever way."""
    server, other = await key_servers.server(), await key_servers.server()
    server.answer = to(f"{other.root}/k.tgz?X-Amz-Signature=SECRET#SECRET".encode())
    for status in (400, 403, 404, 500):
        other.answer = with_header(b"x", b"y", b"", status)
        with pytest.raises((KeyStoreFailed, NoKeys)) as caught:
            await key_servers.store(server, tries=2).get(MACHINE)
        assert "SECRET" not in str(caught.value)
    other.answer = lambda _: NOT_DONE_YET
    with pytest.raises(KeyStoreTimeout, match=r"k\.tgz\?\.\.\.") as late:
        await key_servers.wait_in_vain(server, other, tries=1)
    assert "SECRET" not in str(late.value)
    assert other.seen[-1].uri == b"/k.tgz?X-Amz-Signature=SECRET"
    with refusing_port() as port:
        server.answer = to(f"http://127.0.0.1:{port}/k.tgz?X-Amz-Signature=SECRET#SECRET".encode())
        with pytest.raises(KeyStoreFailed, match="refused") as refused:
            await key_servers.store(server, tries=1).get(MACHINE)
    assert "SECRET" not in str(refused.value)


async def test_cookies_are_not_kept(key_servers: KeyServers, pki: TrialPki) -> None:
    """Nor do they go elsewhere, nor have to be any."""
    server, other = await key_servers.server(), await key_servers.server()
    store = key_servers.store(server)
    for value in (b"session=1; Path=/", b"\xff=\xff"):
        server.answer = with_header(b"set-cookie", value, server.tarball)
        assert (await store.get(MACHINE)).tarball.members == pki.files
    await store.get(MACHINE)
    assert server.header("cookie") is None
    redirect = to(other.root.encode() + b"/x")
    server.answer = lambda request: request.setHeader(b"set-cookie", b"session=1; Path=/") or redirect(request)
    await store.get(MACHINE)
    assert other.header("cookie") is None


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZip", "identity, gzip", "identity"])
async def test_a_tarball_that_is_called_gzip_is_the_file(key_servers: KeyServers, coding: str) -> None:
    """As Apache's AddEncoding does: its SHA-256 is the one of the file, which can be pinned."""
    server = await key_servers.server()
    server.answer = with_header(b"content-encoding", coding.encode(), server.tarball)
    assert (await key_servers.store(server).get(MACHINE)).tarball.sha256 == hashlib.sha256(server.tarball).hexdigest()


async def test_a_tarball_that_is_compressed_on_the_way_is_the_file_as_well(key_servers: KeyServers) -> None:
    """Once more, and it unpacks to the file within the bounds of one."""
    server = await key_servers.server()
    server.answer = with_header(b"content-encoding", b"gzip", gzip.compress(server.tarball))
    assert (await key_servers.store(server).get(MACHINE)).tarball.sha256 == hashlib.sha256(server.tarball).hexdigest()
    with pytest.raises(KeyStoreFailed, match="more than"):
        await key_servers.store(server, max_tarball=len(server.tarball) - 1).get(MACHINE)


async def test_a_plain_tar_that_is_compressed_on_the_way_is_read(key_servers: KeyServers, pki: TrialPki) -> None:
    """It looks like a tarball of its own."""
    server = await key_servers.server()
    server.answer = with_header(b"content-encoding", b"gzip", gzip.compress(gzip.decompress(server.tarball)))
    assert (await key_servers.store(server).get(MACHINE)).tarball.members == pki.files


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        (b"gzip", b"not gzip", "the body is not gzip data"),
        (b"gzip", b"", "the body is truncated"),
        (b"gzip", gzip.compress(b"", mtime=0)[:12], "the body is truncated"),
        (b"gzip", gzip.compress(gzip.compress(b"x" * 100, mtime=0), mtime=0)[:-4], "the body is truncated"),
        (b"gzip", gzip.compress(gzip.compress(b"x" * 100, mtime=0), mtime=0) + b"more", "data after its end"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "gzip, gzip"),
        (b"br", b"x", "br"),
        (b"deflate", b"x", "deflate"),
        (b"\xff\n\x1b[2J" + b"x" * 200, b"x", "Content-Encoding is"),
    ],
)
async def test_any_other_coding_is_the_stores_failure(
    key_servers: KeyServers, coding: bytes, body: bytes, words: str
) -> None:
    """It is named, and what is broken is not taken for an empty tarball."""
    server = await key_servers.server()
    server.answer = with_header(b"content-encoding", coding, body)
    with pytest.raises(KeyStoreFailed, match="sent an invalid response") as caught:
        await key_servers.store(server).get(MACHINE)
    assert words in caught.value.detail
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 300
    assert len(server.seen) == 1


async def peak_of(store: KeyStore, error: type[Exception]) -> int:
    """How many bytes Python had at once while a fetch failed."""
    tracemalloc.start()
    try:
        with pytest.raises(error):
            await store.get(MACHINE)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_bomb_is_not_unpacked(key_servers: KeyServers) -> None:
    """Once, twice, with a tarball's beginning, or where the body is only an error's."""
    server = await key_servers.server()
    zeros = gzip.compress(bytes(64 << 20))
    twice = gzip.compress(zeros)
    like_gzip = gzip.compress(b"\x1f\x8b" + bytes(64 << 20))
    for coding, body, status, error in (
        (b"gzip", zeros, 200, BadTarball),
        (b"gzip", twice, 200, BadTarball),
        (b"gzip, gzip", twice, 200, KeyStoreFailed),
        (b"gzip", like_gzip, 200, KeyStoreFailed),
        (b"gzip, gzip", twice, 404, NoKeys),
    ):
        server.answer = with_header(b"content-encoding", coding, body, status)
        assert await peak_of(key_servers.store(server, max_tarball=1 << 20), error) < 8 << 20


def flood(server: Server, start: bytes, line: bytes) -> Answer:
    """Sends lines for ever, as far as they are read."""

    def answer(request: Any) -> Any:
        channel = request.channel
        channel.transport.write(start)

        class Endless:
            def resumeProducing(self) -> None:
                server.tarball += b"."
                channel.transport.write(line * (16384 // len(line)))

            def stopProducing(self) -> None:
                pass

        # The site's own channel is a producer here already.
        channel.transport.unregisterProducer()
        channel.transport.registerProducer(Endless(), False)
        return NOT_DONE_YET

    return answer


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("start", "line"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Line: " + b"a" * 500 + b"\r\n"),
        (b"HTTP/1.1 404 Not Found\r\n", b"a:\n"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", b" folded\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"X-Line: " + b"a" * 5000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_headers_without_an_end_are_not_read(
    key_servers: KeyServers, tls: bool, start: bytes, line: bytes
) -> None:
    """The connection is cut, and there is no other try."""
    authority = Authority()
    more: dict[str, Any] = {}
    server = await key_servers.server(authority.server_options() if tls else None)
    if tls:
        more = {"http": key_servers.trusting(authority)}
    server.answer = flood(server, start, line)
    server.tarball = b""
    with pytest.raises(KeyStoreFailed, match=f"headers of more than {HEAD_BYTES} bytes"):
        await key_servers.store(server, **more).get(MACHINE)
    # What the kernel's buffers hold has been sent as well.
    assert len(server.tarball) * 16384 < 32 << 20
    assert len(server.seen) == 1


async def test_headers_and_a_body_within_their_bounds_are_read(key_servers: KeyServers, pki: TrialPki) -> None:
    """Many headers, a body far larger than they may be, and another request on the same connection."""
    server = await key_servers.server()
    padded = gzip.compress(gzip.decompress(server.tarball) + bytes(900_000), 0)
    peers = set()

    def answer(request: Any) -> bytes:
        peers.add(request.getClientAddress().port)
        for number in range(50):
            request.setHeader(f"x-{number}", "a" * 1000)
        return padded

    server.answer = answer
    store = key_servers.store(server)
    for _ in range(3):
        assert (await store.get(MACHINE)).tarball.members == pki.files
    assert len(peers) == 1
