"""The queues of a host, which the supervisor keeps for its workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from digsigd.errors import Busy
from digsigd.settings import Settings
from digsigd.signing.host import CST
from digsigd.signing.pkcs11 import MOST_WAITING, session_queue, trial_queue
from digsigd.signing.queue import Queue, Slot
from digsigd.web.shares import is_limited
from digsigd.workers.board import Board

# Sends a message to a worker.
Say = Callable[..., None]


class HostQueues:
    """The queues for cst and for tokens, in which requests of all workers take turns as those of one process do.

    What a worker holds is given back when it is gone. `callers` is replaced by a reload.
    """

    def __init__(self, settings: Settings, board: Board, *, clock: IReactorTime) -> None:
        self.callers = len(settings.callers)
        self._board = board
        cst = settings.cst
        self._cst = Queue(
            cst.max_running,
            cst.max_waiting,
            clock=clock,
            share=settings.upload.share,
            limited=lambda party: is_limited(party, self.callers),
        )
        self._queues = {CST: self._cst}
        for name, token in settings.pkcs11.tokens.items():
            self._queues[session_queue(name)] = Queue(token.max_sessions, MOST_WAITING, clock=clock)
            self._queues[trial_queue(name)] = Queue(1, MOST_WAITING, clock=clock)
        # By worker and number: a turn that is waited for, or a slot.
        self._turns: defaultdict[int, dict[int, Deferred[Any] | Slot]] = defaultdict(dict)

    @property
    def state(self) -> str:
        """How many cst run, and how many requests wait for one, as a text."""
        return f"{self._cst.running} running, {self._cst.waiting} waiting"

    def enter(self, worker: int, say: Say, number: int, name: str, party: str) -> None:
        """Enter a queue for a worker, which is told `turn` or `busy` with this number."""
        turn = Deferred.fromCoroutine(self._queues[name].enter(party))
        waits = name == CST and not turn.called
        if waits:
            self._board.add_waiting(party, 1)
        self._turns[worker][number] = turn

        def given(slot: Slot) -> None:
            self._turns[worker][number] = slot
            say("turn", number)

        def refused(failure: Failure) -> None:
            self._turns[worker].pop(number, None)
            if error := failure.check(CancelledError, Busy):
                if error is not CancelledError:
                    busy: Any = failure.value
                    say("busy", number, busy.what, busy.retry_after)
                return
            failure.raiseException()

        def over(result: Any) -> Any:
            if waits:
                self._board.add_waiting(party, -1)
            return result

        turn.addBoth(over).addCallbacks(given, refused)
        self._show()

    def leave(self, worker: int, number: int) -> None:
        """Give a slot back, or leave the queue."""
        turn = self._turns[worker].pop(number, None)
        if isinstance(turn, Slot):
            turn.leave()
        elif turn is not None:
            turn.cancel()
        self._show()

    def gone(self, worker: int) -> None:
        """Give back everything of a worker that has ended."""
        for number in list(self._turns[worker]):
            self.leave(worker, number)
        del self._turns[worker]

    def _show(self) -> None:
        self._board.show_queue(self._cst.running, self._cst.waiting, self._cst.pace)
