"""Watch and stop a process and its group."""

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

# How long processes that left the group may hold the output pipe open after the leader has ended, in seconds.
DRAIN = 1.0
# How long to wait for a killed group to disappear before /proc is searched for its members, in seconds.
LOOK_CLOSER = 0.05
# How long after KILL a remaining process is logged, in seconds: it hangs in the kernel.
STUCK = 10.0

Reason: TypeAlias = Literal["", "timeout", "stop"]


class GroupProcess(ProcessProtocol):
    """A process that leads a process group, and the pipe that the group writes to.

    `over` fires when the leader was reaped, the group is empty and the pipe is closed: with `CancelledError` if it was
    cancelled, else with None. `on_over` is called just before. Cancelling `over`, or `timeout` seconds after `go`,
    sends TERM to the group, and KILL `kill_after` seconds later. `reason` is why the process was stopped, or empty.
    `exit_code` and `signal` are how the leader ended. `output` keeps at most `keep_output` bytes. The leader reads
    a line from the pipe of `make_gate` before it begins.
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
        self._gate = -1
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
        """Note the leader's process id, which is also the group's id once it has called setsid."""
        self._process = cast(IProcessTransport, self.transport)
        self._group = self._process.pid

    def go(self) -> None:
        """Send the line that the process waits for, and start its timeout."""
        if not self._stopping and not self._exited:
            # A pipe takes its first byte without waiting. Twisted would write it in its next turn: the processor idles
            # meanwhile. A leader that has ended is noticed elsewhere.
            with suppress(BrokenPipeError):
                os.write(self._gate, b"\n")
            self.close_gate()
            self._then(self._timeout, self.stop, "timeout")

    def make_gate(self) -> int:
        """Return the end that the leader reads from, which the caller closes. Raises `OSError`."""
        theirs, self._gate = os.pipe()
        return theirs

    def close_gate(self) -> None:
        """Close the pipe of the gate. Further calls do nothing."""
        gate, self._gate = self._gate, -1
        if gate >= 0:
            os.close(gate)

    def childDataReceived(self, _: int, data: bytes) -> None:
        """Keep what fits of the output. Drop the rest, so that the process never blocks on a full pipe."""
        self.output.add(data)

    def stop(self, reason: Reason = "") -> None:
        """Send TERM to the group, and KILL `kill_after` seconds later."""
        if self._exited:
            self._process.loseConnection()
        elif not self._stopping:
            self._stopping = True
            self.reason = reason
            self._signal(signal.SIGTERM)
            self._then(self._kill_after, self.kill)

    def kill(self, reason: Reason = "") -> None:
        """Send KILL to the group."""
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
        """Signal the group. The leader was not reaped, so no other group can have this id."""
        if not self._group:
            return  # there is no process, and group 0 is that of the daemon itself
        if not _signal_group(self._group, number):
            # It has not called setsid yet, so it has no children either.
            with suppress(ProcessLookupError):
                os.kill(self._group, number)

    def processExited(self, reason: Failure) -> None:
        """Note how the leader ended, and kill the rest of its group."""
        self._exited = True
        self.close_gate()
        if isinstance(reason.value, ProcessTerminated):
            self.exit_code, self.signal = reason.value.exitCode, reason.value.signal
        else:
            self.exit_code = 0
        # While the group has a member, the kernel does not reuse the group's id, and this kills only members. If the
        # group is empty, the id became free in Twisted's waitpid, in this turn of the reactor. The kernel assigns ids
        # in a circle, so another group could have it only if tens of thousands of processes had started since. A later
        # signal would be less safe, so from here on only signal 0 is sent.
        self._emptied = not _signal_group(self._group, signal.SIGKILL)
        self._wait_for_rest(0.0)

    def processEnded(self, reason: Failure) -> None:  # noqa: ARG002
        """Note that the leader was reaped and the pipe is closed."""
        self._closed = True
        self._end_if_over()

    def _wait_for_rest(self, waited: float) -> None:
        """Check at growing intervals if the group is gone. After `DRAIN` seconds, close the pipe."""
        if not self._emptied:
            # Zombies are harmless, and in a container perhaps never reaped. Telling them from running processes
            # means reading all of /proc, so do that only after most groups are gone.
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
        self.log.error("process group {group} still exists long after KILL", group=self._group)

    def _then(self, delay: float | None, call: Callable[..., None] | None = None, *arguments: object) -> None:
        """Schedule `call` in place of the scheduled call."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None if delay is None or call is None else self._clock.callLater(delay, call, *arguments)


class _Patient(Deferred[None]):
    """A Deferred that, when cancelled, calls `cancelled` and does not fire yet."""

    def __init__(self, cancelled: Callable[[], None]) -> None:
        super().__init__()
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Call `cancelled`, unless the Deferred has fired."""
        if not self.called:
            self._cancelled()


class Excerpt:
    """The start and the end of an output of any length, in at most `size` bytes, with a note of what was cut."""

    def __init__(self, size: int) -> None:
        self._room = size // 2
        self._end = size - self._room - 64  # more than the note of the cut needs
        self._first = bytearray()
        self._last = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        """Append data."""
        if self._room:
            self._first += data[: self._room]
            data, self._room = data[self._room :], max(0, self._room - len(data))
        self._last += data
        # Cutting only at twice the length keeps the total cost linear.
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
    """Signal a group. Return whether it has a process that we may signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _lives(group: int) -> bool:
    """Return whether the group has a process that is not a zombie: proc(5), /proc/PID/stat, fields 3 and 5."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with suppress(OSError), open(f"{entry.path}/stat", "rb") as file:  # noqa: PTH123
                    state, _, its_group, *_ = file.read().rpartition(b")")[2].split(None, 3)
                    if int(its_group) == group and state not in b"ZX":
                        return True
    return False
