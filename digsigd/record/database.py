"""One connection to the record's database: SQLite, or PostgreSQL by psycopg. It blocks: use it in a thread."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from digsigd.record.errors import RecordError, RecordUnavailable

# The newest form of the database: the last of migrations/versions.
SCHEMA = "0002"
# How long a transaction of another process may hold up one of ours, in seconds.
_BUSY_SECONDS = 5.0
_POSTGRES = ("postgresql://", "postgres://")


class Database:
    """A connection with the same few calls for both databases. Statements have `?` for each value.

    Every call raises `RecordUnavailable` when the database cannot do it. `url` is sqlite:///PATH or postgresql://...;
    `read_only` never writes, and makes nothing.
    """

    def __init__(self, url: str, *, read_only: bool = False, timeout: float = _BUSY_SECONDS) -> None:
        self.url = url
        self.postgres = url.startswith(_POSTGRES)
        self._read_only = read_only
        self._timeout = timeout
        self._errors: tuple[type[Exception], ...] = (sqlite3.Error,)
        with self._translated():
            self._connection: Any = self._open()

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database."""
        return None if self.postgres else sqlite_path(self.url)

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Run a statement, and return its cursor."""
        with self._translated():
            return self._connection.execute(self._form(statement), values)

    def all(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query."""
        with self._translated():
            rows: list[Any] = self._connection.execute(self._form(statement), values).fetchall()
            return rows

    def first(self, statement: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query; None if there is none."""
        with self._translated():
            return self._connection.execute(self._form(statement), values).fetchone()

    def many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        with self._translated():
            self._connection.cursor().executemany(self._form(statement), rows)

    def append(self, head: Sequence[object], rows: Sequence[Sequence[object]], nodes: Sequence[Any]) -> bool:
        """Append as `digsigd.record.postgres.append` does. After an error it is unknown whether it is done."""
        from digsigd.record.postgres import append

        with self._translated():
            return append(self._connection, head, rows, nodes)

    def begin(self) -> None:
        """Begin a transaction that will write."""
        self.execute("BEGIN" if self.postgres else "BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable. After an error it is unknown whether it is."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one. Raises nothing."""
        with suppress(*self._errors):
            self._connection.rollback()

    def close(self) -> None:
        """Close the connection. Raises nothing."""
        with suppress(*self._errors):
            self._connection.close()

    def upgrade(self) -> None:
        """Bring the tables to the newest form. Raises `RecordError` if they are newer than this digsigd."""
        if self.version() == SCHEMA:
            return
        # Alembic and SQLAlchemy take a third of a second to import; most starts need neither.
        from digsigd.record.schema import migrate

        with self._one_at_a_time():
            if self.version() != SCHEMA:
                migrate(self._open, postgres=self.postgres)

    def version(self) -> str | None:
        """Return the form of the tables; None for an empty database."""
        if self.postgres:
            there = self.first("SELECT to_regclass('alembic_version')::text")[0]
        else:
            there = self.first("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
        found = self.first("SELECT version_num FROM alembic_version") if there else None
        return str(found[0]) if found else None

    def _form(self, statement: str) -> str:
        return statement.replace("?", "%s") if self.postgres else statement

    def _open(self) -> Any:
        if self.postgres:
            return self._open_postgres()
        path = sqlite_path(self.url)
        if self._read_only and not path.exists():
            raise RecordUnavailable(f"there is no record at {path}")
        name = f"file:{_quoted(path)}?mode={'ro' if self._read_only else 'rwc'}"
        if not self._read_only and not path.exists():
            # SQLite would make a file that others can read.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            name, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            if not self._read_only:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_postgres(self) -> Any:
        try:
            import psycopg

            from digsigd.record.postgres import connect
        except ImportError as error:
            raise RecordError(
                f"the record is in PostgreSQL, but psycopg cannot be imported ({error})",
                hint="pip install 'digsigd[postgresql]'",
            ) from None
        self._errors = (psycopg.Error,)
        return connect(self.url, timeout=self._timeout, read_only=self._read_only)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold a lock that all daemons of this database share while they migrate."""
        if self.postgres:
            self.execute("SELECT pg_advisory_lock(7233170)")
            try:
                yield
            finally:
                self.execute("SELECT pg_advisory_unlock(7233170)")
            return
        path = sqlite_path(self.url)
        with path.with_name(path.name + "-migrating").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RecordUnavailable(f"the record: {error}") from error
        except self._errors as error:
            raise RecordUnavailable(f"the record's database: {_one_line(error)}") from error


def sqlite_path(url: str) -> Path:
    """Return the path in sqlite:///PATH, which has four slashes before an absolute path, or three.

    Raises `RecordError` for another URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise RecordError(f"{shown(url)!r} is not sqlite:///PATH or postgresql://...")
    return Path("/" + unquote(parts.path).lstrip("/"))


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite database."""
    return f"sqlite://{_quoted(path.absolute())}"


def shown(url: str) -> str:
    """Return a URL without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
