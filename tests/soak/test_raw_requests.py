"""Bytes in place of requests, thousands of them: none is a fault of the daemon, none holds it up, nothing is left."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import httpx

from digsigd.testing import TrialPki
from tests.daemon.test_wire import address, form_of
from tests.helpers.daemons import DEADLINE, Daemon, Start
from tests.soak.figures import Figures
from tests.soak.mutations import Mutations
from tests.soak.scale import Scale

# How many at a time; how long a client waits for an answer, and then for more before it leaves, in seconds. The longest
# limit of the daemon is that for headers, 10 s.
_AT_ONCE, _WAIT, _PATIENCE = 48, 30, 0.3
CONFIG = "[listen]\nmax_connections = 300\n[upload]\nidle_timeout = 2\ntimeout = 4\nmax_artifact = 1_000_000\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


async def sent(daemon: Daemon, data: bytes) -> tuple[bytes, bool]:
    """What comes back, and whether the daemon closed the connection or had to be left."""
    answer, closed = b"", True
    try:
        reader, writer = await asyncio.open_connection(*address(daemon))
        writer.write(data)
        try:
            while piece := await asyncio.wait_for(reader.read(1 << 16), _WAIT if not answer else _PATIENCE):
                answer += piece
        except TimeoutError:
            closed = False
        writer.transport.abort()
    except OSError:
        pass  # refused while it was still sent
    return answer, closed


async def all_sent(daemon: Daemon, mutations: Mutations, seeds: range, told: Counter[str]) -> list[int]:
    """Send them all. Returns the numbers of those that were told a 5xx that is none of being busy."""
    turns = asyncio.Semaphore(_AT_ONCE)
    bad = []

    async def one(seed: int) -> None:
        async with turns:
            answer, closed = await sent(daemon, mutations.request(seed))
        statuses = _STATUS.findall(answer)
        for status in statuses:
            told[status.decode()] += 1
        told["closed without a word" if closed else "left without a word"] += not statuses
        if any(status.startswith(b"5") and status != b"503" for status in statuses):
            bad.append(seed)

    async def ready() -> None:
        async with httpx.AsyncClient(timeout=DEADLINE) as client:
            while True:
                assert (await client.get(f"{daemon.url}/readyz")).status_code == 200
                await asyncio.sleep(0.1)

    between = asyncio.create_task(ready())
    await asyncio.gather(*(one(seed) for seed in seeds))
    if between.done():
        between.result()
    between.cancel()
    return bad


def test_no_request_is_a_fault(scale: Scale, figures: Figures, start: Start, pki: TrialPki) -> None:
    """No 500, each is answered or closed, /readyz answers meanwhile; no file, descriptor, thread or process is left."""
    daemon = start(CONFIG)
    headers, body = form_of(pki)
    mutations = Mutations(b"POST /sign/imx HTTP/1.1\r\nHost: a\r\n" + headers.strip(), body)
    for _ in range(20):
        assert daemon.post(pki).status_code == 200
    before = len(daemon.descriptors())
    told: Counter[str] = Counter()
    seeds = range(scale.seed, scale.seed + scale.raw)
    bad = asyncio.run(all_sent(daemon, mutations, seeds, told))
    figures.add(
        "Requests of the fuzzers",
        kind="raw bytes", seed=scale.seed, requests=scale.raw,
        answers=", ".join(f"{count} x {what}" for what, count in sorted(told.items()) if count),
    )  # fmt: skip
    assert bad == [], [mutations.request(one)[:300] for one in bad[:3]]
    check_clean(daemon, pki, before)
    assert told["left without a word"] == 0, told
    assert told["200"] > scale.raw / 50, told


def check_clean(daemon: Daemon, pki: TrialPki, descriptors: int) -> None:
    """Nothing is left of requests, nothing unexpected is in the log, and a good one is signed."""
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.wait_for(lambda: len(daemon.descriptors()) <= descriptors + 2, what="as few descriptors as before")
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
    daemon.wait_for(lambda: children.read_text().split() == [], what="no process")
    threads = len(list(Path(f"/proc/{daemon.pid}/task").iterdir()))
    assert threads <= 40, threads
    assert not re.search("nhandled|Traceback|critical|unexpected", daemon.log()), daemon.log()[-5000:]
    assert daemon.post(pki).status_code == 200
