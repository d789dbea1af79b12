"""The record in a real PostgreSQL that is stopped and started while daemons write."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from digsigd.record.audit import audit
from digsigd.record.checkpoint import open_checkpoint
from digsigd.record.database import Database
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending, logs_of
from digsigd.record.recorder import DatabaseRecorder
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.postgres import Postgres


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    one = Postgres()
    yield one
    one.remove()


def entries(url: str) -> list[dict[str, Any]]:
    """All entries of all logs, each of which verifies."""
    database = Database(url, read_only=True)
    for log in logs_of(database):
        assert audit(log).problems == []
    found = database.all("SELECT data FROM entry ORDER BY log, position")
    database.close()
    return [json.loads(bytes(row[0])) for row in found]


def test_daemons_with_one_key_share_a_log(postgres: Postgres, tmp_path: Path) -> None:
    """Each appends behind what the others have appended, though each expects to find the end where it left it."""
    state = StateFolder(tmp_path / "state")
    first = Database(postgres.url)
    first.upgrade()
    first.close()
    logs = [Log(Database(postgres.url), state.key()) for _ in range(3)]
    positions = []
    for number in (0, 0, 0, 1, 2, 0, 1, 1, 1, 2, 2, 0):
        found, note = logs[number].append([Pending(Entry.new({"outcome": "signed"})) for _ in range(number + 1)])
        positions += found
        assert open_checkpoint(note, state.key().verifier).size == len(positions)
    assert positions == list(range(22))
    assert len(entries(postgres.url)) == 22
    for one in logs:
        one.database.close()


async def test_under_load_none_is_lost_and_none_is_there_twice(postgres: Postgres, tmp_path: Path) -> None:
    """Two hosts with four clients each write, while the server crashes and starts again several times."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    answered: set[str] = set()
    failed: set[str] = set()
    recorders = [
        DatabaseRecorder(postgres.url, folder=StateFolder(tmp_path / f"host{number}"), reactor=reactor, timeout=1.5)
        for number in range(2)
    ]
    over = False

    async def client(recorder: DatabaseRecorder, name: str) -> None:
        number = 0
        while not over:
            number += 1
            request = f"{name}-{number}"
            try:
                await recorder.write(Entry.new({"outcome": "signed", "request": request}))
                answered.add(request)
            except RecordError:
                failed.add(request)

    for one in recorders:
        one.start()
    clients = [
        Deferred.fromCoroutine(client(one, f"{host}-{number}"))
        for host, one in enumerate(recorders)
        for number in range(4)
    ]
    chance = random.Random(5)
    for down in (0.2, 3.0, 0.2, 0.0, 2.5, 0.1):
        await deferLater(reactor, 0.3 + chance.random() / 2)
        await deferToThread(postgres.stop)
        await deferLater(reactor, down)
        await deferToThread(postgres.start)
    await deferLater(reactor, 1.0)
    over = True
    await gatherResults(clients)
    # Entries that were given up are looked for, and withdrawn, with the next that is written.
    for number, one in enumerate(recorders):
        for attempt in range(20):
            request = f"last-{number}-{attempt}"
            try:
                await one.write(Entry.new({"outcome": "signed", "request": request}))
                break
            except RecordError:  # a busy machine may take longer than the limit
                failed.add(request)
        assert one.missing() == []
        await deferToThread(one.stop)
    found = entries(postgres.url)
    by_id = {}
    database = Database(postgres.url, read_only=True)
    for log in logs_of(database):
        for position, data in database.all("SELECT position, data FROM entry WHERE log = ?", (log.number,)):
            by_id[log.record_id(position)] = json.loads(bytes(data))
    database.close()
    withdrawn = {by_id[one["withdraws"]]["request"] for one in found if one["outcome"] == "withdrawn"}
    signed = [one["request"] for one in found if one["outcome"] == "signed"]
    assert len(signed) == len(set(signed))
    assert answered <= set(signed)
    assert not answered & withdrawn
    assert failed & set(signed) == withdrawn
    assert answered
    assert failed


def test_a_daemon_signs_only_while_its_record_can_be_written(
    postgres: Postgres, tmp_path: Path, cst_base: Path, pki: TrialPki
) -> None:
    """503 and not ready while the server is down, and again 200 without a restart of the daemon."""
    config = f'[record]\nurl = "{postgres.url}"\ntimeout = 15\n'
    daemon = Daemon(tmp_path, cst_base, config, environ={"STATE_DIRECTORY": str(tmp_path / "state")})
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        answer = daemon.post(pki)
        assert answer.status_code == 200
        postgres.stop()
        assert daemon.post(pki).status_code == 503
        daemon.wait_for(lambda: httpx.get(f"{daemon.url}/readyz").status_code == 503)
        postgres.start()
        daemon.wait_for(lambda: httpx.get(f"{daemon.url}/readyz").status_code == 200)
        assert daemon.post(pki).status_code == 200
    finally:
        daemon.stop()
    assert [one["outcome"] for one in entries(postgres.url) if one["outcome"] != "withdrawn"].count("signed") >= 2
