"""The line before cst: fair, bounded, and nobody lost in it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from digsigd.errors import Busy
from digsigd.signing.queue import Queue, Slot


def enter(queue: Queue) -> Deferred[Slot]:
    return Deferred.fromCoroutine(queue.enter())


def outcome(deferred: Deferred[Any]) -> Any:
    """The result or the exception that a Deferred has now; None if it has none."""
    got: list[Any] = []
    deferred.addCallbacks(got.append, lambda failure: got.append(failure.value))
    return got[0] if got else None


def test_as_many_run_as_may_and_the_others_wait_in_order() -> None:
    """First come, first served."""
    queue = Queue(2, 3, clock=Clock())
    order: list[int] = []

    async def one(number: int, until: Deferred[None]) -> None:
        async with queue.slot():
            order.append(number)
            await until

    ends: list[Deferred[None]] = [Deferred() for _ in range(5)]
    for number, end in enumerate(ends):
        Deferred.fromCoroutine(one(number, end))
    assert (order, queue.running, queue.waiting) == ([0, 1], 2, 3)
    ends[1].callback(None)
    assert (order, queue.running, queue.waiting) == ([0, 1, 2], 2, 2)
    ends[0].callback(None)
    ends[2].callback(None)
    assert (order, queue.running, queue.waiting) == ([0, 1, 2, 3, 4], 2, 0)
    ends[3].callback(None)
    ends[4].callback(None)
    assert (queue.running, queue.waiting) == (0, 0)


def test_one_more_than_may_wait_is_sent_away() -> None:
    """At once, and the others do not notice."""
    queue = Queue(1, 1, clock=Clock())
    first, second = enter(queue), enter(queue)
    with pytest.raises(Busy, match="too many requests") as caught:
        raise outcome(enter(queue))
    assert caught.value.retry_after == 5
    outcome(first).leave()
    assert isinstance(outcome(second), Slot)


def test_without_room_to_wait_there_are_only_places() -> None:
    """`max_waiting = 0` is a setting like any other."""
    queue = Queue(1, 0, clock=Clock())
    place = outcome(enter(queue))
    assert isinstance(outcome(enter(queue)), Busy)
    place.leave()
    assert isinstance(outcome(enter(queue)), Slot)


@pytest.mark.parametrize(
    ("stays", "waiting", "expected"),
    [([], 3, 5), ([10.0], 0, 5), ([10.0, 20.0], 1, 15), ([0.01], 3, 1), ([3.0], 2, 5), ([500.0], 0, 60)],
)
def test_who_is_sent_away_hears_when_there_may_be_a_place(stays: list[float], waiting: int, expected: int) -> None:
    """From how long the latest have stayed and how many are before, in whole seconds from 1 to 60."""
    clock = Clock()
    queue = Queue(2, waiting, clock=clock)
    for stay in stays:
        place = outcome(enter(queue))
        clock.advance(stay)
        place.leave()
    for _ in range(2 + waiting):
        enter(queue)
    assert outcome(enter(queue)).retry_after == expected


def test_those_who_are_sent_away_together_do_not_come_again_together() -> None:
    """They are told times as far apart as places become free, up to a minute; later ones do not wait for them."""
    clock = Clock()
    queue = Queue(2, 1, clock=clock)
    place = outcome(enter(queue))
    clock.advance(4)
    place.leave()
    for _ in range(3):
        enter(queue)
    told = [outcome(enter(queue)).retry_after for _ in range(40)]
    assert told[:4] == [4, 6, 8, 10]
    assert told[-12:] == [60] * 12
    clock.advance(100)
    assert outcome(enter(queue)).retry_after == 4


def test_only_the_latest_stays_count() -> None:
    """A slow hour is forgotten."""
    clock = Clock()
    queue = Queue(1, 0, clock=clock)
    for stay in [1000.0] * 32 + [2.0] * 32:
        place = outcome(enter(queue))
        clock.advance(stay)
        place.leave()
    enter(queue)
    assert outcome(enter(queue)).retry_after == 2


def test_a_cancelled_one_has_left_the_line() -> None:
    """The next is not skipped, and there is room for another."""
    queue = Queue(1, 2, clock=Clock())
    first, second, third = enter(queue), enter(queue), enter(queue)
    second.cancel()
    assert isinstance(outcome(second), CancelledError)
    assert queue.waiting == 1
    fourth = enter(queue)
    assert queue.waiting == 2
    outcome(first).leave()
    assert isinstance(outcome(third), Slot)
    assert outcome(fourth) is None


def test_an_exception_gives_the_place_to_the_next() -> None:
    """So does being cancelled while having it."""
    queue = Queue(1, 2, clock=Clock())

    async def fail(when: Deferred[None]) -> None:
        async with queue.slot():
            await when
            raise LookupError

    when: Deferred[None] = Deferred()
    failing, cancelled = Deferred.fromCoroutine(fail(when)), Deferred.fromCoroutine(fail(Deferred()))
    last = enter(queue)
    when.callback(None)
    assert isinstance(outcome(failing), LookupError)
    assert queue.running == 1
    cancelled.cancel()
    assert isinstance(outcome(cancelled), CancelledError)
    assert isinstance(outcome(last), Slot)
    assert (queue.running, queue.waiting) == (1, 0)


def test_leaving_twice_is_leaving_once() -> None:
    """No second place comes of it."""
    queue = Queue(1, 2, clock=Clock())
    first, _, third = enter(queue), enter(queue), enter(queue)
    place = outcome(first)
    place.leave()
    place.leave()
    assert (queue.running, queue.waiting) == (1, 1)
    assert outcome(third) is None


def test_a_long_line_of_short_stays_does_not_deepen_the_stack() -> None:
    """Each leaves before the one before it has returned."""
    queue = Queue(1, 100_000, clock=Clock())
    order: list[int] = []

    async def brief(number: int) -> None:
        async with queue.slot():
            order.append(number)

    first = outcome(enter(queue))
    for number in range(5000):
        Deferred.fromCoroutine(brief(number))
    first.leave()
    assert order == list(range(5000))
    assert (queue.running, queue.waiting) == (0, 0)


def test_who_comes_while_the_line_moves_does_not_pass_anybody() -> None:
    """A place that is free for a moment belongs to the one who waits for it."""
    queue = Queue(1, 9, clock=Clock())
    order: list[str] = []

    async def visit(name: str, comes: str | None = None) -> None:
        async with queue.slot():
            order.append(name)
        if comes:
            Deferred.fromCoroutine(visit(comes))

    first = outcome(enter(queue))
    for name in ("a", "b", "c"):
        Deferred.fromCoroutine(visit(name, name.upper()))
    first.leave()
    assert order == ["a", "b", "c", "A", "B", "C"]


def test_stopping_sends_away_who_waits_and_who_comes() -> None:
    """Who has a place keeps it; when the last has left, the line is drained."""
    queue = Queue(1, 2, clock=Clock())
    first, second = enter(queue), enter(queue)
    drained = queue.drained()
    queue.stop()
    assert "shutting down" in outcome(second).what
    assert isinstance(outcome(enter(queue)), Busy)
    told: list[None] = []
    drained.addCallback(told.append)
    assert (queue.running, queue.waiting, told) == (1, 0, [])
    outcome(first).leave()
    assert told == [None]
    assert queue.drained().called


def test_drained_waits_for_those_who_wait() -> None:
    """An empty line is drained at once; whoever gives up waiting for it is forgotten."""
    queue = Queue(1, 2, clock=Clock())
    assert queue.drained().called
    first, second = enter(queue), enter(queue)
    drained, given_up = queue.drained(), queue.drained()
    given_up.cancel()
    assert isinstance(outcome(given_up), CancelledError)
    told: list[None] = []
    drained.addCallback(told.append)
    outcome(first).leave()
    assert told == []
    outcome(second).leave()
    assert told == [None]


class AnyLine(RuleBasedStateMachine):
    """Entering, leaving and giving up in any order, beside a plain list that does the same."""

    @initialize(running=st.integers(1, 3), waiting=st.integers(0, 4))
    def begin(self, running: int, waiting: int) -> None:
        self.clock = Clock()
        self.max_running, self.max_waiting = running, waiting
        self.queue = Queue(running, waiting, clock=self.clock)
        self.inside: list[int] = []
        self.outside: list[int] = []
        self.turns: dict[int, Deferred[Slot]] = {}
        self.slots: dict[int, Slot] = {}
        self.granted: list[int] = []
        self.expected: list[int] = []
        self.count = 0
        self.stopped = False

    @rule()
    def come(self) -> None:
        self.count += 1
        number = self.count
        turn = enter(self.queue)
        if self.stopped or (len(self.inside) == self.max_running and len(self.outside) == self.max_waiting):
            busy = outcome(turn)
            assert isinstance(busy, Busy)
            assert 1 <= busy.retry_after <= 60
            return
        self.turns[number] = turn

        def entered(place: Slot) -> None:
            self.granted.append(number)
            self.slots[number] = place

        turn.addCallbacks(entered, lambda failure: failure.trap(CancelledError, Busy) and None)
        self.outside.append(number)
        self.advance()

    def advance(self) -> None:
        while self.outside and len(self.inside) < self.max_running:
            self.inside.append(self.outside.pop(0))
            self.expected.append(self.inside[-1])

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), seconds=st.floats(0, 100))
    def leave(self, data: st.DataObject, seconds: float) -> None:
        self.clock.advance(seconds)
        number = data.draw(st.sampled_from(self.inside))
        self.inside.remove(number)
        self.advance()
        self.slots.pop(number).leave()

    @precondition(lambda self: self.outside)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.outside))
        self.outside.remove(number)
        self.turns[number].cancel()

    @precondition(lambda self: self.count > 5)
    @rule()
    def stop(self) -> None:
        self.stopped = True
        self.queue.stop()
        self.outside.clear()

    @invariant()
    def the_counts_are_right_and_the_order_is_that_of_arrival(self) -> None:
        if hasattr(self, "queue"):
            assert self.granted == self.expected
            assert (self.queue.running, self.queue.waiting) == (len(self.inside), len(self.outside))
            assert self.queue.drained().called == (not self.inside and not self.outside)


TestAnyLine = AnyLine.TestCase
TestAnyLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 30))
def test_all_who_are_let_in_get_a_place_in_the_end(running: int, waiting: int, come: int) -> None:
    """As many as there is room for, neither more nor fewer."""
    queue = Queue(running, waiting, clock=Clock())
    turns = [enter(queue) for _ in range(come)]
    served = 0
    for turn in turns:
        place = outcome(turn)
        if isinstance(place, Slot):
            place.leave()
            served += 1
    assert served == min(come, running + waiting)


def served(queue: Queue, slots: list[Slot], waiting: list[tuple[str, Deferred[Slot]]]) -> list[str]:
    """Leave one slot after the other, and return whose turns came."""
    order: list[str] = []

    def came(slot: Slot, party: str) -> None:
        order.append(party)
        slots.append(slot)

    for party, turn in waiting:
        turn.addCallback(came, party)
    while slots:
        slots.pop(0).leave()
    return order


async def test_parties_take_turns() -> None:
    """One with many requests in the queue does not hold up another with one, nor a third that comes later."""
    queue = Queue(1, 20, clock=Clock())
    slots = [await queue.enter("a")]
    waiting = [(one, Deferred.fromCoroutine(queue.enter(one))) for one in "aaaabbc"]
    assert served(queue, slots, waiting) == list("abcabaa")
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_slot_goes_to_the_party_that_has_the_fewest() -> None:
    """A party whose runs take long has not all of the slots for that long."""
    queue = Queue(3, 20, clock=Clock())
    held = [await queue.enter("slow"), await queue.enter("slow"), await queue.enter("quick")]
    waiting = [(one, Deferred.fromCoroutine(queue.enter(one))) for one in ("slow", "slow", "quick", "quick")]
    assert served(queue, held[2:], waiting) == ["quick", "quick", "slow", "slow"]


async def test_a_party_has_its_share_of_the_places_to_wait() -> None:
    """Others find room when it has taken all of its own."""
    queue = Queue(1, 4, clock=Clock(), share=0.5)
    slot = await queue.enter("a")
    waiting = [Deferred.fromCoroutine(queue.enter("a")) for _ in range(2)]
    with pytest.raises(Busy):
        queue.check_room("a")
    queue.check_room("b")
    waiting += [Deferred.fromCoroutine(queue.enter("b")) for _ in range(2)]
    with pytest.raises(Busy):
        queue.check_room("c")
    waiting[0].cancel()
    queue.check_room("a")
    queue.stop()
    slot.leave()
    for turn in waiting:
        turn.addErrback(lambda _: None)


async def test_only_parties_that_can_be_told_apart_have_shares() -> None:
    """Others may take every place to wait."""
    queue = Queue(1, 4, clock=Clock(), share=0.5, limited=lambda party: party == "a")
    slot = await queue.enter("a")
    waiting = [Deferred.fromCoroutine(queue.enter("b")) for _ in range(3)]
    queue.check_room("b")
    waiting.append(Deferred.fromCoroutine(queue.enter("b")))
    with pytest.raises(Busy):
        queue.check_room("b")
    queue.stop()
    slot.leave()
    for turn in waiting:
        turn.addErrback(lambda _: None)
