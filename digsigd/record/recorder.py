"""Write entries before answers leave: one thread, and one commit for all that wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from digsigd.record.database import Database, shown, sqlite_url
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError, RecordUnavailable
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending
from digsigd.record.note import SigningKey

# So many entries at most are in one transaction, and wait at all.
_BATCH = 256
_MOST_WAITING = 10_000
# How long to wait before a database that failed is tried again, in seconds.
_PAUSE = 0.25


class Recorder(Protocol):
    """Where decisions are written."""

    def write(self, entry: Entry) -> Deferred[str]:
        """Write an entry. The Deferred fires with its id when it is durable, or fails with `RecordError`."""

    def missing(self) -> list[str]:
        """Return why nothing can be written, one line each; an empty list if it can."""


def record_url(url: str | None, folder: StateFolder) -> str:
    """Return the URL of a record: `url`, or for None a database in the state folder."""
    return sqlite_url(folder.path / "record.sqlite") if url is None else url


class _Patient(Deferred[str]):
    """A Deferred that cannot be cancelled: what is being written cannot be stopped, and must be known."""

    def cancel(self) -> None:
        """Do nothing."""


@dataclass(eq=False)
class _Waiting:
    """An entry that waits, and who waits for it."""

    entry: Entry
    deadline: float
    done: Deferred[str] = field(default_factory=_Patient)
    unsure: bool = False


class DatabaseRecorder:
    """Writes entries to a database in a thread of its own, and keeps the last checkpoint in the state folder.

    A database that cannot be reached is tried again until an entry has waited for `timeout` seconds; then its request
    fails. If it turns out later that such an entry was written, another one says that it was withdrawn.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        *,
        folder: StateFolder,
        reactor: IReactorFromThreads,
        timeout: float = 10.0,
        published: Callable[[str], None] | None = None,
    ) -> None:
        self._url = url
        self._folder = folder
        self._reactor = reactor
        self._timeout = timeout
        self._published = published
        self._changed = Condition()
        self._queue: deque[_Waiting] = deque()
        self._unsure: list[_Waiting] = []
        self._tried = False
        self._when_tried: list[Deferred[None]] = []
        self._stopping = False
        self._thread: Thread | None = None
        self._why = ""
        # How many entries there are up to the signed head, and when this process moved it last, as Unix time.
        self.entries, self.appended = 0, 0.0
        self._key: SigningKey | None = None
        self._database: Database | None = None
        self._log: Log | None = None

    @property
    def vkey(self) -> str | None:
        """The public half of the host's key; None before the record was opened for the first time."""
        return str(self._key.verifier) if self._key is not None else None

    @property
    def url(self) -> str:
        """The URL of the database. It can have a password."""
        return self._url

    @property
    def where(self) -> str:
        """The database, without user and password."""
        return shown(self._url)

    def opened(self) -> Deferred[None]:
        """Return a Deferred that fires when the record was opened, or could not be."""
        with self._changed:
            waiting: Deferred[None] = Deferred()
            if self._tried:
                waiting.callback(None)
            else:
                self._when_tried.append(waiting)
        return waiting

    def start(self) -> None:
        """Start the thread, which opens the record."""
        self._stopping = False
        self._thread = Thread(target=self._run, name="digsigd-record", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if that is possible at once, and end the thread. It blocks."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def waiting(self) -> int:
        """The number of entries that wait to be written."""
        return len(self._queue)

    def missing(self) -> list[str]:
        """Return why nothing can be written, one line each; an empty list if it can."""
        return [self._why] if self._why else []

    def write(self, entry: Entry) -> Deferred[str]:
        """Write an entry. The Deferred fires with its id when it is durable, or fails with `RecordUnavailable`."""
        waiting = _Waiting(entry, time.monotonic() + self._timeout)
        with self._changed:
            if self._stopping or self._thread is None:
                waiting.done.errback(RecordUnavailable("the record is closed"))
            elif len(self._queue) >= _MOST_WAITING:
                waiting.done.errback(RecordUnavailable("too many entries wait to be written"))
            else:
                self._queue.append(waiting)
                self._changed.notify()
        return waiting.done

    def _run(self) -> None:
        self._try_to_open()
        with self._changed:
            self._tried = True
            for one in self._when_tried:
                self._reactor.callFromThread(one.callback, None)
        while batch := self._next():
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - the thread must go on, and every request must be answered
                self._lost()
                self._reactor.callFromThread(self.log.failure, "the record cannot be written", event="record")
                self._give_up(batch, RecordUnavailable(f"the record: {error}"))
        self._lost()

    def _next(self) -> list[_Waiting]:
        """Wait for entries, and return them; none at the end."""
        with self._changed:
            while not self._queue and not self._stopping:
                # A database that could not be opened is tried again, so that the host becomes ready without a request.
                if not self._changed.wait(None if self._log is not None else 1.0) and self._log is None:
                    self._try_to_open()
            return [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]

    def _write(self, batch: list[_Waiting]) -> None:
        while batch:
            try:
                log = self._opened()
                positions, note = log.append(
                    [Pending(one.entry, one.unsure, one in self._unsure) for one in (*self._unsure, *batch)]
                )
            except RecordError as error:
                batch = self._failed(batch, error)
            else:
                self._why = ""
                ids = [log.record_id(position) for position in positions[len(self._unsure) :]]
                self._unsure = []
                if note:
                    self.entries, self.appended = log.head, time.time()
                    self._keep(note)
                self._reactor.callFromThread(_written, batch, ids)
                return

    def _failed(self, batch: list[_Waiting], error: RecordError) -> list[_Waiting]:
        """Handle a failed append. Return the entries that are to be tried again."""
        self._lost()
        self._said(error)
        if getattr(error, "unsure", False):
            for one in batch:
                one.unsure = True
        now = time.monotonic()
        again = isinstance(error, RecordUnavailable) and not self._stopping and not self._url.startswith("sqlite")
        over = [one for one in batch if not again or one.deadline <= now]
        self._give_up(over, error)
        rest = [one for one in batch if one not in over]
        if rest:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, _PAUSE)
        return rest

    def _give_up(self, waiting: list[_Waiting], error: RecordError) -> None:
        for one in waiting:
            if one.unsure:
                self._unsure.append(one)
            self._reactor.callFromThread(one.done.errback, error)

    def _opened(self) -> Log:
        if self._log is None:
            self._key = key = self._folder.key()
            self._database = Database(self._url, timeout=min(self._timeout, 5.0))
            self._database.upgrade()
            log = Log(self._database, key)
            log.check(self._folder.last(key))
            self.entries = log.size()
            self._log = log
        return self._log

    def _try_to_open(self) -> None:
        try:
            self._opened()
            self._why = ""
        except RecordError as error:
            self._lost()
            self._said(error)

    def _said(self, error: RecordError) -> None:
        """Keep why the record cannot be written, and log it if that is new."""
        if self._why != str(error):
            self._why = str(error)
            self._reactor.callFromThread(
                self.log.error, "cannot write the record: {why}", why=self._why, event="record"
            )

    def _lost(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = self._log = None

    def _keep(self, note: str) -> None:
        try:
            self._folder.keep(note)
        except OSError as error:
            self._reactor.callFromThread(
                self.log.warn, "cannot keep the checkpoint: {error}", error=str(error), event="record"
            )
        if self._published is not None:
            self._reactor.callFromThread(self._published, note)


def _written(batch: list[_Waiting], ids: list[str]) -> None:
    for one, record in zip(batch, ids, strict=True):
        one.done.callback(record)
