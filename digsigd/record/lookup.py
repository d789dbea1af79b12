"""Look entries up for people: a bounded number of rows, however long the record is. It blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from digsigd.record.database import SCHEMA, Database, shown
from digsigd.record.entry import read
from digsigd.record.errors import RecordError
from digsigd.record.log import LogReader, logs_of

SHA256 = re.compile(r"[0-9a-f]{64}")
# In seconds: nobody waits longer for a page.
_TIMEOUT = 5.0
# A database has one log for each host that records in it. The newest logs are looked at.
_MOST_LOGS = 64


@dataclass(frozen=True, slots=True)
class Decision:
    """An entry: `record` is the id that its answer had, `values` are its members as they were recorded."""

    record: str
    values: dict[str, Any]

    @property
    def machine(self) -> str:
        """The machine that was signed for; empty if the request was refused before it was known."""
        return str(self.values.get("machine", ""))

    @property
    def time(self) -> str:
        """When it was decided: ISO 8601 in UTC."""
        return str(self.values.get("time", ""))


def newest(url: str, allowed: Callable[[str], bool], *, shown_at_most: int, looked_at: int) -> list[Decision]:
    """Return the newest decisions for machines that `allowed` accepts, the newest first.

    Of each log, the last `looked_at` entries are looked at. Raises `RecordError`.
    """
    database = _opened(url)
    try:
        found: list[tuple[str, LogReader, int]] = []
        for log in logs_of(database)[-_MOST_LOGS:]:
            rows = database.all(
                "SELECT position, time, machine FROM entry WHERE log = ? ORDER BY position DESC LIMIT ?",
                (log.number, looked_at),
            )
            mine = [(str(time), log, int(position)) for position, time, machine in rows if allowed(str(machine))]
            found += mine[:shown_at_most]
        found.sort(key=lambda one: (one[0], one[2]), reverse=True)
        entries = [_entry(database, log, position) for _, log, position in found[:shown_at_most]]
        return [one for one in entries if one is not None]
    finally:
        database.close()


def by_sha256(url: str, sha256: str, allowed: Callable[[str], bool], *, most: int) -> list[Decision]:
    """Return the decisions about a file, the newest first: its CSF blob, or the first artifact, has this SHA-256.

    At most `most` of each log. Raises `RecordError`.
    """
    return by_sha256s(url, [sha256], allowed, most=most)


def by_sha256s(url: str, sums: list[str], allowed: Callable[[str], bool], *, most: int) -> list[Decision]:
    """Return the decisions about several files, as `by_sha256` does. Raises `RecordError`."""
    database = _opened(url)
    try:
        found: dict[str, Decision] = {}
        for log in logs_of(database)[-_MOST_LOGS:]:
            for column in ("blob", "artifact"):
                # Each has an index. Without the signs SQLite would rather read a blob's log in its order.
                where = "+log = ? ORDER BY +position" if column == "blob" else "log = ? ORDER BY position"
                for one in sums:
                    rows = database.all(
                        f"SELECT position FROM entry WHERE {column} = ? AND {column} <> '' AND {where} DESC LIMIT ?",  # noqa: S608
                        (one, log.number, most),
                    )
                    entries = [_entry(database, log, int(row[0])) for row in rows]
                    found |= {entry.record: entry for entry in entries if entry is not None}
        decisions = [one for one in found.values() if allowed(one.machine)]
        return sorted(decisions, key=lambda one: (one.time, one.record), reverse=True)
    finally:
        database.close()


def by_record(url: str, record: str, allowed: Callable[[str], bool]) -> Decision | None:
    """Return the entry with the id of an answer; None if there is none, or it is of a machine that is not allowed.

    Raises `RecordError` if the record cannot be read.
    """
    key, _, number = record.partition(".")
    if not re.fullmatch(r"[0-9]{1,18}", number):
        return None
    database = _opened(url)
    try:
        for log in logs_of(database):
            if log.hash == key:
                entry = _entry(database, log, int(number))
                return entry if entry is not None and allowed(entry.machine) else None
        return None
    finally:
        database.close()


def _opened(url: str) -> Database:
    database = Database(url, read_only=True, timeout=_TIMEOUT)
    try:
        if database.version() != SCHEMA:
            raise RecordError(f"{shown(url)} is not a record, or of another version of digsigd")
    except BaseException:
        database.close()
        raise
    return database


def _entry(database: Database, log: LogReader, position: int) -> Decision | None:
    """Return an entry; None if it is pruned."""
    row = database.first("SELECT data FROM entry WHERE log = ? AND position = ?", (log.number, position))
    if row is None or row[0] is None:
        return None
    return Decision(log.record_id(position), read(bytes(row[0])))
