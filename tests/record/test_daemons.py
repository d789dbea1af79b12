"""Whole daemons that are killed, and whose database stalls, fills up or is damaged, while clients are answered."""

from __future__ import annotations

import json
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from digsigd.admin.main import main
from digsigd.record.audit import audit
from digsigd.record.database import Database, sqlite_url
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import logs_of
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.postgres import Postgres
from tests.record.clients import Clients
from tests.soak.figures import Figures
from tests.soak.scale import Scale


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    one = Postgres()
    yield one
    one.remove()


def daemon_in(folder: Path, cst_base: Path, pki: TrialPki, config: str = "", state: Path | None = None) -> Daemon:
    one = Daemon(folder, cst_base, config, environ={"STATE_DIRECTORY": str(state or folder / "state")})
    one.put_keys(MACHINE, pki.tarball())
    return one


def signed_in(url: str, state: Path) -> Counter[str]:
    """How often each CSF blob is in a record, which verifies; without those that were withdrawn."""
    database = Database(url, read_only=True)
    (log,) = logs_of(database)
    folder = StateFolder(state)
    last = folder.last(folder.key())
    assert audit(log, [last] if last else []).problems == []
    rows = database.all("SELECT position, data FROM entry ORDER BY position")
    database.close()
    found = {log.record_id(position): json.loads(bytes(data)) for position, data in rows}
    for one in [one for one in found.values() if one["outcome"] == "withdrawn"]:
        del found[one["withdraws"]]
    return Counter(one["blob"]["sha256"] for one in found.values() if one["outcome"] == "signed")


def check_all_recorded(clients: Clients, url: str, state: Path) -> None:
    """Each answer is in the record once, and nothing is there twice."""
    found = signed_in(url, state)
    assert set(clients.answered()) <= set(found)
    assert set(found.values()) <= {1}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_daemon_that_is_killed_has_recorded_what_it_answered(
    kind: str, postgres: Postgres, tmp_path: Path, cst_base: Path, pki: TrialPki, scale: Scale, figures: Figures
) -> None:
    """SIGKILL at random moments while requests are under way; after each start the record verifies and is continued."""
    state = tmp_path / "state"
    url = postgres.url if kind == "postgresql" else sqlite_url(state / "record.sqlite")
    daemon = daemon_in(tmp_path, cst_base, pki, f'[record]\nurl = "{url}"\n').start()
    chance = random.Random(scale.seed)
    again: list[float] = []
    # Of the record in PostgreSQL fewer: it is the daemon that dies, and the database that lives.
    kills = scale.kills if kind == "sqlite" or not scale.is_soak else scale.kills // 10
    ends = time.monotonic() + scale.kill_seconds
    with Clients(daemon, pki) as clients:
        for number in range(kills):
            if time.monotonic() > ends:
                break
            answered = clients.count(200)
            daemon.wait_for(lambda n=answered: clients.count(200) > n)
            time.sleep(chance.random() * 0.2)
            daemon.stop(signal.SIGKILL)
            killed = time.monotonic()
            if number % 10 == 0 or not scale.is_soak:
                # It reads the whole record.
                check_all_recorded(clients, url, state)
                killed = time.monotonic()
            daemon.start()
            daemon.wait_for(lambda at=killed: clients.signs_since(at) is not None)
            again.append(clients.signs_since(killed) or 0.0)
        answered = clients.count(200)
        daemon.wait_for(lambda n=answered: clients.count(200) > n)
    daemon.stop()
    figures.faults(f"kill -9, {len(again)} times, record in {kind}", clients, sum(again) / len(again))
    assert clients.reset, f"seed {scale.seed}"
    assert clients.wrong == []
    check_all_recorded(clients, url, state)


def test_a_postgresql_that_stalls_holds_up_nobody_for_ever(
    postgres: Postgres, tmp_path: Path, cst_base: Path, pki: TrialPki
) -> None:
    """503 while all its processes are stopped, twice; then 200 without a restart, and nothing lost or there twice."""
    state = tmp_path / "state"
    daemon = daemon_in(tmp_path, cst_base, pki, f'[record]\nurl = "{postgres.url}"\ntimeout = 1\n').start()
    with Clients(daemon, pki) as clients:
        for _ in range(2):
            answered, refused = clients.count(200), clients.count(503)
            daemon.wait_for(lambda n=answered: clients.count(200) > n + 4)
            postgres.stall()
            try:
                daemon.wait_for(lambda n=refused: clients.count(503) > n + 4)
            finally:
                postgres.go_on()
        answered = clients.count(200)
        daemon.wait_for(lambda n=answered: clients.count(200) > n + 4)
    daemon.stop()
    assert set(clients.statuses) == {200, 503}
    check_all_recorded(clients, postgres.url, state)


def test_a_damaged_page_is_named_and_nothing_is_signed_without_an_entry(
    tmp_path: Path, cst_base: Path, pki: TrialPki, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `digsigd record verify`, in whatever state the daemon is; what it answers with 200 is recorded."""
    state = tmp_path / "state"
    path = state / "record.sqlite"
    daemon = daemon_in(tmp_path, cst_base, pki).start()
    for _ in range(12):
        assert daemon.post(pki).status_code == 200
    daemon.stop()
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    wanted = database.execute("SELECT id FROM entry WHERE position = 5").fetchone()[0].encode()
    database.close()
    data = bytearray(path.read_bytes())
    # In the table, not in an index: there the id is in JSON.
    page = data.index(b'"id":"' + wanted) // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    daemon.start()
    answers = [daemon.post(pki) for _ in range(3)]
    daemon.stop()
    assert {one.status_code for one in answers} <= {200, 503}
    assert main(["record", "verify", "--folder", str(state)]) == 1
    said = capsys.readouterr().out
    named = [
        range(int(begin), int(end or begin) + 1) for begin, end in re.findall(r"records? (\d+)(?: to (\d+))? ", said)
    ]
    assert any(5 in one for one in named), said
    for one in answers:
        if one.status_code == 200:
            assert main(["record", "show", one.headers["X-Digsigd-Record"], "--folder", str(state)]) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_signing_until_there_is_room(
    small_disk: Path, tmp_path: Path, cst_base: Path, pki: TrialPki
) -> None:
    """503 while nothing fits; then 200 without a restart, and nothing lost or there twice."""
    daemon = daemon_in(tmp_path, cst_base, pki, state=small_disk).start()
    with Clients(daemon, pki) as clients:
        daemon.wait_for(lambda: clients.count(200) > 4)
        filling = small_disk / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        daemon.wait_for(lambda: clients.count(503) > 4)
        filling.unlink()
        answered = clients.count(200)
        daemon.wait_for(lambda: clients.count(200) > answered + 4)
    daemon.stop()
    assert set(clients.statuses) == {200, 503}
    check_all_recorded(clients, sqlite_url(small_disk / "record.sqlite"), small_disk)
