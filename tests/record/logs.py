"""Logs in a temporary database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from digsigd.record.database import Database, sqlite_url
from digsigd.record.entry import Entry
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending

# Databases of logs; those of a test are closed after it.
OPEN: list[Database] = []


def new_log(folder: Path, entries: int = 0) -> Log:
    """A log with so many entries, in several transactions."""
    folder.mkdir(exist_ok=True)
    database = Database(sqlite_url(folder / "record.sqlite"))
    OPEN.append(database)
    database.upgrade()
    state = StateFolder(folder)
    log = Log(database, state.key())
    add(log, state, entries)
    return log


def add(log: Log, state: StateFolder, entries: int) -> None:
    left = entries
    while left:
        some = min(left, 3)
        values = {"outcome": "signed", "caller": "team", "blob": {"sha256": "ab" * 32, "size": 5}}
        _, note = log.append([Pending(Entry.new({**values, "number": left - one})) for one in range(some)])
        state.keep(note)
        left -= some


def edit(folder: Path, *statements: str) -> None:
    """Change the database behind the log's back."""
    database = sqlite3.connect(folder / "record.sqlite")
    for one in statements:
        database.execute(one)
    database.commit()
    database.close()
