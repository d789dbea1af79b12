"""Crashes, full and read-only disks, and damaged databases: what was answered is in the record, and it verifies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from digsigd.record.audit import audit
from digsigd.record.database import Database, sqlite_url
from digsigd.record.entry import Entry, read
from digsigd.record.errors import RecordError, RecordUnavailable
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending, logs_of
from digsigd.record.recorder import DatabaseRecorder, record_url
from tests.record.logs import new_log

ROUNDS = 200


def test_a_writer_that_is_killed_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """At 200 random moments, with SIGKILL."""
    seed = int.from_bytes(os.urandom(4))
    done = subprocess.run(
        [sys.executable, "-m", "tests.record.killed", tmp_path, str(ROUNDS), str(seed)],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    assert done.stderr == "", f"seed {seed}"
    database = Database(sqlite_url(tmp_path / "record.sqlite"), read_only=True)
    (log,) = logs_of(database)
    state = StateFolder(tmp_path)
    last = state.last(state.key())
    assert audit(log, [last] if last else []).problems == [], f"seed {seed}"
    recorded = [row[0] for row in database.all("SELECT request FROM entry")]
    database.close()
    answered = done.stdout.split()
    assert answered
    assert set(answered) <= set(recorded), f"seed {seed}"
    assert len(recorded) == len(set(recorded))


def the_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


async def fill(recorder: DatabaseRecorder, confirmed: list[str]) -> None:
    """Write entries, far more than there is room for, and note which are confirmed."""
    for number in range(2000):
        await recorder.write(Entry.new({"outcome": "signed", "request": str(number), "reason": "x" * 900}))
        confirmed.append(str(number))


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k,mode=0700", "tmpfs", folder], check=True)
    yield folder
    # Lazily: a failed test may have left something open.
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_stops_the_record_until_there_is_room(small_disk: Path) -> None:
    """Entries that do not fit fail, those that were confirmed stay, and writing goes on without a restart."""
    filling = small_disk / "filling"
    filling.write_bytes(bytes(250 << 10))
    recorder = DatabaseRecorder(
        record_url(None, StateFolder(small_disk)), folder=StateFolder(small_disk), reactor=the_reactor(), timeout=60.0
    )
    recorder.start()
    confirmed: list[str] = []
    with pytest.raises(RecordUnavailable):
        await fill(recorder, confirmed)
    assert confirmed
    assert recorder.missing()
    filling.unlink()
    await recorder.write(Entry.new({"outcome": "signed", "request": "after"}))
    assert recorder.missing() == []
    await deferToThread(recorder.stop)
    database = Database(sqlite_url(small_disk / "record.sqlite"), read_only=True)
    (log,) = logs_of(database)
    assert audit(log).problems == []
    recorded = [row[0] for row in database.all("SELECT request FROM entry WHERE outcome = 'signed' ORDER BY position")]
    database.close()
    assert [one for one in recorded if one in {*confirmed, "after"}] == [*confirmed, "after"]


async def test_a_read_only_disk_stops_the_record(small_disk: Path) -> None:
    """As long as it is read-only."""
    new_log(small_disk, 3).database.close()
    recorder = DatabaseRecorder(
        sqlite_url(small_disk / "record.sqlite"), folder=StateFolder(small_disk), reactor=the_reactor(), timeout=60.0
    )
    remount(small_disk, "ro")
    recorder.start()
    try:
        with pytest.raises(RecordUnavailable):
            await recorder.write(Entry.new({"outcome": "signed"}))
        remount(small_disk, "rw")
        assert (await recorder.write(Entry.new({"outcome": "signed"}))).endswith(".3")
    finally:
        remount(small_disk, "rw")
        await deferToThread(recorder.stop)


def test_a_record_that_was_changed_or_cut_is_not_continued(tmp_path: Path) -> None:
    """Neither with a head that differs from its tree, nor with fewer entries than the last checkpoint."""
    state = StateFolder(tmp_path)
    log = new_log(tmp_path, 8)
    log.database.execute("UPDATE entry SET leaf = zeroblob(32) WHERE position < 4")
    log.database.execute("UPDATE node SET hash = zeroblob(32) WHERE level = 3")
    again = Log(log.database, state.key())
    with pytest.raises(RecordError, match="not those of this host"):
        again.check(state.last(state.key()))
    with pytest.raises(RecordError, match="does not match its own root"):
        again.append([Pending(Entry.new({}))])
    log.database.execute("UPDATE log SET size = 5")
    with pytest.raises(RecordError, match="has made a checkpoint of 8"):
        again.check(state.last(state.key()))


def test_others_may_neither_read_the_key_nor_write_beside_it(tmp_path: Path) -> None:
    """A key or a folder with other permissions is refused."""
    state = StateFolder(tmp_path / "state")
    state.key()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "state/record.key").chmod(0o640)
    with pytest.raises(RecordError, match="can be read by others"):
        state.key()
    (tmp_path / "state").chmod(0o770)
    with pytest.raises(RecordError, match="can be written by others"):
        state.key()


async def test_an_entry_that_was_written_after_all_is_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request was answered 503, because the commit seemed to fail: the next entry comes with one that says so."""
    append, lost = Log.append, iter([True])

    def committed_but_lost(self: Log, pending: list[Pending]) -> tuple[list[int], str]:
        done = append(self, pending)
        if next(lost, False):
            error = RecordUnavailable("the connection is lost")
            error.unsure = True
            raise error
        return done

    monkeypatch.setattr(Log, "append", committed_but_lost)
    recorder = DatabaseRecorder(
        record_url(None, StateFolder(tmp_path)), folder=StateFolder(tmp_path), reactor=the_reactor()
    )
    recorder.start()
    with pytest.raises(RecordUnavailable):
        await recorder.write(Entry.new({"outcome": "signed", "request": "first"}))
    second = await recorder.write(Entry.new({"outcome": "signed", "request": "second"}))
    await deferToThread(recorder.stop)
    database = Database(sqlite_url(tmp_path / "record.sqlite"), read_only=True)
    rows = [read(bytes(row[0])) for row in database.all("SELECT data FROM entry ORDER BY position")]
    database.close()
    assert [(one["outcome"], one.get("request")) for one in rows] == [
        ("signed", "first"),
        ("withdrawn", None),
        ("signed", "second"),
    ]
    key = second.partition(".")[0]
    assert (rows[1]["withdraws"], second) == (f"{key}.0", f"{key}.2")
