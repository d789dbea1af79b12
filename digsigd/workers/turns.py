"""A worker's side of the queues that the supervisor keeps for all workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from digsigd.errors import Busy, shutting_down
from digsigd.signing.queue import Promises, Slot, Visit
from digsigd.workers.board import Board
from digsigd.workers.wire import Channel


class Desk:
    """The turns of this worker that were asked for or given, by number."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._last = 0
        self._asked: dict[int, Deferred[None]] = {}

    def ask(self, queue: str, party: str) -> tuple[int, Deferred[None]]:
        """Ask for a turn. Return its number, and a Deferred that fires with it or fails with `Busy`."""
        self._last = number = self._last + 1
        turn: Deferred[None] = Deferred(lambda _: self._give_up(number))
        self._asked[number] = turn
        self._channel.say("enter", number, queue, party)
        return number, turn

    def leave(self, number: int) -> None:
        """Give a turn back."""
        self._channel.say("leave", number)

    def given(self, number: int) -> None:
        """Take a turn that the supervisor gives. One that is not wanted any more is on its way back already."""
        turn = self._asked.pop(number, None)
        if turn is not None:
            turn.callback(None)

    def refused(self, number: int, what: str, retry_after: int) -> None:
        """Take a refusal of the supervisor."""
        turn = self._asked.pop(number, None)
        if turn is not None:
            turn.errback(Busy(what, retry_after=retry_after))

    def withdraw(self, number: int, error: Busy) -> None:
        """Fail a turn that was asked for."""
        turn = self._asked.pop(number, None)
        if turn is not None:
            self.leave(number)
            turn.errback(error)

    def _give_up(self, number: int) -> None:
        self._asked.pop(number, None)
        self.leave(number)


class SharedQueue:
    """A queue of the host: it has the methods of `Queue`. `board` is given for the queue for cst, to look before."""

    def __init__(
        self,
        name: str,
        max_running: int,
        max_waiting: int,
        *,
        desk: Desk,
        board: Board | None,
        clock: IReactorTime,
        share: float,
        limited: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._desk = desk
        self._board = board
        self._clock = clock
        self._promises = Promises(1 if board is None else board.workers)
        self._share = math.ceil(share * max_waiting)
        self._limited = limited
        self._running = 0
        # The numbers of those that wait.
        self._turns: set[int] = set()
        self._stopped = False
        self._when_drained: list[Deferred[None]] = []

    @property
    def slots(self) -> int:
        """The number of slots of the host."""
        return self._max_running

    @property
    def running(self) -> int:
        """The number of slots that this worker uses."""
        return self._running

    @property
    def waiting(self) -> int:
        """The number of those in this worker that wait for a slot."""
        return len(self._turns)

    @property
    def on_host(self) -> tuple[int, int]:
        """The number of slots in use on this host, and of those waiting for one."""
        return (self._running, self.waiting) if self._board is None else self._board.queue()[:2]

    async def enter(self, party: str = "") -> Slot:
        """Wait for a slot and return it. Raises `Busy` if the queue is full for this party, or stopped.

        Cancelling while it waits leaves the queue.
        """
        if self._stopped:
            raise shutting_down()
        number, turn = self._desk.ask(self._name, party)
        self._turns.add(number)
        try:
            await turn
        except BaseException:
            self._turns.discard(number)
            self._tell_if_drained()
            raise
        self._turns.discard(number)
        self._running += 1
        return Slot(partial(self._left, number))

    def check_room(self, party: str = "") -> None:
        """Raise `Busy` if `enter` would, as far as this worker can see."""
        if self._stopped:
            raise shutting_down()
        if self._board is None:
            return
        running, waiting, _ = self._board.queue()
        if running < self._max_running and not waiting:
            return
        much = self._board.waiting(party) >= self._share and self._limited(party)
        if waiting >= self._max_waiting or much:
            raise Busy("too many requests on this signing host", retry_after=self.come_again())

    def come_again(self) -> int:
        """Return after how many whole seconds one that is sent away should come again."""
        _, waiting, pace = (0, 0, 0.0) if self._board is None else self._board.queue()
        return self._promises.next(pace, waiting, self._clock.seconds())

    def slot(self, party: str = "") -> Visit:
        """Return a context manager that holds a slot. Entering raises `Busy`."""
        return Visit(self.enter, party)

    def stop(self) -> None:
        """Fail all waiting and future requests of this worker for a slot with `Busy`. Slots in use stay valid."""
        self._stopped = True
        for number in list(self._turns):
            self._desk.withdraw(number, shutting_down())
        self._tell_if_drained()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when this worker uses no slot and waits for none."""
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        self._tell_if_drained()
        return drained

    def _left(self, number: int) -> None:
        self._running -= 1
        self._desk.leave(number)
        self._tell_if_drained()

    def _tell_if_drained(self) -> None:
        if not self._running and not self._turns:
            drained, self._when_drained = self._when_drained, []
            for deferred in drained:
                deferred.callback(None)
