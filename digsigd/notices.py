"""What a daemon tells the service manager of systemd: sd_notify(3), and `WatchdogSec=` of systemd.service(5).

A notice is one datagram of lines. The packages for it either block or lose a notice when the manager is busy.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

# How often the status is looked at, in seconds, and how soon a notice that found no room is sent again.
_PERIOD, _AGAIN = 5.0, 0.1
# How much longer than the grace of requests a stop may take before it is ended, in seconds.
_LAST_SECONDS = 15.0


class Notices:
    """Notices to the manager that started this process. They do nothing if none did, or if it wants none.

    `status` returns what `systemctl status` shows, one line, asked every few seconds and sent if it has changed. The
    watchdog is fed then, too: as long as the reactor of this process lives. The variables are removed from `environ`,
    so that no other process sends notices.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, status: Callable[[], str], environ: MutableMapping[str, str] = os.environ
    ) -> None:
        self._clock = clock
        self._status = status
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self._watched = _watched(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._unsent: deque[bytes] = deque()
        self._next: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._last = self._problem = ""
        self._is_ready = self._is_stopping = False

    def ready(self) -> None:
        """Report that the daemon listens, and begin to report its status."""
        if self._socket is None or self._is_ready:
            return
        self._is_ready = True
        self._send("READY=1", self._changed())
        self._look()

    def reloading(self) -> None:
        """Report that a reload begins."""
        if self._is_ready and not self._is_stopping:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, *, refused: bool = False) -> None:
        """Report that a reload is over. `refused` is in the status until one succeeds."""
        self._problem = "; the last reload was refused, see the log" if refused else ""
        if self._is_ready and not self._is_stopping:
            self._send("READY=1", self._changed())

    def stopping(self, grace: float) -> None:
        """Report that the daemon stops. Requests have `grace` seconds to finish; `TimeoutStopSec=` may be less."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((grace + _LAST_SECONDS) * 1e6)}", self._changed())

    def close(self) -> None:
        """Send nothing more."""
        for call in (self._next, self._again):
            if call is not None and call.active():
                call.cancel()
        self._next = self._again = None
        self._unsent.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _look(self) -> None:
        # Three times within the time after which the manager gives the daemon up.
        period = min(_PERIOD, self._watched / 3) if self._watched else _PERIOD
        self._next = self._clock.callLater(period, self._look)
        lines = [line for line in ("WATCHDOG=1" if self._watched else "", self._changed()) if line]
        # One that is full needs no more of these.
        if lines and not self._unsent:
            self._send(*lines)

    def _changed(self) -> str:
        """Return the line with the status if it is not the last one, else an empty one."""
        text = f"{'stopping: ' if self._is_stopping else ''}{self._status()}{self._problem}"
        if text == self._last:
            return ""
        self._last = text
        return f"STATUS={text}"

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            self._unsent.append("\n".join(filter(None, lines)).encode())
            self._flush()

    def _flush(self) -> None:
        self._again = None
        while self._unsent and self._socket is not None:
            try:
                self._socket.sendto(self._unsent[0], self._address)
            except BlockingIOError:
                self._again = self._clock.callLater(_AGAIN, self._flush)
                return
            except OSError as error:
                self.log.error("cannot notify systemd: {why}", why=error.strerror, event="systemd")
            self._unsent.popleft()


def _address(name: str) -> str:
    """Return the address of a socket: a path, or an abstract name, which sd_notify(3) writes with an at sign."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watched(microseconds: str, pid: str) -> float:
    """Return after how many seconds without a notice the watchdog ends this process; 0 if it does not."""
    if not microseconds.isdigit() or pid not in {"", str(os.getpid())}:
        return 0.0
    return int(microseconds) / 1e6
