"""The queues of a host, between a supervisor and two workers without processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from digsigd.errors import Busy
from digsigd.settings import (
    CallerSettings,
    CallerTokenSettings,
    CstSettings,
    KeysSettings,
    Pkcs11Settings,
    Settings,
    TokenSettings,
)
from digsigd.signing.host import CST
from digsigd.signing.pkcs11 import MOST_WAITING, session_queue
from digsigd.signing.queue import Slot
from digsigd.workers.board import Board
from digsigd.workers.queues import HostQueues
from digsigd.workers.turns import Desk, SharedQueue
from digsigd.workers.wire import settings_as_text, settings_from_text

SETTINGS = Settings(
    cst=CstSettings(max_running=2, max_waiting=4),
    callers={"a": CallerSettings(), "b": CallerSettings()},
    pkcs11=Pkcs11Settings(tokens={"t": TokenSettings()}),
)


class Channel:
    """A worker's channel, whose supervisor hears at once, and answers when `Host.deliver` is called."""

    def __init__(self, host: Host, worker: int) -> None:
        self._host, self._worker = host, worker

    def say(self, verb: str, *rest: Any) -> None:
        if verb == "leave":
            self._host.queues.leave(self._worker, *rest)
        else:
            self._host.queues.enter(self._worker, partial(self._answer, self._worker), *rest)

    def _answer(self, worker: int, *message: Any) -> None:
        self._host.messages.append((worker, *message))


class Host:
    """A supervisor's queues, and those that two workers see."""

    def __init__(self) -> None:
        clock = Clock()
        self.descriptor = Board.make(3)
        self.boards = [Board(os.dup(self.descriptor), column, 3, clock=clock) for column in range(3)]
        self.queues = HostQueues(SETTINGS, self.boards[0], clock=clock)
        self.messages: list[tuple[Any, ...]] = []
        self.desks: dict[int, Desk] = {}
        self.cst: dict[int, SharedQueue] = {}
        for worker in (1, 2):
            channel: Any = Channel(self, worker)
            self.desks[worker] = Desk(channel)
            self.cst[worker] = self.queue(worker, CST, 2, 4)

    def queue(self, worker: int, name: str, running: int, waiting: int) -> SharedQueue:
        board = self.boards[worker] if name == CST else None
        return SharedQueue(
            name,
            running,
            waiting,
            desk=self.desks[worker],
            board=board,
            clock=Clock(),
            share=0.5,
            limited=lambda _: True,
        )

    def deliver(self) -> None:
        while self.messages:
            worker, verb, *rest = self.messages.pop(0)
            desk = self.desks[worker]
            (desk.given if verb == "turn" else desk.refused)(*rest)

    def enter(self, queue: SharedQueue, party: str = "a") -> Deferred[Slot]:
        turn = Deferred.fromCoroutine(queue.enter(party))
        self.deliver()
        return turn


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    for board in made.boards:
        board.close()
    os.close(made.descriptor)


def has(turn: Deferred[Slot]) -> bool:
    return bool(turn.called)


def slot_of(turn: Deferred[Slot]) -> Slot:
    slot = turn.result
    assert isinstance(slot, Slot)
    return slot


def test_slots_are_those_of_the_host(host: Host) -> None:
    """Two workers have two together; what one leaves, the other gets."""
    first, second = host.enter(host.cst[1]), host.enter(host.cst[2])
    third = host.enter(host.cst[2])
    assert first.called
    assert second.called
    assert not has(third)
    assert (host.cst[1].running, host.cst[2].running, host.cst[2].waiting) == (1, 1, 1)
    slot_of(first).leave()
    host.deliver()
    assert has(third)
    assert host.cst[1].drained().called
    assert not host.cst[2].drained().called


def test_parties_take_turns_over_all_workers(host: Host) -> None:
    """A caller with many requests in one worker does not keep another one out in the other."""
    running = [host.enter(host.cst[1]), host.enter(host.cst[1])]
    many = [host.enter(host.cst[1]), host.enter(host.cst[1])]
    other = host.enter(host.cst[2], "b")
    slot_of(running[0]).leave()
    host.deliver()
    assert other.called
    assert not any(turn.called for turn in many)


def test_a_full_queue_is_seen_by_all(host: Host) -> None:
    """By those who look before, and by those who enter; a caller has half of the places."""
    for worker in (1, 2):
        host.cst[worker].check_room("a")
        host.enter(host.cst[worker], "a")
    for worker in (1, 2):
        host.cst[worker].check_room("a")
        host.enter(host.cst[worker], "a")
    for worker in (1, 2):
        with pytest.raises(Busy):
            host.cst[worker].check_room("a")
        host.cst[worker].check_room("b")
    host.enter(host.cst[1], "a").addErrback(lambda failure: failure.trap(Busy))
    for worker in (1, 2):
        host.enter(host.cst[worker], "b")
    with pytest.raises(Busy):
        host.cst[1].check_room("c")


def test_what_a_dead_worker_held_goes_to_the_others(host: Host) -> None:
    """Slots in use, slots that were on their way, and places in the queue."""
    held = [host.enter(host.cst[1]), host.enter(host.cst[1])]
    waits = host.enter(host.cst[1])
    other = host.enter(host.cst[2])
    host.queues.gone(1)
    host.deliver()
    assert all(turn.called for turn in held)
    assert other.called
    assert host.boards[2].queue()[:2] == (1, 0)
    assert host.boards[2].waiting("a") == 0
    waits.cancel()
    waits.addErrback(lambda failure: failure.trap(CancelledError))
    assert host.boards[2].queue()[:2] == (1, 0)


def test_who_leaves_the_queue_has_no_turn(host: Host) -> None:
    """Even if it is given at this moment: it goes to the next."""
    first, _ = host.enter(host.cst[1]), host.enter(host.cst[1])
    leaves, stays = host.enter(host.cst[1]), host.enter(host.cst[2])
    slot_of(first).leave()
    # The turn is on its way.
    leaves.cancel()
    leaves.addErrback(lambda failure: failure.trap(CancelledError))
    host.deliver()
    assert stays.called


def test_a_worker_that_stops_lets_nobody_wait(host: Host) -> None:
    """What waits there fails with `Busy`; the other worker goes on."""
    for worker in (1, 2):
        host.enter(host.cst[worker])
    ours, others = host.enter(host.cst[1]), host.enter(host.cst[2])
    host.cst[1].stop()
    failed: list[Any] = []
    ours.addErrback(failed.append)
    assert failed[0].check(Busy)
    assert not others.called
    assert host.boards[1].queue()[:2] == (2, 1)


def test_a_session_of_a_token_is_one_for_the_host(host: Host) -> None:
    """However many workers ask for it."""
    sessions = [host.queue(worker, session_queue("t"), 1, MOST_WAITING) for worker in (1, 2)]
    first, second = (host.enter(queue) for queue in sessions)
    assert first.called
    assert not second.called
    slot_of(first).leave()
    host.deliver()
    assert second.called


def test_settings_arrive_as_they_were() -> None:
    """Paths, times, lists, tables and infinity."""
    token = CallerTokenSettings(file=Path("/a b"), not_after=datetime(2030, 1, 31, tzinfo=UTC))
    settings = Settings(
        keys=KeysSettings(keep=math.inf),
        cst=CstSettings(
            paths=(Path("/opt/x"), Path(os.fsdecode(b"/opt/\xff"))), versions={"3.4.1": Path("/usr/bin/cst")}
        ),
        callers={"ä": CallerSettings(tokens=(token,), certificate=("CN=a", "CN=b"), rate=2.5)},
    )
    assert settings_from_text(settings_as_text(settings)) == settings
