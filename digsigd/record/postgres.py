"""PostgreSQL by psycopg: a connection that never waits for long, and an append that is one statement. It blocks."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import cache
from typing import Any

import psycopg

# How long after its statement timeout a server is given up, in seconds.
_GRACE = 1.0
_ENTRY = (
    ("position", "bigint"), ("leaf", "bytea"), ("signature", "bytea"), ("data", "bytea"), ("id", "text"),
    ("time", "text"), ("outcome", "text"), ("caller", "text"), ("machine", "text"), ("request", "text"),
    ("client_request", "text"), ("blob", "text"), ("artifact", "text"),
)  # fmt: skip


class Connection(psycopg.Connection[Any]):
    """A connection that gives up a server that has stalled: its kernel still confirms what arrives."""

    seconds = 0.0

    def wait(self, gen: Generator[Any, Any, Any], *more: Any, **options: Any) -> Any:
        """Wait as psycopg does, but not for ever. Raises `psycopg.OperationalError`; the connection is closed then."""
        if not self.seconds:
            return super().wait(gen, *more, **options)
        try:
            return super().wait(_until(gen, time.monotonic() + self.seconds), *more, **options)
        except _Stalled:
            self.pgconn.finish()
            raise


class _Stalled(psycopg.OperationalError):
    """The server has not answered in time."""


def connect(url: str, *, timeout: float, read_only: bool) -> Connection:
    """Open a connection on which nothing takes longer than `timeout` seconds, and a second. Raises `psycopg.Error`."""
    milliseconds = int(timeout * 1000)
    connection = Connection.connect(
        url, autocommit=True, connect_timeout=max(2, int(timeout)), tcp_user_timeout=milliseconds,
        keepalives_idle=5, keepalives_interval=2, keepalives_count=3, application_name="digsigd",
    )  # fmt: skip
    connection.seconds = timeout + _GRACE
    connection.execute(f"SET statement_timeout = {milliseconds}")
    connection.execute("SET synchronous_commit = on")
    if read_only:
        connection.execute("SET default_transaction_read_only = on")
    return connection


def append(
    connection: Connection,
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    nodes: Sequence[tuple[int, int, int, bytes]],
) -> bool:
    """Append rows of entries and nodes, which begin with the log's number, and move its head: all or nothing.

    `head` has the new size and root, the log's number, and the size and root that it must have before. Return whether
    it had: else nothing is done. One statement is one transaction and one round trip. Raises `psycopg.Error`.
    """
    _, levels, positions, hashes = zip(*nodes, strict=True) if nodes else ((), (), (), ())
    values: list[object] = [*head, list(levels), list(positions), list(hashes)]
    for row in rows:
        values += row[1:]
    moved = connection.execute(_statement(len(rows)), values, prepare=len(rows) <= 4).fetchone()
    return bool(moved and moved[0])


@cache
def _statement(rows: int) -> str:
    names = ", ".join(name for name, _ in _ENTRY)
    one = ", ".join(f"%b::{kind}" for _, kind in _ENTRY)
    return (
        "WITH head AS (UPDATE log SET size = %b, root = %b WHERE id = %b AND size = %b AND root = %b RETURNING id),"  # noqa: S608
        " tree AS (INSERT INTO node (log, level, position, hash)"
        " SELECT head.id, n.* FROM head, unnest(%b::int[], %b::bigint[], %b::bytea[]) AS n),"
        f" leaves AS (INSERT INTO entry (log, {names})"
        f" SELECT head.id, e.* FROM head, (VALUES {', '.join([f'({one})'] * rows)}) AS e)"
        " SELECT count(*) FROM head"
    )


def _until(gen: Generator[Any, Any, Any], end: float) -> Generator[Any, Any, Any]:
    """Run a generator of psycopg, which is resumed at least every 0.1 s, until it ends, or the time is over."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > end:
                raise _Stalled("the server has stalled: it takes what is sent, but does not answer")
            wanted = gen.send(ready)
    except StopIteration as over:
        return over.value
