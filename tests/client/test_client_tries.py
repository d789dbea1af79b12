"""Asking again: what is worth it, how often, how soon, and what is heard of it."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from digsigd.client._internal.api import ClientError, ServerFailed, ServerUnreachable
from tests.client.conftest import MakeClient, Serve
from tests.helpers.hostile_servers import answer, problem, then_close, turned, until
from tests.http.clocked import ClockedReactor

Order = dict[str, Any]
GOOD = answer(200, b"\xd4\x00\x50\x43" + b"x" * 100, "application/octet-stream")


@pytest.mark.parametrize(
    "said",
    [
        problem(503, "busy"),
        problem(408, "upload-timeout"),
        problem(502, "key-store-failed"),
        problem(504, "cst-timeout"),
        problem(500, "cst-failed"),
        problem(500, "internal-error"),
        answer(429),
        answer(502, b"<html>", "text/html"),
        then_close(b""),
        then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
        then_close(GOOD[:-1]),
    ],
)
async def test_what_may_pass_is_tried_again(serve: Serve, client: MakeClient, order: Order, said: Any) -> None:
    """With the whole upload, an id of its own for each try, and a word about why."""
    server = await serve(said, said, GOOD)
    heard: list[str] = []
    sent: list[tuple[int, int]] = []
    one = client(server.url, retries=4, on_retry=heard.append, progress=lambda *now: sent.append(now))
    signed = await one.sign(**order)
    assert len(server.connections) == 3
    assert len({len(connection.body) for connection in server.connections}) == 1
    ids = [connection.header("x-request-id") for connection in server.connections]
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]
    assert signed.request_id == ids[2]
    assert len(heard) == 2
    assert "(2 of 4)" in heard[1]
    assert [now for now, total in sent].count(sent[-1][1]) == 3


@pytest.mark.parametrize(
    "said",
    [
        problem(500, "verification-failed"),
        problem(500, "bad-key-tarball"),
        problem(500, "token-failed"),
        answer(500, b"something"),
        answer(501),
        answer(505),
        problem(400, "bad-request"),
        problem(422, "refused"),
        answer(404),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(
    serve: Serve, client: MakeClient, order: Order, said: bytes
) -> None:
    """A result that failed verification, among others."""
    server = await serve(said, GOOD)
    with pytest.raises(ClientError):
        await client(server.url, retries=4).sign(**order)
    assert len(server.connections) == 1


async def test_it_ends_after_as_many_tries_as_are_set(serve: Serve, client: MakeClient, order: Order) -> None:
    """With the last one's reason and how many there were."""
    server = await serve(problem(503, "busy", "come back later"))
    with pytest.raises(ServerFailed, match=r"come back later \(3 tries\)") as caught:
        await client(server.url, retries=2).sign(**order)
    assert (caught.value.status, caught.value.problem) == (503, "busy")
    assert len(server.connections) == 3
    with pytest.raises(ServerFailed, match=r"come back later \["):
        await client(server.url, retries=0).sign(**order)
    with pytest.raises(ServerUnreachable, match=r"refuses connections \(2 tries\)"):
        await client("http://127.0.0.1:1", retries=1).sign(**order)


@pytest.mark.parametrize(
    "more",
    [
        {"retry_after": "1"},
        {"retry_after": formatdate(1_000_001, usegmt=True), "date": formatdate(1_000_000, usegmt=True)},
    ],
)
async def test_a_server_is_left_alone_for_as_long_as_it_wants(
    serve: Serve, client: MakeClient, order: Order, time: ClockedReactor, more: dict[str, str]
) -> None:
    """In seconds, or until a date by its own clock."""
    server = await serve(problem(503, "busy", **more), GOOD)
    heard: list[str] = []
    one = client(server.url, reactor=time, retries=4, on_retry=heard.append)
    signing = Deferred.fromCoroutine(one.sign(**order))
    await until(lambda: bool(heard))
    assert "next try in 1 s" in heard[0]
    time.advance(0.9)
    await turned()
    assert len(server.connections) == 1
    time.advance(0.1)
    await signing
    assert len(server.connections) == 2


@pytest.mark.parametrize("wish", ["0", "-1", "soon", "Xyz, 99 Foo 2020 99:99:99", "1e3", "²", "", "\xff" * 500])
async def test_a_wish_that_is_none_is_not_heard(serve: Serve, client: MakeClient, order: Order, wish: str) -> None:
    """The pause is our own."""
    server = await serve(problem(503, "busy", retry_after=wish), GOOD)
    heard: list[str] = []
    await client(server.url, retries=1, on_retry=heard.append).sign(**order)
    assert "next try in 0 s" in heard[0]
    assert len(server.connections) == 2


@pytest.mark.parametrize("wish", ["120", "9" * 400, formatdate(4e9, usegmt=True)])
async def test_a_wish_beyond_the_time_there_is_ends_the_call(
    serve: Serve, client: MakeClient, order: Order, wish: str
) -> None:
    """At once: nobody waits for a try that will not be."""
    server = await serve(problem(503, "busy", retry_after=wish), GOOD)
    with pytest.raises(ServerFailed, match=r"1 try; the next would be in (120|600) s"):
        await client(server.url, retries=4, timeout=60).sign(**order)
    assert len(server.connections) == 1


async def test_the_timeout_bounds_all_tries(
    serve: Serve, client: MakeClient, order: Order, time: ClockedReactor
) -> None:
    """What ended the last one is told."""
    server = await serve(problem(503, "busy", "come back later"), lambda _: None)
    heard: list[str] = []
    one = client(server.url, reactor=time, retries=4, timeout=100, on_retry=heard.append)
    signing = Deferred.fromCoroutine(one.sign(**order))
    await until(lambda: bool(heard))
    time.advance(1)
    await until(lambda: len(server.connections) == 2 and server.connections[1].asked)
    time.advance(98)
    assert not signing.called
    time.advance(1)
    with pytest.raises(ServerUnreachable, match=r"within 100 s; before that: come back later"):
        await signing
    assert len(server.connections) == 2


async def test_a_pause_can_be_cancelled(serve: Serve, client: MakeClient, order: Order, time: ClockedReactor) -> None:
    """Then there is no other try."""
    server = await serve(problem(503, "busy", retry_after="1"), GOOD)
    heard: list[str] = []
    one = client(server.url, reactor=time, retries=4, on_retry=heard.append)
    signing = Deferred.fromCoroutine(one.sign(**order))
    await until(lambda: bool(heard))
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    time.advance(1000)
    await turned()
    assert len(server.connections) == 1


async def test_questions_are_tried_again_as_well(serve: Serve, client: MakeClient) -> None:
    """But for a host that says that it is not ready: that is an answer."""
    ready = answer(200, b'{"ok": true, "missing": []}', "application/json")
    not_ready = answer(503, b'{"ok": false, "missing": ["the\\u001b moon"]}', "application/json")
    server = await serve(answer(502), ready, not_ready)
    one = client(server.url, retries=4)
    assert await one.ready() == []
    assert await one.ready() == [r"the\x1b moon"]
    assert len(server.connections) == 3
