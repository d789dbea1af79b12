"""Many machines in a key store, and many records in a database, made quickly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from digsigd.record.database import Database
from digsigd.record.entry import Entry
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending
from etc.benchmarks.cases import Case
from etc.benchmarks.ground import Ground

_BATCH = 5000


def machine(number: int) -> str:
    """Return the name of a machine of `put_machines`."""
    return f"board-{number:05}"


def put_machines(ground: Ground, case: Case, count: int) -> list[str]:
    """Put machines with the keys of a case into the key store until it has `count`. Return their names.

    Their tarballs are links to one file.
    """
    ground.put_machine(case, machine(0))
    first = ground.keys / machine(0) / "imxsign/imx-cst-keys.tar.gz"
    names = [machine(number) for number in range(count)]
    for name in names[1:]:
        path = ground.keys / name / "imxsign/imx-cst-keys.tar.gz"
        if not path.exists():
            path.parent.mkdir(parents=True)
            os.link(first, path)
    return names


@contextmanager
def _log_of(state: Path, url: str) -> Iterator[Log]:
    database = Database(url)
    try:
        yield Log(database, StateFolder(state).key())
    finally:
        database.close()


def fill_record(state: Path, url: str, size: int) -> int:
    """Append entries to the record of a host whose daemon is stopped until it has `size`. Return its size.

    They are copies of its first entry, a real one, with ids and a request of their own. Raises `RecordError`.
    """
    with _log_of(state, url) as log:
        row = log.database.first("SELECT data FROM entry WHERE log = ? AND position = 0", (log.number,))
        first = json.loads(row[0])
        values = {name: value for name, value in first.items() if name not in {"form", "id", "time"}}
        while (missing := size - log.size()) > 0:
            log.append([Pending(Entry.new(_another(values))) for _ in range(min(_BATCH, missing))])
        return log.size()


def _another(values: dict[str, object]) -> dict[str, object]:
    return {**values, "request": token_hex(6)}
