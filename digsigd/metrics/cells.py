"""Numbers in memory that the processes of a host share: each counts in its own column, and each can read all.

Nobody writes what another counts, so a process that is killed leaves nothing inconsistent, and nothing is lost. When a
worker has ended, the supervisor adds what it had counted to its own column: counters never go back.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from digsigd.metrics.catalogue import BUCKETS, OTHER, OUTCOMES, STAGES

# Machines with a label. All others are "other".
MOST_MACHINES = 200
# The bytes of a machine's name, of `digsigd.names.MACHINE`.
_NAME = 64
_CELL = 8
# Cells of the head: the machines with a label, the number of folds (odd during one), the start, when the host's own
# certificate expires.
_USED, _FOLDS, _STARTED, _HOST_EXPIRES = range(4)
_NAMES = 4
_EXPIRES = _NAMES + MOST_MACHINES * _NAME // _CELL
# The same of certificates on tokens, which are known from signatures alone, and when a signature had them last.
_TOKEN_EXPIRES = _EXPIRES + MOST_MACHINES
_TOKEN_SEEN = _TOKEN_EXPIRES + MOST_MACHINES
_COLUMNS = _TOKEN_SEEN + MOST_MACHINES
# For so many seconds, a certificate that ends later does not take the place of one that ends earlier: both sign.
_BOTH_SIGN = 86400.0
# Histograms: each stage, then whole requests. Their cells: a count for each bucket, one for more, the sum.
HISTOGRAMS = (*STAGES, "total")
WIDTH = len(BUCKETS) + 2
# How often, and for how many seconds each time, a lock or the end of a fold is waited for.
_TRIES, _PAUSE = 200, 0.0005

# What counts up, and is kept when a process ends.
COUNTERS = (
    "received_bytes", "blob_bytes", "keys_fetched", "keys_revalidated", "worker_restarts", "canary_ok", "canary_failed",
)  # fmt: skip
# What is true now: gone with its process.
GAUGES = (
    "alive", "tick", "stall", "active", "running", "waiting", "slots", "reserved", "stored", "copies", "tarballs",
    "tarball_bytes", "record_entries", "record_time", "record_waiting", "record_writable", "workers_configured",
    "workers_ready",
)  # fmt: skip
# What any process found out last.
SHARED = ("canary_worked", "canary_seconds", "canary_time")
_INDEX = {name: number for number, name in enumerate((*COUNTERS, *GAUGES))}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is, for so many `columns` and these `tokens`. Offsets are in cells of eight bytes."""

    columns: int
    tokens: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """The offset in a column of requests: for each machine, then for others, a cell for each outcome."""
        return 0

    @property
    def histograms(self) -> int:
        """The offset in a column of histograms."""
        return (MOST_MACHINES + 1) * len(OUTCOMES)

    @property
    def values(self) -> int:
        """The offset in a column of `COUNTERS`, then `GAUGES`."""
        return self.histograms + len(HISTOGRAMS) * WIDTH

    @property
    def gauges(self) -> int:
        """The offset in a column of `GAUGES`: all before it counts up."""
        return self.values + len(COUNTERS)

    @property
    def token_states(self) -> int:
        """The offset in a column of the states of tokens, as indices of `TOKEN_STATES`."""
        return self.values + len(_INDEX)

    @property
    def width(self) -> int:
        """The cells of a column."""
        return self.token_states + len(self.tokens)

    def column(self, number: int) -> int:
        """Return the offset of a column."""
        return _COLUMNS + len(SHARED) + number * self.width

    @property
    def size(self) -> int:
        """The size of all, in bytes."""
        return self.column(self.columns) * _CELL


class Cells:
    """The memory, as the process sees it that counts in `column`. It owns `descriptor`, that of `make`."""

    def __init__(self, layout: Layout, column: int = 0, descriptor: int = -1) -> None:
        self.layout = layout
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, layout.size)
        self._all = memoryview(self._map).cast("d")
        self._first = layout.column(column)
        self._values = self._first + layout.values
        self._machines: dict[str, int] = {}

    @staticmethod
    def make(layout: Layout) -> int:
        """Return the descriptor of new memory for several processes, which closes on exec. Raises `OSError`."""
        descriptor = os.memfd_create("digsigd-metrics", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, layout.size)
        return descriptor

    def close(self) -> None:
        """Release the memory."""
        self._all.release()
        with suppress(BufferError):
            self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # What the process of this column counts.

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of `COUNTERS`."""
        self._all[self._values + _INDEX[name]] += amount

    def set(self, name: str, value: float) -> None:
        """Set one of `GAUGES`, or a counter that is counted elsewhere."""
        self._all[self._values + _INDEX[name]] = value

    def set_token(self, number: int, state: int) -> None:
        """Set the state of a token, by its place in the layout."""
        self._all[self._first + self.layout.token_states + number] = state

    def count_request(self, machine: int, outcome: int) -> None:
        """Count a request, by the numbers of its machine and its outcome."""
        self._all[self._first + machine * len(OUTCOMES) + outcome] += 1.0

    def observe(self, histogram: int, bucket: int, seconds: float) -> None:
        """Add a value to a histogram of `HISTOGRAMS`. `bucket` is its place in `BUCKETS`."""
        at = self._first + self.layout.histograms + histogram * WIDTH
        self._all[at + bucket] += 1.0
        self._all[at + WIDTH - 1] += seconds

    # What all share.

    def set_started(self, when: float) -> None:
        """Set when the daemon started, as Unix time."""
        self._all[_STARTED] = when

    def set_host_expires(self, when: float) -> None:
        """Set when the host's own certificate expires, as Unix time; 0 if it has none."""
        self._all[_HOST_EXPIRES] = when

    def set_shared(self, name: str, value: float) -> None:
        """Set one of `SHARED`."""
        self._all[_COLUMNS + SHARED.index(name)] = value

    def machine(self, name: str) -> int:
        """Return the number of a machine's label; `MOST_MACHINES` if it has none."""
        if len(self._machines) < int(self._all[_USED]):
            self._learn()
        return self._machines.get(name, MOST_MACHINES)

    def has_label(self, name: str) -> bool:
        """Return whether a machine has a label."""
        return self.machine(name) < MOST_MACHINES

    def labelled(self) -> list[str]:
        """Return the machines with a label, in the order in which they got it."""
        self._learn()
        return list(self._machines)

    def label(self, names: Iterable[str]) -> None:
        """Give machines a label while there is room. `names` have the form of `digsigd.names.MACHINE`."""
        for name in names:
            if (
                name != OTHER
                and self.machine(name) == MOST_MACHINES
                and len(self._machines) < MOST_MACHINES
                and self._lock()
            ):
                try:
                    self._learn()
                    used = len(self._machines)
                    if name not in self._machines and used < MOST_MACHINES:
                        at = (_NAMES * _CELL) + used * _NAME
                        self._map[at : at + _NAME] = name.encode().ljust(_NAME, b"\0")
                        self._all[_USED] = used + 1
                finally:
                    self._unlock()

    def set_expires(self, machine: str, when: float) -> None:
        """Set when the first certificate of a machine's tarball expires, as Unix time; 0 if that is not known."""
        number = self.machine(machine)
        if number < MOST_MACHINES:
            self._all[_EXPIRES + number] = when

    def token_certificates(self, machine: str, expires: float, now: float) -> None:
        """Note when the first certificate from a token expires that a signature has. Times are Unix times."""
        number = self.machine(machine)
        if number == MOST_MACHINES:
            return
        known, seen = self._all[_TOKEN_EXPIRES + number], self._all[_TOKEN_SEEN + number]
        if not known or expires <= known or now - seen > _BOTH_SIGN:
            self._all[_TOKEN_EXPIRES + number] = expires
            self._all[_TOKEN_SEEN + number] = now

    def _learn(self) -> None:
        for number in range(len(self._machines), int(self._all[_USED])):
            at = (_NAMES * _CELL) + number * _NAME
            self._machines[self._map[at : at + _NAME].rstrip(b"\0").decode("ascii")] = number

    def _lock(self) -> bool:
        if self._descriptor < 0:
            return True
        for _ in range(_TRIES):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_PAUSE / 10)
            else:
                return True
        return False  # a stopped process holds it; the machine gets its label with a later request

    def _unlock(self) -> None:
        if self._descriptor >= 0:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    # For the supervisor.

    def fold(self, column: int) -> None:
        """Add what the process of another column has counted to this one, and clear it: that process has ended."""
        start, counted = self.layout.column(column), self.layout.gauges
        self._all[_FOLDS] += 1.0
        for number in range(counted):
            if amount := self._all[start + number]:
                self._all[self._first + number] += amount
                self._all[start + number] = 0.0
        for number in range(counted, self.layout.width):
            self._all[start + number] = 0.0
        self._all[_FOLDS] += 1.0

    # Reading.

    def read(self) -> Reading:
        """Return a copy of all. It may be called in any thread, and waits at most a tenth of a second for a fold."""
        for _ in range(_TRIES):
            before = self._all[_FOLDS]
            copy = self._map[:]
            if not before % 2 and before == self._all[_FOLDS]:
                break
            time.sleep(_PAUSE)
        return Reading(self.layout, copy)


class Reading:
    """A copy of the cells at one moment."""

    def __init__(self, layout: Layout, copy: bytes) -> None:
        self._layout = layout
        self._all = memoryview(copy).cast("d")
        used = int(self._all[_USED])
        at = _NAMES * _CELL
        names = (copy[at + number * _NAME : at + (number + 1) * _NAME] for number in range(used))
        self.machines = [name.rstrip(b"\0").decode("ascii") for name in names]
        self.started = self._all[_STARTED]
        self.host_expires = self._all[_HOST_EXPIRES]
        self._summed = [0.0] * layout.gauges
        for number in range(layout.columns):
            start = layout.column(number)
            for place, value in enumerate(self._all[start : start + layout.gauges].tolist()):
                if value:
                    self._summed[place] += value

    def expires(self, machine: int) -> float:
        """Return when the first certificate of a machine expires, as Unix time; 0 if that is not known."""
        known = (self._all[_EXPIRES + machine], self._all[_TOKEN_EXPIRES + machine])
        return min((one for one in known if one), default=0.0)

    def shared(self, name: str) -> float:
        """Return one of `SHARED`."""
        return self._all[_COLUMNS + SHARED.index(name)]

    def requests(self, machine: int) -> Sequence[float]:
        """Return the requests for a machine, by outcome."""
        return self._summed[machine * len(OUTCOMES) : (machine + 1) * len(OUTCOMES)]

    def histogram(self, number: int) -> Sequence[float]:
        """Return a histogram: a count for each bucket, one for more, and the sum."""
        at = self._layout.histograms + number * WIDTH
        return self._summed[at : at + WIDTH]

    def counter(self, name: str) -> float:
        """Return one of `COUNTERS`."""
        return self._summed[self._layout.values + _INDEX[name]]

    def each(self, name: str) -> list[float]:
        """Return one of `GAUGES` of each process, by column."""
        return [
            self._all[self._layout.column(number) + self._layout.values + _INDEX[name]]
            for number in range(self._layout.columns)
        ]

    def alive(self, name: str) -> list[float]:
        """Return one of `GAUGES` of the processes that sign."""
        return [value for value, alive in zip(self.each(name), self.each("alive"), strict=True) if alive]

    def token_states(self, number: int) -> list[int]:
        """Return what the processes that sign know of a token."""
        places = [self._layout.column(one) + self._layout.token_states + number for one in range(self._layout.columns)]
        return [int(self._all[at]) for at, alive in zip(places, self.each("alive"), strict=True) if alive]
