"""The counts that processes share, in several of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from twisted.internet.task import Clock

from digsigd.workers.board import ROWS, Board

# Takes the lock of the board at descriptor 3, says so, and keeps it.
HOLDER = """
import fcntl, sys
fcntl.lockf(3, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class Boards:
    """The supervisor's view of one board, and those of two workers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.descriptor = Board.make(3)
        self.supervisor, self.one, self.two = (
            Board(os.dup(self.descriptor), column, 3, clock=self.clock) for column in range(3)
        )


@pytest.fixture
def boards() -> Iterator[Boards]:
    made = Boards()
    yield made
    for board in (made.supervisor, made.one, made.two):
        board.close()
    os.close(made.descriptor)


def test_all_see_the_sum(boards: Boards) -> None:
    """Of uploads and bytes of a party and of all, and of active requests."""
    boards.one.add("a", 1, 100)
    boards.two.add("a", 2, 50)
    boards.two.add("b", 1, 7)
    for board in (boards.one, boards.two):
        assert (board.uploads("a"), board.size("a")) == (3, 150)
        assert (board.uploads("b"), board.size("b")) == (1, 7)
        assert board.uploads("c") == 0
    boards.two.add("a", -2, -50)
    assert (boards.one.uploads("a"), boards.one.size("a")) == (1, 100)
    assert boards.one.room(1, 2, 3) == (1, 2, 3)
    assert boards.two.room(10, 20, 30) == (11, 22, 33)
    assert boards.one.room(0, 0, 0) == (10, 20, 30)
    assert boards.one.active(5) == 5
    assert boards.two.active(3) == 8
    assert boards.one.active(0) == 3


def test_what_a_dead_worker_counted_is_taken_back(boards: Boards) -> None:
    """And nothing else."""
    for board, number in ((boards.one, 2), (boards.two, 5)):
        board.add("a", number, 10 * number)
        board.active(number)
        board.room(number, number, number)
    boards.supervisor.add_waiting("a", 4)
    boards.supervisor.clear(1)
    assert (boards.two.uploads("a"), boards.two.size("a")) == (5, 50)
    assert boards.two.room(5, 5, 5) == (5, 5, 5)
    assert boards.two.active(5) == 5
    assert boards.two.waiting("a") == 4


def test_workers_see_the_queue(boards: Boards) -> None:
    """With what the supervisor has shown last."""
    boards.supervisor.show_queue(2, 7, 9)
    boards.supervisor.add_waiting("a", 3)
    boards.supervisor.add_waiting("a", -1)
    assert boards.one.queue() == (2, 7, 9)
    assert (boards.two.waiting("a"), boards.two.waiting("b")) == (2, 0)


def test_a_rate_is_one_for_all(boards: Boards) -> None:
    """It is known to the others, and forgotten with its row after a minute in which nobody used it."""
    with boards.one.changing_rate():
        boards.one.keep_rate("a", 0.5, boards.clock.seconds())
    assert boards.two.rate("a") == (0.5, 1000)
    assert boards.two.rate("b") is None


def test_rows_that_nobody_uses_are_for_others(boards: Boards) -> None:
    """Those in use stay; with all in use, a further party is not counted, and nothing fails."""
    boards.one.add("kept", 1, 0)
    for number in range(ROWS - 1):
        with boards.one.changing_rate():
            boards.one.keep_rate(str(number), 1, boards.clock.seconds())
    boards.two.add("late", 1, 0)
    assert boards.two.uploads("late") == 0
    boards.clock.advance(60)
    boards.two.add("later", 1, 0)
    assert boards.one.uploads("later") == 1
    assert boards.two.uploads("kept") == 1
    assert boards.one.rate("0") is None


def test_a_process_that_was_stopped_with_the_lock_stops_nobody(boards: Boards) -> None:
    """The others go on without it; when it is killed, the lock is free."""
    with ExitStack() as stack:
        holder = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", f"import os; os.dup2({boards.descriptor}, 3)\n{HOLDER}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[boards.descriptor],
            )
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        boards.one.add("a", 1, 0)
        assert boards.two.uploads("a") == 1
        holder.kill()


def test_no_count_is_below_zero(boards: Boards) -> None:
    """One more party than there are rows is not counted, and may get a row before it is not counted any more."""
    for number in range(ROWS):
        boards.one.add(f"p{number}", 1, 1)
    boards.one.add("more", 1, 5)
    assert boards.two.uploads("more") == 0
    boards.one.add("p0", -1, -1)
    boards.clock.advance(60)
    boards.one.add("more", -1, -5)
    assert (boards.two.uploads("more"), boards.two.size("more")) == (0, 0)
    boards.one.add("more", 1, 5)
    assert (boards.two.uploads("more"), boards.two.size("more")) == (1, 5)
