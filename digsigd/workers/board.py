"""Counts in memory that the processes of a daemon share, so that a request is counted without a message.

Each process writes only its own column, so that nothing is wrong after one was killed: the supervisor then clears the
column. A lock is held only to give a party its row, and while a rate changes; the kernel releases it with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from twisted.internet.interfaces import IReactorTime

# Parties that are counted at the same time. `upload.max_at_once` bounds those that have uploads; the rest are rates.
ROWS = 4096
_MINUTE = 60.0
# Columns: the supervisor's, and that of each worker. Its cells in the head: active requests, then the bytes that its
# uploads have reserved and stored, and that copies need.
_OWN = 4
# In a row: the supervisor has how many wait for cst, a worker has uploads, then bytes.
_CELLS = 2
# Cells of the head besides columns: slots of cst in use, how many wait, the seconds from slot to slot.
_HEAD = 3
# Cells of a row before its columns: what is left of the rate, and when.
_RATE = 2
_CELL = 8
# How often, and for how many seconds each time, a lock is waited for that a stopped process may hold.
_TRIES, _PAUSE = 20, 0.0001


class Board:
    """The shared counts, as process number `column` of `columns` sees them; 0 is the supervisor.

    `descriptor` is that of `make`; the board owns it. It is `Counts` for the shares of a worker.
    """

    def __init__(self, descriptor: int, column: int, columns: int, *, clock: IReactorTime) -> None:
        self._descriptor = descriptor
        self._column = column
        self._columns = columns
        self._clock = clock
        self._map = mmap.mmap(descriptor, _size(columns))
        whole = memoryview(self._map)
        self._cells = whole.cast("Q")
        self._numbers = whole.cast("d")
        self._keys = (_HEAD + columns * _OWN) * _CELL
        self._first = self._keys // _CELL + ROWS
        self._row_cells = _RATE + columns * _CELLS
        # Where this process has last found a party.
        self._known: dict[str, int] = {}

    @staticmethod
    def make(columns: int) -> int:
        """Return the descriptor of a new board, which closes on exec. Raises `OSError`."""
        descriptor = os.memfd_create("digsigd-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _size(columns))
        return descriptor

    def close(self) -> None:
        """Release the memory. Further calls do nothing."""
        if self._descriptor >= 0:
            self._cells.release()
            self._numbers.release()
            with suppress(BufferError):
                self._map.close()
            os.close(self._descriptor)
            self._descriptor = -1

    # Counts of a worker.

    def add(self, party: str, uploads: int, size: int) -> None:
        """Implement `Counts.add`."""
        row = self._row(party)
        if row is not None:
            cell = self._cell(row, self._column)
            # Not below 0: a party may have got its row after it was counted, when there were too many.
            self._cells[cell] = max(0, self._cells[cell] + uploads)
            self._cells[cell + 1] = max(0, self._cells[cell + 1] + size)

    def uploads(self, party: str) -> int:
        """Implement `Counts.uploads`."""
        return self._sum(party, 0)

    def size(self, party: str) -> int:
        """Implement `Counts.size`."""
        return self._sum(party, 1)

    def room(self, reserved: int, stored: int, copies: int) -> tuple[int, int, int]:
        """Implement `Counts.room`."""
        cell = self._head_of(self._column)
        self._cells[cell + 1], self._cells[cell + 2], self._cells[cell + 3] = reserved, stored, copies
        first, end = self._head_of(1), self._head_of(self._columns)
        return tuple(sum(self._cells[first + one : end : _OWN]) for one in (1, 2, 3))  # type: ignore[return-value]

    def active(self, here: int) -> int:
        """Implement `Counts.active`."""
        self._cells[self._head_of(self._column)] = here
        return sum(self._cells[self._head_of(1) : self._head_of(self._columns) : _OWN])

    @contextmanager
    def changing_rate(self) -> Iterator[None]:
        """Implement `Counts.changing_rate`.

        A process that was stopped while it held the lock must not stop the others: after two milliseconds they go on
        without it, and a rate may be exceeded by one request.
        """
        for _ in range(_TRIES):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def rate(self, party: str) -> tuple[float, float] | None:
        """Implement `Counts.rate`."""
        row = self._found(party)
        if row is None:
            return None
        cell = self._first + row * self._row_cells
        left, since = self._numbers[cell], self._numbers[cell + 1]
        return (left, since) if since else None

    def keep_rate(self, party: str, left: float, now: float) -> None:
        """Implement `Counts.keep_rate`. Call it within `changing_rate`."""
        row = self._found(party)
        if row is None:
            row = self._new_row(party)
        if row is not None:
            cell = self._first + row * self._row_cells
            self._numbers[cell], self._numbers[cell + 1] = left, now

    # The queue for cst, which the supervisor keeps.

    def show_queue(self, running: int, waiting: int, pace: float) -> None:
        """Show how many run and wait, and how many seconds pass from slot to slot. For the supervisor."""
        self._cells[0], self._cells[1], self._numbers[2] = running, waiting, pace

    def queue(self) -> tuple[int, int, float]:
        """Return what `show_queue` was called with last."""
        return self._cells[0], self._cells[1], self._numbers[2]

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self._columns - 1

    def add_waiting(self, party: str, count: int) -> None:
        """Count those of a party that wait for cst. For the supervisor."""
        row = self._row(party)
        if row is not None:
            cell = self._cell(row, 0)
            self._cells[cell] = max(0, self._cells[cell] + count)

    def waiting(self, party: str) -> int:
        """Return how many of a party wait for cst."""
        row = self._found(party)
        return 0 if row is None else self._cells[self._cell(row, 0)]

    def clear(self, column: int) -> None:
        """Take back all that a process has counted, which has ended. For the supervisor."""
        head = self._head_of(column)
        cells = [head, head + _CELLS, *(self._cell(row, column) for row in range(ROWS))]
        for cell in cells:
            self._cells[cell] = self._cells[cell + 1] = 0

    # Rows: a party has the one with its key.

    def _head_of(self, column: int) -> int:
        return _HEAD + column * _OWN

    def _cell(self, row: int, column: int) -> int:
        return self._first + row * self._row_cells + _RATE + column * _CELLS

    def _sum(self, party: str, offset: int) -> int:
        row = self._found(party)
        if row is None:
            return 0
        return sum(self._cells[self._cell(row, 1) + offset : self._cell(row, self._columns) : _CELLS])

    def _row(self, party: str) -> int | None:
        """Return the row of a party, made if it has none; None if there are too many parties."""
        row = self._found(party)
        if row is None:
            with self.changing_rate():
                row = self._found(party)
                if row is None:
                    row = self._new_row(party)
        return row

    def _found(self, party: str) -> int | None:
        key = _key(party)
        known = self._known.get(party)
        if known is not None and self._cells[self._keys // _CELL + known] == int.from_bytes(key, "little"):
            return known
        row = self._search(key)
        if row is not None:
            if len(self._known) >= ROWS:
                self._known.clear()
            self._known[party] = row
        return row

    def _search(self, key: bytes) -> int | None:
        at, end = self._keys, self._keys + ROWS * _CELL
        while (at := self._map.find(key, at, end)) >= 0:
            row, rest = divmod(at - self._keys, _CELL)
            if not rest:
                return row
            at += _CELL - rest
        return None

    def _new_row(self, party: str) -> int | None:
        row = self._search(bytes(_CELL))
        if row is None:
            row = self._reclaimed()
        if row is not None:
            cell = self._first + row * self._row_cells
            self._numbers[cell] = self._numbers[cell + 1] = 0.0
            self._cells[self._keys // _CELL + row] = int.from_bytes(_key(party), "little")
        return row

    def _reclaimed(self) -> int | None:
        """Free the rows that nobody uses, and whose rates were not used for a minute. Return one of them."""
        now = self._clock.seconds()
        free = None
        for row in range(ROWS):
            cell = self._first + row * self._row_cells
            if now - self._numbers[cell + 1] >= _MINUTE and not any(
                self._cells[self._cell(row, 0) : self._cell(row, self._columns)]
            ):
                self._cells[self._keys // _CELL + row] = 0
                free = row
        return free


def _size(columns: int) -> int:
    return (_HEAD + columns * _OWN + ROWS * (1 + _RATE + columns * _CELLS)) * _CELL


def _key(party: str) -> bytes:
    """Return a number of eight bytes for a party that is not 0."""
    key = hashlib.blake2b(party.encode("utf-8", "surrogateescape"), digest_size=_CELL).digest()
    return key if any(key) else b"\1" + key[1:]
