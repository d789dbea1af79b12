"""Find entries, prune them, and copy a database while it is in use. It blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digsigd.record.database import Database
from digsigd.record.entry import Entry, read
from digsigd.record.errors import RecordError
from digsigd.record.log import Log, LogReader, Pending, logs_of

# What entries can be filtered by, beside the time.
FILTERS = ("outcome", "caller", "machine", "request", "client_request", "blob", "artifact")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Found:
    """An entry as it is stored. `data` is None once it is pruned."""

    log: LogReader
    position: int
    leaf: bytes
    data: bytes | None

    @property
    def id(self) -> str:
        """The id that the answer had."""
        return self.log.record_id(self.position)

    def values(self) -> dict[str, Any]:
        """Return the entry's members. Raises `RecordError` if it is pruned or not JSON."""
        if self.data is None:
            raise RecordError(f"{self.id} was pruned: its content is in an export")
        return read(self.data)


def find(
    database: Database, filters: Mapping[str, str], *, since: str = "", until: str = "", newest_first: bool = False
) -> Iterator[Found]:
    """Yield the entries of all logs that match every filter. `since` and `until` are beginnings of ISO times in UTC."""
    where, values = ["1 = 1"], []
    for name, value in filters.items():
        if name not in FILTERS:
            raise ValueError(f"{name} is not a filter")
        where.append(f"{name} = ?")
        values.append(value)
    for sign, time in ((">=", since), ("<", until)):
        if time:
            where.append(f"time {sign} ?")
            values.append(time)
    # A CSF blob is looked up in its index, which has no empty ones. Without the signs SQLite would rather read all
    # entries in their order.
    log_column, position_column = ("+log", "+position") if "blob" in filters else ("log", "position")
    if "blob" in filters:
        where.append("blob <> ''")
    order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
    for log in logs_of(database):
        last = (1 << 62) if newest_first else -1
        while True:
            rows = database.all(
                f"SELECT position, leaf, data FROM entry WHERE {log_column} = ? AND {position_column} {sign} ? AND "  # noqa: S608
                f"{' AND '.join(where)} ORDER BY {position_column} {order} LIMIT {_PAGE}",
                (log.number, last, *values),
            )
            for position, leaf, data in rows:
                last = int(position)
                yield Found(log, last, bytes(leaf), bytes(data) if data is not None else None)
            if len(rows) < _PAGE:
                break


def find_id(database: Database, record: str) -> Found:
    """Return the entry with the id of an answer. Raises `RecordError` if there is none."""
    key, _, number = record.partition(".")
    for log in logs_of(database):
        if log.hash == key and number.isdecimal():
            row = database.first(
                "SELECT leaf, data FROM entry WHERE log = ? AND position = ?", (log.number, int(number))
            )
            if row is not None:
                return Found(log, int(number), bytes(row[0]), bytes(row[1]) if row[1] is not None else None)
    raise RecordError(f"the record has no entry {record!r}", hint="an id has the form KEYHASH.POSITION")


def prune(log: Log, first: int, last: int, export_sha256: str) -> int:
    """Remove the contents of the entries from `first` to `last`, and append an entry that says so. Return its position.

    Leaves and nodes stay, so that the rest, and what was exported, can still be proven. Raises `RecordUnavailable`.
    """
    entry = Entry.new({"outcome": "pruned", "first": first, "last": last, "export_sha256": export_sha256})
    positions, _ = log.append([Pending(entry)])
    # Only after it is durable: content without this entry would look removed.
    log.database.execute(
        "UPDATE entry SET data = NULL, caller = '', machine = '', request = '', client_request = '', artifact = ''"
        " WHERE log = ? AND position >= ? AND position <= ? AND outcome <> 'pruned'",
        (log.number, first, last),
    )
    return positions[0]


def backup(database: Database, target: Path) -> None:
    """Copy an SQLite database that is in use, as it is at one moment. Raises `RecordError`."""
    if database.path is None:
        raise RecordError("the record is in PostgreSQL", hint="use pg_dump, or PostgreSQL's own continuous archiving")
    try:
        target.touch(mode=0o600, exist_ok=False)
        source = sqlite3.connect(f"file:{database.path}?mode=ro", uri=True)
        copy = sqlite3.connect(target)
        try:
            source.backup(copy, pages=1000, sleep=0.01)
        finally:
            copy.close()
            source.close()
    except (OSError, sqlite3.Error) as error:
        raise RecordError(f"the backup {target} cannot be written: {error}") from None
