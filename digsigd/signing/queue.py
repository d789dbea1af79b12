"""The queue for cst: at most so many run and so many wait, in order of arrival."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from digsigd.errors import Busy, shutting_down

# How many of the latest stays tell how long the next one may take.
_REMEMBERED = 32
# Bounds of what a client is told to wait, and what is said before anything is known, in seconds.
_SHORTEST, _LONGEST, _UNKNOWN = 1, 60, 5


class Slot:
    """A right to run, until `leave` is called."""

    def __init__(self, left: Callable[[], None]) -> None:
        self._left: Callable[[], None] | None = left

    def leave(self) -> None:
        """Let the next one in. Leaving twice is leaving once."""
        left, self._left = self._left, None
        if left is not None:
            left()


class Queue:
    """Lets `max_running` run at once and `max_waiting` wait for it, first come, first served."""

    def __init__(self, max_running: int, max_waiting: int, *, clock: IReactorTime) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._clock = clock
        self._running = 0
        # A dict is a queue from whose middle one can leave.
        self._waiting: dict[Deferred[Slot], None] = {}
        self._stays: deque[float] = deque(maxlen=_REMEMBERED)
        self._letting_in = False
        self._stopped = False
        self._when_drained: list[Deferred[None]] = []

    @property
    def slots(self) -> int:
        """How many may run at once."""
        return self._max_running

    @property
    def running(self) -> int:
        """How many have a slot."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def enter(self) -> Slot:
        """Wait for a slot. Raises `Busy` if the queue is full or stopped.

        Whoever is cancelled while waiting has left the queue.
        """
        self.check_room()
        if self._is_free():
            return self._new_slot()
        turn: Deferred[Slot] = Deferred(self._step_out)
        self._waiting[turn] = None
        return await turn

    def check_room(self) -> None:
        """Raise Busy where `enter` would, for whoever wants to know before doing any work."""
        if self._stopped:
            raise shutting_down()
        if not self._is_free() and len(self._waiting) >= self._max_waiting:
            raise Busy("this signing host has as many requests as it can take", retry_after=self._retry_after())

    def slot(self) -> _Visit:
        """A slot for a block: `async with queue.slot(): ...`."""
        return _Visit(self)

    def stop(self) -> None:
        """Send away all who wait, and who come from now on, with Busy. Those with a slot keep it."""
        self._stopped = True
        waiting, self._waiting = self._waiting, {}
        for turn in waiting:
            turn.errback(shutting_down())
        self._tell_if_drained()

    def drained(self) -> Deferred[None]:
        """Fires when nobody has a slot or waits for one."""
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        self._tell_if_drained()
        return drained

    def _is_free(self) -> bool:
        return self._running < self._max_running and not self._waiting

    def _retry_after(self) -> int:
        """When one who comes now would get a slot, to go by the latest stays."""
        if not self._stays:
            return _UNKNOWN
        stay = sum(self._stays) / len(self._stays)
        ahead = len(self._waiting) + 1
        return min(max(math.ceil(stay * ahead / self._max_running), _SHORTEST), _LONGEST)

    def _step_out(self, turn: Deferred[Slot]) -> None:
        self._waiting.pop(turn, None)
        self._tell_if_drained()

    def _new_slot(self) -> Slot:
        self._running += 1
        return Slot(partial(self._left, self._clock.seconds()))

    def _left(self, since: float) -> None:
        self._stays.append(self._clock.seconds() - since)
        self._running -= 1
        # One let in may leave before the callback returns. The loop that let it in then goes on: the stack
        # stays flat however many do so one after the other.
        if not self._letting_in:
            self._letting_in = True
            try:
                while self._waiting and self._running < self._max_running:
                    turn = next(iter(self._waiting))
                    del self._waiting[turn]
                    turn.callback(self._new_slot())
            finally:
                self._letting_in = False
        self._tell_if_drained()

    def _tell_if_drained(self) -> None:
        if not self._running and not self._waiting:
            drained, self._when_drained = self._when_drained, []
            for deferred in drained:
                deferred.callback(None)


class _Visit:
    """A slot from entering a block to leaving it."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._slot: Slot | None = None

    async def __aenter__(self) -> Slot:
        self._slot = await self._queue.enter()
        return self._slot

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slot is not None:
            self._slot.leave()
