"""One process with its group: watched, stopped, and over only when nothing of it is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeAlias, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

# How long who left the group may hold the output open once the leader has ended, in seconds.
DRAIN = 1.0
# How long a killed group gets to go by itself before /proc is searched for who is left of it, in seconds.
LOOK_CLOSER = 0.05
# When a process that did not die of KILL is worth a line in the log, in seconds: it hangs in the kernel.
STUCK = 10.0

Reason: TypeAlias = Literal["", "timeout", "stop"]


class GroupProcess(ProcessProtocol):
    """A process that leads its own group, and the pipe that the group writes to.

    `over` fires once the leader was reaped, its group is empty and the pipe is closed: with CancelledError
    if it was cancelled, else with None. `on_over` is called just before. A cancellation, like the end of
    `timeout` seconds after `go`, sends TERM to the group, and KILL `kill_after` seconds later. `reason` says why the
    process was stopped, if it was; `exit_code` and `signal` say how the leader ended.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        timeout: float,
        kill_after: float,
        keep_output: int,
        on_over: Callable[[GroupProcess], None],
    ) -> None:
        self.over: Deferred[None] = _Patient(self._cancel)
        self.output = Excerpt(keep_output)
        self.reason: Reason = ""
        self.exit_code: int | None = None
        self.signal: int | None = None
        self._clock = clock
        self._timeout = timeout
        self._kill_after = kill_after
        self._on_over = on_over
        self._next: IDelayedCall | None = None
        self._group = 0
        self._cancelled = self._stopping = self._exited = self._emptied = self._closed = False

    def connectionMade(self) -> None:
        """The leader's process id is that of its group, as soon as it has called setsid."""
        self._process = cast(IProcessTransport, self.transport)
        self._group = self._process.pid

    def go(self) -> None:
        """Let the process, which waits for a line, go on; its time begins now."""
        if not self._stopping and not self._exited:
            self._process.writeToChild(0, b"\n")
            self._process.closeStdin()
            self._then(self._timeout, self.stop, "timeout")

    def childDataReceived(self, _: int, data: bytes) -> None:
        """Keep of it what fits. The rest is read all the same, so that nobody waits for room in the pipe."""
        self.output.add(data)

    def stop(self, reason: Reason = "") -> None:
        """TERM to the group, and KILL later."""
        if self._exited:
            self._process.loseConnection()
        elif not self._stopping:
            self._stopping = True
            self.reason = reason
            self._signal(signal.SIGTERM)
            self._then(self._kill_after, self.kill)

    def kill(self, reason: Reason = "") -> None:
        """KILL to the group."""
        if self._exited:
            self._process.loseConnection()
            return
        self.reason = self.reason or reason
        self._stopping = True
        self._signal(signal.SIGKILL)
        self._then(STUCK, self._complain)

    def _cancel(self) -> None:
        self._cancelled = True
        self.stop()

    def _signal(self, number: int) -> None:
        """Signal the group of a leader that was not reaped: its number can be nobody else's."""
        if not _signal_group(self._group, number):
            # It has not come to call setsid yet, and so has no children either.
            with suppress(ProcessLookupError):
                os.kill(self._group, number)

    def processExited(self, reason: Failure) -> None:
        """The leader was reaped. Who is left of its group has nothing more to do, and is killed."""
        self._exited = True
        if isinstance(reason.value, ProcessTerminated):
            self.exit_code, self.signal = reason.value.exitCode, reason.value.signal
        else:
            self.exit_code = 0
        # While a member is left, the kernel gives the group's number to nobody, and this hits members
        # alone. Without one, the number became free in Twisted's waitpid, just now in this turn of the
        # reactor. Numbers are given out in a circle, so it could be another group's only if tens of
        # thousands of processes had started since. A later signal could not be as sure; so none is sent,
        # and signal 0 asks from here on.
        self._emptied = not _signal_group(self._group, signal.SIGKILL)
        self._wait_for_rest(0.0)

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002
        """The leader was reaped and the pipe is closed."""
        self._closed = True
        self._end_if_over()

    def _wait_for_rest(self, waited: float) -> None:
        """Look, ever less often, whether the group is gone; in the end, stop listening to who left it."""
        if not self._emptied:
            # Zombies can do nothing, and in a container may have nobody to reap them. Telling them from the
            # living reads all of /proc, so that waits until most will be gone.
            members = _signal_group(self._group, 0) and (waited < LOOK_CLOSER or _lives(self._group))
            self._emptied = not members
        if waited >= DRAIN:
            self._process.loseConnection()
        if not self._end_if_over():
            delay = min(max(waited, 0.01), 1.0)
            if waited < STUCK <= waited + delay:
                self._complain()
            self._then(delay, self._wait_for_rest, waited + delay)

    def _end_if_over(self) -> bool:
        if not (self._emptied and self._closed):
            return False
        self._then(None)
        self._on_over(self)
        if self._cancelled:
            self.over.errback(CancelledError())
        else:
            self.over.callback(None)
        return True

    def _complain(self) -> None:
        self.log.error("process group {group} is still there long after KILL", group=self._group)

    def _then(self, delay: float | None, call: Callable[..., None] | None = None, *arguments: object) -> None:
        """Do this next, instead of what was to be done next."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None if delay is None or call is None else self._clock.callLater(delay, call, *arguments)


class _Patient(Deferred[None]):
    """A Deferred that passes a cancellation on, and leaves firing to what comes of it."""

    def __init__(self, cancelled: Callable[[], None]) -> None:
        super().__init__()
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Pass it on."""
        if not self.called:
            self._cancelled()


class Excerpt:
    """The start and the end of a text of any length: `size` bytes at most, with a mark for what was cut."""

    def __init__(self, size: int) -> None:
        self._room = size // 2
        self._end = size - self._room - 64  # less than which the mark takes
        self._first = bytearray()
        self._last = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        """Go on with the text."""
        if self._room:
            self._first += data[: self._room]
            data, self._room = data[self._room :], max(0, self._room - len(data))
        self._last += data
        # Cutting at every other length, not at every piece, keeps it linear.
        if len(self._last) > 2 * self._end:
            self._shorten()

    def _shorten(self) -> None:
        if (beyond := len(self._last) - self._end) > 0:
            self._cut += beyond
            del self._last[:beyond]

    def __bytes__(self) -> bytes:
        self._shorten()
        mark = b"\n[... %d bytes cut ...]\n" % self._cut if self._cut else b""
        return bytes(self._first + mark + self._last)


def _signal_group(group: int, number: int) -> bool:
    """Whether there was a process in the group that we may signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _lives(group: int) -> bool:
    """Whether a process of the group is more than a zombie: proc(5), /proc/PID/stat, fields 3 and 5."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with suppress(OSError), open(f"{entry.path}/stat", "rb") as file:  # noqa: PTH123
                    state, _, its_group, *_ = file.read().rpartition(b")")[2].split(None, 3)
                    if int(its_group) == group and state not in b"ZX":
                        return True
    return False
