"""A queue with limits for running and waiting requests, in which parties take turns."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from digsigd.errors import Busy, shutting_down

# The number of latest durations from which the next one is estimated.
_REMEMBERED = 32
# Bounds of the retry time that clients get, and its value before anything is known, in seconds.
_SHORTEST, _LONGEST, _UNKNOWN = 1, 60, 5


class Slot:
    """A slot in the queue. Its owner may run until it calls `leave`."""

    def __init__(self, left: Callable[[], None]) -> None:
        self._left: Callable[[], None] | None = left

    def leave(self) -> None:
        """Give the slot to the next in the queue. Further calls do nothing."""
        left, self._left = self._left, None
        if left is not None:
            left()


class Promises:
    """When those that are sent away may come again. `processes` promise independently of each other."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._last = 0.0

    def next(self, pace: float, waiting: int, now: float) -> int:
        """Return after how many seconds the next may come. A slot becomes free every `pace` seconds (0: unknown)."""
        if not pace:
            return _UNKNOWN
        # Behind those that wait, and behind those that were sent away before.
        soonest = max(now + pace * (waiting + 1), self._last + pace * self._processes)
        self._last = min(soonest, now + _LONGEST)
        return min(max(math.ceil(self._last - now), _SHORTEST), _LONGEST)


class Queue:
    """A queue with `max_running` slots and at most `max_waiting` waiting for one.

    A slot goes to the party that has the fewest, and of several to the one whose last turn is longest ago. Within a
    party it is first come, first served. A party for which `limited` is true may have at most `share` of the waiting
    places.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        *,
        clock: IReactorTime,
        share: float = 1.0,
        limited: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._clock = clock
        self._running = 0
        self._share = math.ceil(share * max_waiting)
        self._limited = limited
        # The parties that wait, the one with the latest turn last. Dicts as ordered sets: entries can leave from the
        # middle.
        self._lines: dict[str, dict[Deferred[Slot], None]] = {}
        self._waiting = 0
        self._running_of: Counter[str] = Counter()
        self._stays: deque[float] = deque(maxlen=_REMEMBERED)
        self._promises = Promises()
        self._letting_in = False
        self._stopped = False
        self._when_drained: list[Deferred[None]] = []

    @property
    def slots(self) -> int:
        """The number of slots."""
        return self._max_running

    @property
    def running(self) -> int:
        """The number of slots in use."""
        return self._running

    @property
    def waiting(self) -> int:
        """The number of those waiting for a slot."""
        return self._waiting

    @property
    def on_host(self) -> tuple[int, int]:
        """The number of slots in use on this host, and of those waiting for one."""
        return self._running, self._waiting

    async def enter(self, party: str = "") -> Slot:
        """Wait for a slot and return it. Raises `Busy` if the queue is full for this party, or stopped.

        Cancelling while it waits leaves the queue.
        """
        self.check_room(party)
        if self._is_free():
            return self._new_slot(party)
        turn: Deferred[Slot] = Deferred(partial(self._step_out, party))
        self._lines.setdefault(party, {})[turn] = None
        self._waiting += 1
        return await turn

    def check_room(self, party: str = "") -> None:
        """Raise `Busy` if `enter` would. Call this before work that a full queue would waste."""
        if self._stopped:
            raise shutting_down()
        if self._is_free():
            return
        much = len(self._lines.get(party, ())) >= self._share and self._limited(party)
        if self._waiting >= self._max_waiting or much:
            raise Busy("too many requests on this signing host", retry_after=self.come_again())

    @property
    def pace(self) -> float:
        """After how many seconds a slot becomes free again, from the latest durations; 0 if that is not known."""
        return sum(self._stays) / len(self._stays) / self._max_running if self._stays else 0.0

    def come_again(self) -> int:
        """Return after how many whole seconds one that is sent away should come again: from the latest durations.

        Those that are sent away at the same time are told different times, as far apart as slots become free: each
        then finds one, and not all at once.
        """
        return self._promises.next(self.pace, self._waiting, self._clock.seconds())

    def slot(self, party: str = "") -> Visit:
        """Return a context manager that holds a slot: `async with queue.slot(): ...`. Entering raises `Busy`."""
        return Visit(self.enter, party)

    def stop(self) -> None:
        """Fail all waiting and future requests for a slot with `Busy`. Slots in use stay valid."""
        self._stopped = True
        lines, self._lines, self._waiting = self._lines, {}, 0
        for line in lines.values():
            for turn in line:
                turn.errback(shutting_down())
        self._tell_if_drained()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no slots are in use or waited for."""
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        self._tell_if_drained()
        return drained

    def _is_free(self) -> bool:
        return self._running < self._max_running and not self._waiting

    def _step_out(self, party: str, turn: Deferred[Slot]) -> None:
        self._take_out(party, turn)
        self._tell_if_drained()

    def _take_out(self, party: str, turn: Deferred[Slot]) -> None:
        line = self._lines.get(party, {})
        if turn in line:
            del line[turn]
            self._waiting -= 1
            if not line:
                del self._lines[party]

    def _take_next(self) -> tuple[str, Deferred[Slot]]:
        """Take out whose turn is next."""
        party = min(self._lines, key=self._running_of.__getitem__)
        turn = next(iter(self._lines[party]))
        # Its next turn comes after those of all others.
        self._lines[party] = self._lines.pop(party)
        self._take_out(party, turn)
        return party, turn

    def _new_slot(self, party: str) -> Slot:
        self._running += 1
        self._running_of[party] += 1
        return Slot(partial(self._left, party, self._clock.seconds()))

    def _left(self, party: str, since: float) -> None:
        self._stays.append(self._clock.seconds() - since)
        self._running -= 1
        self._running_of[party] -= 1
        if not self._running_of[party]:
            del self._running_of[party]
        # The callback may leave its slot before it returns. The outer loop then continues, so the stack does not
        # grow, however often that happens in a row.
        if not self._letting_in:
            self._letting_in = True
            try:
                while self._waiting and self._running < self._max_running:
                    next_party, turn = self._take_next()
                    turn.callback(self._new_slot(next_party))
            finally:
                self._letting_in = False
        self._tell_if_drained()

    def _tell_if_drained(self) -> None:
        if not self._running and not self._waiting:
            drained, self._when_drained = self._when_drained, []
            for deferred in drained:
                deferred.callback(None)


class Visit:
    """A context manager that holds a slot within its block."""

    def __init__(self, enter: Callable[[str], Coroutine[Any, Any, Slot]], party: str) -> None:
        self._enter = enter
        self._party = party
        self._slot: Slot | None = None

    async def __aenter__(self) -> Slot:
        self._slot = await self._enter(self._party)
        return self._slot

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slot is not None:
            self._slot.leave()
