"""Entries for people: the newest, by a file's SHA-256, and one; of machines that somebody may see, in bounded steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from digsigd.record import lookup
from digsigd.record.database import Database, sqlite_url
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending
from tests.helpers.postgres import Postgres
from tests.record.logs import OPEN, edit

SUM = "ab" * 32


def everything(_: str) -> bool:
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "record.sqlite")
        return
    postgres = Postgres()
    yield postgres.url
    while OPEN:
        OPEN.pop().close()
    postgres.remove()


def opened(url: str, folder: Path) -> Log:
    database = Database(url)
    OPEN.append(database)
    database.upgrade()
    return Log(database, StateFolder(folder).key())


def add(log: Log, *machines: str, blob: str = "", artifact: str = "", minute: int = 0, second: int = 0) -> None:
    for number, machine in enumerate(machines):
        values = {
            "outcome": "signed",
            "machine": machine,
            "blob": {"sha256": blob},
            "artifacts": [{"sha256": artifact}],
        }
        time = f"2026-01-01T00:{minute + number:02}:{second:02}.000Z"
        log.append([Pending(Entry(Entry.new({}).id, time, values))])


def names(found: list[lookup.Decision]) -> list[str]:
    return [one.machine for one in found]


def test_the_newest_of_all_hosts_come_first(url: str, tmp_path: Path) -> None:
    """By their time, however many hosts share the database; and no more of each log is looked at than is said."""
    first, second = opened(url, tmp_path / "a"), opened(url, tmp_path / "b")
    add(first, "a0", "a1", "a2")
    add(second, "b0", "b1", minute=1, second=30)
    assert names(lookup.newest(url, everything, shown_at_most=9, looked_at=9)) == ["b1", "a2", "b0", "a1", "a0"]
    assert names(lookup.newest(url, everything, shown_at_most=2, looked_at=9)) == ["b1", "a2"]
    assert names(lookup.newest(url, everything, shown_at_most=9, looked_at=1)) == ["b1", "a2"]
    only = lookup.newest(url, lambda one: one.startswith("a"), shown_at_most=2, looked_at=9)
    assert names(only) == ["a2", "a1"]
    assert only[0].record == first.record_id(2)


def test_a_file_is_found_by_its_blob_and_its_image(url: str, tmp_path: Path) -> None:
    """The newest first, each once, and only of machines that may be seen."""
    log = opened(url, tmp_path / "a")
    add(log, "m0", "m1", blob=SUM)
    add(log, "m2", artifact=SUM, minute=2)
    add(log, "m3", blob=SUM, artifact=SUM, minute=3)
    add(log, "other", minute=4)
    assert names(lookup.by_sha256(url, SUM, everything, most=9)) == ["m3", "m2", "m1", "m0"]
    assert names(lookup.by_sha256(url, SUM, lambda one: one == "m2", most=9)) == ["m2"]
    assert names(lookup.by_sha256(url, SUM, everything, most=1)) == ["m3"]
    assert lookup.by_sha256(url, "cd" * 32, everything, most=9) == []
    assert lookup.by_sha256(url, "", everything, most=9) == []


def test_one_entry_is_found_by_its_id(url: str, tmp_path: Path) -> None:
    """Not with another's key, nor at a place that does not exist, nor of a machine that may not be seen."""
    log = opened(url, tmp_path / "a")
    add(log, "m0", "m1")
    found = lookup.by_record(url, log.record_id(1), everything)
    assert found is not None
    assert (found.machine, found.record) == ("m1", log.record_id(1))
    assert lookup.by_record(url, log.record_id(1), lambda one: one == "m0") is None
    for wrong in ("", "1", f"{log.hash}.", f"{log.hash}.2", "00000000.1", f"{log.hash}.-1", f"{log.hash}.{'9' * 30}"):
        assert lookup.by_record(url, wrong, everything) is None, wrong


def test_pruned_entries_are_left_out(tmp_path: Path) -> None:
    """Their content is in an export."""
    url = sqlite_url(tmp_path / "record.sqlite")
    log = opened(url, tmp_path / "a")
    add(log, "m0", "m1", blob=SUM)
    edit(tmp_path, "UPDATE entry SET data = NULL WHERE position = 0")
    assert names(lookup.newest(url, everything, shown_at_most=9, looked_at=9)) == ["m1"]
    assert names(lookup.by_sha256(url, SUM, everything, most=9)) == ["m1"]
    assert lookup.by_record(url, log.record_id(0), everything) is None


@pytest.mark.parametrize(
    "look",
    [
        lambda url: lookup.newest(url, everything, shown_at_most=1, looked_at=1),
        lambda url: lookup.by_sha256(url, SUM, everything, most=1),
        lambda url: lookup.by_record(url, "00000000.1", everything),
    ],
)
def test_what_is_not_a_record_is_told(look: Callable[[str], object], tmp_path: Path) -> None:
    """A missing file, and a database of something else; nothing is made."""
    with pytest.raises(RecordError):
        look(sqlite_url(tmp_path / "none.sqlite"))
    assert list(tmp_path.iterdir()) == []
    sqlite3.connect(tmp_path / "other.sqlite").close()
    with pytest.raises(RecordError):
        look(sqlite_url(tmp_path / "other.sqlite"))


def test_no_search_reads_the_whole_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes by an index, and the newest by their places."""
    url = sqlite_url(tmp_path / "record.sqlite")
    log = opened(url, tmp_path / "a")
    add(log, "m0", blob=SUM, artifact=SUM)
    planned: dict[str, str] = {}
    ask = Database.all

    def explained(self: Database, statement: str, values: Sequence[object] = ()) -> list[Any]:
        if " entry " in statement:
            planned[statement] = "; ".join(row[3] for row in ask(self, f"EXPLAIN QUERY PLAN {statement}", values))
        return ask(self, statement, values)

    monkeypatch.setattr(Database, "all", explained)
    lookup.by_sha256(url, SUM, everything, most=9)
    lookup.newest(url, everything, shown_at_most=9, looked_at=9)
    assert len(planned) == 3
    plans = list(planned.values())
    assert "entry_blob (blob=?" in plans[0]
    assert "entry_artifact (artifact=? AND log=?)" in plans[1]
    assert "sqlite_autoindex_entry_1 (log=?)" in plans[2]
    assert not any("SCAN" in one for one in plans)
    assert "TEMP B-TREE" not in plans[1] + plans[2]


def test_a_record_of_the_first_form_gets_the_index(tmp_path: Path) -> None:
    """At the next start; its entries stay."""
    url = sqlite_url(tmp_path / "record.sqlite")
    log = opened(url, tmp_path / "a")
    add(log, "m0", artifact=SUM)
    while OPEN:
        OPEN.pop().close()
    edit(tmp_path, "DROP INDEX entry_artifact", "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(RecordError):
        lookup.by_sha256(url, SUM, everything, most=1)
    opened(url, tmp_path / "a")
    assert names(lookup.by_sha256(url, SUM, everything, most=1)) == ["m0"]
