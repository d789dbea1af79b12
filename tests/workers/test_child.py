"""A worker as the supervisor sees it, without a process."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from digsigd.settings import Settings
from digsigd.workers.child import Child, Shared
from digsigd.workers.watch import MOST_MISSED, Watch


class Host(Clock):
    """A reactor that starts no process."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = StringTransport()
        self.told: list[Any] = []

    def spawnProcess(self, child: Child, *_: Any, **__: Any) -> None:
        child.makeConnection(type("Process", (), {"pid": None})())

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        factory.buildProtocol(None).makeConnection(self.transport)

    def child(self) -> Child:
        child = Child(
            1, 0, said=lambda _, message: self.told.append(message), ended=lambda _, how: self.told.append(how)
        )
        reactor: Any = self
        child.start(reactor, [], Settings(), 1, Shared(-1, -1, -1))
        return child


@pytest.fixture
def host() -> Host:
    return Host()


KILLED = Failure(ProcessTerminated(signal=9))


def test_what_a_dead_worker_has_said_comes_before_its_end(host: Host) -> None:
    """So that nothing it had is counted after it was given back."""
    child = host.child()
    child.processExited(KILLED)
    child.channel.dataReceived(b'["enter",1,"cst",""]\n')
    assert host.told == [["enter", 1, "cst", ""]]
    child.channel.connectionLost()
    assert host.told[1:] == ["was killed by SIGKILL"]
    assert host.getDelayedCalls() == []


def test_a_channel_that_others_keep_open_is_closed(host: Host) -> None:
    """A second after the process has ended."""
    child = host.child()
    child.processExited(KILLED)
    host.advance(1)
    assert host.transport.disconnecting
    child.channel.connectionLost()
    assert host.told == ["was killed by SIGKILL"]


def test_a_worker_closes_its_channel_first(host: Host) -> None:
    """As at an end in order: it is over when its process is."""
    child = host.child()
    child.channel.connectionLost()
    assert host.told == []
    child.processExited(KILLED)
    assert host.told == ["was killed by SIGKILL"]
    assert host.getDelayedCalls() == []


def test_a_worker_that_does_not_answer_is_told_after_a_minute(host: Host) -> None:
    """Not one that answers, nor both after the supervisor itself was stopped."""
    hangs, answers, starts = host.child(), host.child(), host.child()
    hangs.is_ready = answers.is_ready = True
    hung: list[Child] = []
    watch = Watch(host, lambda: [hangs, answers, starts], hung.append)
    watch.start()
    host.advance(600)
    assert hung == []
    for turn in range(1, 2 * MOST_MISSED):
        answers.channel.dataReceived(b'["answer",%d,""]\n' % turn)
        host.advance(15)
        assert hung == [hangs] * max(0, turn - MOST_MISSED + 1)
    watch.stop()
    assert host.getDelayedCalls() == []
