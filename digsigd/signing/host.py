"""What the limits of a host are counted with: within one process, or with others that share the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from digsigd.signing.queue import Queue, Slot, Visit

# The names of queues on a host.
CST = "cst"
# So many rates are kept, and more if they were used within the last minute.
_REMEMBERED = 1024
_MINUTE = 60.0


class Turns(Protocol):
    """A queue with slots, as `Queue`. It may be shared with other processes."""

    @property
    def slots(self) -> int:
        """The number of slots."""

    @property
    def running(self) -> int:
        """The number of slots that this process uses."""

    @property
    def waiting(self) -> int:
        """The number of those in this process that wait for a slot."""

    @property
    def on_host(self) -> tuple[int, int]:
        """The number of slots in use on this host, and of those waiting for one."""

    async def enter(self, party: str = "") -> Slot:
        """Wait for a slot and return it. Raises `Busy`."""

    def check_room(self, party: str = "") -> None:
        """Raise `Busy` if `enter` would."""

    def come_again(self) -> int:
        """Return after how many seconds one that is sent away should come again."""

    def slot(self, party: str = "") -> Visit:
        """Return a context manager that holds a slot."""

    def stop(self) -> None:
        """Fail all waiting and future requests for a slot with `Busy`."""

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when this process uses no slot and waits for none."""


class Counts(Protocol):
    """What parties use of a host: uploads, bytes of uploads, and what is left of their rates."""

    def add(self, party: str, uploads: int, size: int) -> None:
        """Count uploads and bytes of a party, or take them back with negative numbers."""

    def uploads(self, party: str) -> int:
        """Return how many uploads a party has."""

    def size(self, party: str) -> int:
        """Return how many bytes a party's uploads have."""

    def room(self, reserved: int, stored: int, copies: int) -> tuple[int, int, int]:
        """Note what uploads of this process have reserved and stored, and what copies need. Return that of the host."""

    def active(self, here: int) -> int:
        """Note how many requests are active in this process, and return how many are on the host."""

    def changing_rate(self) -> AbstractContextManager[object]:
        """Return a context manager within which no other process changes rates."""

    def rate(self, party: str) -> tuple[float, float] | None:
        """Return what was left of a party's rate, and when, in seconds of the clock; None if it is not known."""

    def keep_rate(self, party: str, left: float, now: float) -> None:
        """Note what is left of a party's rate now."""


class Host(Protocol):
    """The host as a service sees it: its queues, its counts, and what other processes know."""

    @property
    def counts(self) -> Counts:
        """What parties use."""

    def queue(
        self,
        name: str,
        max_running: int,
        max_waiting: int,
        *,
        clock: IReactorTime,
        share: float = 1.0,
        limited: Callable[[str], bool] = lambda _: True,
    ) -> Turns:
        """Return the queue of this name. The arguments are those of `Queue`."""

    def token_tried(self, name: str, *, proven: bool, failed: str) -> None:
        """Tell the others on this host that a token's PIN works, or why it must not be tried again."""

    async def missing(self, own: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:
        """Return what is missing on this host before requests can be signed. `own` asks this process."""


class OwnCounts:
    """The counts of a process that is alone."""

    def __init__(self) -> None:
        self._uploads: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._rates: dict[str, tuple[float, float]] = {}

    def add(self, party: str, uploads: int, size: int) -> None:
        """Implement `Counts.add`."""
        for counter, count in ((self._uploads, uploads), (self._bytes, size)):
            if count:
                counter[party] += count
                if counter[party] <= 0:
                    del counter[party]

    def uploads(self, party: str) -> int:
        """Implement `Counts.uploads`."""
        return self._uploads[party]

    def size(self, party: str) -> int:
        """Implement `Counts.size`."""
        return self._bytes[party]

    def room(self, reserved: int, stored: int, copies: int) -> tuple[int, int, int]:
        """Implement `Counts.room`."""
        return reserved, stored, copies

    def active(self, here: int) -> int:
        """Implement `Counts.active`."""
        return here

    def changing_rate(self) -> AbstractContextManager[object]:
        """Implement `Counts.changing_rate`."""
        return nullcontext()

    def rate(self, party: str) -> tuple[float, float] | None:
        """Implement `Counts.rate`."""
        return self._rates.get(party)

    def keep_rate(self, party: str, left: float, now: float) -> None:
        """Implement `Counts.keep_rate`."""
        self._rates[party] = (left, now)
        if len(self._rates) > _REMEMBERED:
            self._rates = {one: kept for one, kept in self._rates.items() if now - kept[1] < _MINUTE}


class OneProcess:
    """A host with one process."""

    def __init__(self) -> None:
        self.counts: Counts = OwnCounts()

    def queue(
        self,
        name: str,  # noqa: ARG002 - all of them are its own
        max_running: int,
        max_waiting: int,
        *,
        clock: IReactorTime,
        share: float = 1.0,
        limited: Callable[[str], bool] = lambda _: True,
    ) -> Turns:
        """Implement `Host.queue`."""
        return Queue(max_running, max_waiting, clock=clock, share=share, limited=limited)

    def token_tried(self, name: str, *, proven: bool, failed: str) -> None:
        """Implement `Host.token_tried`: there are no others."""

    async def missing(self, own: Callable[[], Coroutine[Any, Any, list[str]]]) -> list[str]:
        """Implement `Host.missing`."""
        return await own()
