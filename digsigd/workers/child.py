"""A worker as the supervisor sees it: its process, and what it says."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from digsigd.reactor import SigningReactor
from digsigd.settings import Settings
from digsigd.workers.inherited import BOARD, CHANNEL, METRICS, PORT, SETTINGS, VARIABLE
from digsigd.workers.wire import Channel, settings_as_text

# How long a worker may take to end after it has closed its channel, in seconds.
_LAST_SECONDS = 15.0
# How long what it has said is waited for after its process has ended, in seconds.
_LAST_WORDS = 1.0
# What systemd passes to the supervisor alone.
_NOT_PASSED_ON = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class WorkerGone(Exception):
    """A worker ended before it answered."""


class WorkerHangs(WorkerGone):
    """A worker has not answered in time."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The descriptors that all workers get: of the board, of the port, and of the memory of the metrics."""

    board: int
    port: int
    metrics: int


class Child(ProcessProtocol):
    """Worker `number`, made with settings of `generation`. `said` gets its messages, `ended` how it ended, in words."""

    def __init__(
        self,
        number: int,
        generation: int,
        *,
        said: Callable[[Child, list[Any]], None],
        ended: Callable[[Child, str], None],
    ) -> None:
        self.number = number
        self.generation = generation
        self.is_ready = False
        # When it was started, and why it could not start, in its own words.
        self.since = 0.0
        # So many questions in a row it has not answered.
        self.missed = 0
        self.failed = ""
        self.channel = Channel(self._received, self._lost)
        self._said = said
        self._ended = ended
        self._asked: dict[int, Deferred[Any]] = {}
        self._last = 0
        self._gone = self._is_lost = False
        # How its process has ended.
        self._how: str | None = None
        # From its start until all of it is over.
        self._reactor: SigningReactor | None = None
        self._killing: IDelayedCall | None = None
        self._closing: IDelayedCall | None = None

    @property
    def pid(self) -> int | None:
        """The id of its process, or None once that has ended."""
        return self.transport.pid if self.transport is not None else None

    def start(
        self, reactor: SigningReactor, options: Sequence[str], settings: Settings, count: int, shared: Shared
    ) -> None:
        """Start the process, in a fresh interpreter. Raises `OSError`."""
        self._reactor = reactor
        self.since = reactor.seconds()
        ours, theirs = socket.socketpair()
        text = os.memfd_create("digsigd-settings", os.MFD_CLOEXEC)
        try:
            os.write(text, settings_as_text(settings))
            os.lseek(text, 0, os.SEEK_SET)
            environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
            reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-P", "-c", "from digsigd.foreground import run; run()", *options],
                env={**environment, VARIABLE: f"{self.number} {count} {self.generation}"},
                childFDs={
                    0: 0,
                    1: 1,
                    2: 2,
                    CHANNEL: theirs.fileno(),
                    BOARD: shared.board,
                    SETTINGS: text,
                    PORT: shared.port,
                    METRICS: shared.metrics,
                },
            )
            self.channel.adopt(reactor, ours.fileno())
        finally:
            os.close(text)
            ours.close()
            theirs.close()

    def say(self, *message: Any) -> None:
        """Send a message."""
        self.channel.say(*message)

    def ask(self, what: str, *values: Any) -> Deferred[Any]:
        """Ask a question. The Deferred fires with the answer, or fails with `WorkerGone`."""
        answer: Deferred[Any] = Deferred(lambda _: self._forget(number))
        self._last = number = self._last + 1
        if self._gone:
            answer.errback(WorkerGone("is not running"))
        else:
            self._asked[number] = answer
            self.say("ask", number, what, *values)
        return answer

    def heard(self, _: object) -> None:
        """Note that it has answered."""
        self.missed = 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still exists."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def processExited(self, reason: Failure) -> None:
        """Implement `ProcessProtocol.processExited`."""
        self._how = _words(reason)
        if self._is_lost:
            self._is_over()
        elif self._reactor is not None:
            # What it has said last is read first. Only a process that it started could keep the channel open.
            self._closing = self._reactor.callLater(_LAST_WORDS, self.channel.close)

    def _received(self, message: list[Any]) -> None:
        if message[0] == "answer":
            answer = self._asked.pop(message[1], None)
            if answer is not None:
                answer.callback(message[2])
        else:
            self._said(self, message)

    def _lost(self) -> None:
        self._is_lost = True
        self._fail_questions()
        if self._how is not None:
            self._is_over()
        elif self._reactor is not None:
            # It is ending. One that says nothing more, and stays, is of no use.
            self._killing = self._reactor.callLater(_LAST_SECONDS, self.signal, signal.SIGKILL)

    def _is_over(self) -> None:
        for call in (self._killing, self._closing):
            if call is not None and call.active():
                call.cancel()
        self._reactor = None
        self._ended(self, self._how or "")

    def _forget(self, number: int) -> None:
        self._asked.pop(number, None)

    def _fail_questions(self) -> None:
        self._gone = True
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(WorkerGone("is not running"))


def _words(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"was killed by {signal.Signals(error.signal).name}"
    return f"ended with exit code {getattr(error, 'exitCode', 0)}"
