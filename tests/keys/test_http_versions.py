"""When a tarball on a web server is still the same one: what the server says of it, and what that is worth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.web.http import datetimeToString

from digsigd.keys import KeyStore, key_source
from digsigd.settings import KeysSettings
from digsigd.testing import TrialPki
from tests.helpers.key_servers import MACHINE, KeyServers, at_once, reactor


def tagged(server: Any, *tags: str, **headers: str) -> Callable[[Any], bytes]:
    """Answer with ETags, and compare them as weakly as RFC 9110 wants it."""

    def answer(request: Any) -> bytes:
        request.responseHeaders.setRawHeaders("etag", list(tags))
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        asked = request.getHeader("if-none-match")
        if asked and asked.removeprefix("W/") in {tag.removeprefix("W/") for tag in tags}:
            request.setResponseCode(304)
            return b""
        tarball: bytes = server.tarball
        return tarball

    return answer


@pytest.mark.parametrize(
    "tags",
    [(), ('W/"weak"',), ("unquoted",), ("",), ('"a"b"',), ('"two words"',), ('"a"', '"b"'), (f'"{"e" * 5000}"',)],
)
async def test_what_is_no_strong_etag_is_no_version(key_servers: KeyServers, tags: tuple[str, ...]) -> None:
    """The tarball is sent each time, so that whatever has changed is seen."""
    server = await key_servers.server()
    store = key_servers.store(server)
    server.answer = tagged(server, *tags)
    await store.get(MACHINE)
    server.tarball = TrialPki.make("p256", srks=1).tarball()
    before = await store.get(MACHINE)
    assert before.how == "fetched"
    assert (await key_servers.store(server).get(MACHINE)).tarball.members == before.tarball.members
    assert [server.header("if-none-match", number) for number in range(3)] == [None] * 3


async def test_a_time_is_no_version(key_servers: KeyServers) -> None:
    """Last-Modified is not asked about, even that the server would answer."""
    server = await key_servers.server()
    store = key_servers.store(server)
    server.answer = lambda request: b"" if request.setLastModified(1_700_000_000) else server.tarball
    await store.get(MACHINE)
    assert (await store.get(MACHINE)).how == "fetched"
    assert server.header("if-modified-since") is None


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Python's own server, which has times but no ETags: its address, and the path of a machine's tarball."""
    path = tmp_path / MACHINE / "imxsign/imx-cst-keys.tar.gz"
    path.parent.mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found is not None
        yield found[0], path
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.parametrize("age", [0, 86_400])
async def test_a_replaced_file_is_seen_at_once(files: tuple[str, Path], pki: TrialPki, age: int) -> None:
    """Within the same second, or by an older one whose time was kept: nobody signs with the keys that were there."""
    url, path = files
    other = TrialPki.make("p256", srks=1)
    source = key_source(KeysSettings(uri=url), reactor=reactor, in_thread=at_once)
    store = KeyStore(source, keep=300, clock=reactor, in_thread=at_once, max_unpacked=1 << 20)
    path.write_bytes(pki.tarball())
    new = path.with_name("new")
    new.write_bytes(other.tarball())
    now = time.time()
    os.utime(path, (now, now))
    os.utime(new, (now - age, now - age))
    assert (await store.get(MACHINE)).tarball.members == pki.files
    new.replace(path)
    assert (await store.get(MACHINE)).tarball.members == other.files
    await store.stop()


async def test_a_304_for_a_tag_that_only_looks_the_same_is_not_taken(key_servers: KeyServers) -> None:
    """The known tag is strong, the server has a weak one like it by now: the tarball is asked for without condition."""
    server = await key_servers.server()
    store = key_servers.store(server)
    server.answer = tagged(server, '"one"')
    await store.get(MACHINE)
    assert (await store.get(MACHINE)).how == "revalidated"
    server.answer = tagged(server, 'W/"one"')
    other = TrialPki.make("p256", srks=1)
    server.tarball = other.tarball()
    assert (await store.get(MACHINE)).tarball.members == other.files
    assert [server.header("if-none-match", number) for number in (-2, -1)] == ['"one"', None]


async def test_a_304_without_a_tag_is_taken(key_servers: KeyServers) -> None:
    """Servers should send it, and some do not."""
    server = await key_servers.server()
    store = key_servers.store(server)
    await store.get(MACHINE)
    server.answer = lambda request: request.setResponseCode(304) or b""
    assert (await store.get(MACHINE)).how == "revalidated"


@pytest.mark.parametrize(("age", "how"), [(0, "fetched"), (1, "fetched"), (3, "revalidated"), (-3, "fetched")])
async def test_a_file_written_just_now_is_sent_again(key_servers: KeyServers, age: int, how: str) -> None:
    """ETags as nginx makes them do not show a second change within the same second."""
    server = await key_servers.server()
    store = key_servers.store(server)
    now = time.time()
    last_modified = datetimeToString(now - age).decode()
    server.answer = tagged(server, '"one"', date=datetimeToString(now).decode(), last_modified=last_modified)
    await store.get(MACHINE)
    assert (await store.get(MACHINE)).how == how


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov", "\xff"])
async def test_times_that_are_none_change_nothing(key_servers: KeyServers, date: str) -> None:
    """The ETag stands."""
    server = await key_servers.server()
    store = key_servers.store(server)
    server.answer = tagged(server, '"one"', last_modified=date)
    await store.get(MACHINE)
    assert (await store.get(MACHINE)).how == "revalidated"
