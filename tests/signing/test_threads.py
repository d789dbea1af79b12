"""Blocking work that a cancelled request still waits for."""

from __future__ import annotations

import threading

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.threadpool import ThreadPool

from digsigd.errors import Busy
from digsigd.signing.threads import InThread, in_threads_of


async def test_a_call_gives_its_result(in_thread: InThread) -> None:
    """From another thread, with its arguments."""

    def called(a: int, *, b: int) -> tuple[str, int]:
        return threading.current_thread().name, a + b

    name, total = await in_thread(called, 1, b=2)
    assert total == 3
    assert name != threading.current_thread().name


async def test_a_call_gives_its_error(in_thread: InThread) -> None:
    """As it was raised."""

    def failing() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await in_thread(failing)


async def test_a_call_after_the_end_fails(in_thread: InThread) -> None:
    """Instead of waiting for a thread that nobody starts."""
    pool = ThreadPool(0, 1)
    pool.start()
    pool.stop()
    with pytest.raises(Busy):
        await in_threads_of(reactor, pool)(int)  # type: ignore[arg-type]


async def test_a_cancelled_call_ends_before_its_deferred(in_thread: InThread) -> None:
    """Whoever cleans up afterwards finds nobody still at work."""
    go, ended = threading.Event(), threading.Event()

    def working() -> None:
        go.wait(30)
        ended.set()

    calling = in_thread(working)
    seen: list[bool] = []

    async def request() -> None:
        try:
            await calling
        finally:
            seen.append(ended.is_set())

    asking = Deferred.fromCoroutine(request())
    asking.cancel()
    await deferLater(reactor, 0.05)
    assert seen == []
    go.set()
    with pytest.raises(CancelledError):
        await asking
    assert seen == [True]
