"""A stream for log lines that never blocks its writers.

A line goes straight into a pipe or socket that has room for it. If it has none, or for a file, which can block on its
disk, a thread writes the lines, and what is too much is dropped.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

# How many bytes of lines wait to be written: some ten thousand lines.
MAX_WAITING = 2 << 20
# How long the end of the process waits for the reader of the log, in seconds.
LAST_SECONDS = 2.0
_LAST_LINE = 0.2


class QueuedStream:
    """A text stream of whole lines, which are written to `descriptor` or queued for a thread that does.

    If the reader of the log stalls, at most `max_waiting` bytes wait, and further lines are dropped. `dropped` turns
    their number into a line, which is written once there is room. The stream owns the descriptor.
    """

    def __init__(
        self,
        descriptor: int,
        encoding: str,
        dropped: Callable[[int], str],
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._dropped = dropped
        self._max_waiting = max_waiting
        self._closed = False
        self._settled = False
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._lost = 0
        self._ready = threading.Condition()
        self._process = -1
        # pwritev2(2): whether RWF_NOWAIT works for the descriptor. Pipes need Linux 6.4.
        self._direct = hasattr(os, "RWF_NOWAIT")

    def write(self, line: str) -> None:
        """Write or queue one whole line. Raises `ValueError` if the stream is closed or cannot encode a character."""
        if self._closed:
            raise ValueError("the log is closed")
        data = line.encode(self._encoding)
        if self._process != os.getpid():
            self._begin()
        if self._direct:
            data = self._write_now(data)
            if not data:
                return
        with self._ready:
            if self._waiting + len(data) > self._max_waiting:
                self._lost += 1
                return
            self._lines.append(data)
            self._waiting += len(data)
            self._ready.notify()
        if self._settled:
            self.settle(_LAST_LINE)

    def _write_now(self, data: bytes) -> bytes:
        """Write what the descriptor takes without waiting, if nothing waits before it. Return the rest."""
        with self._ready:
            if self._waiting or self._lost:
                return data
            try:
                return data[os.pwritev(self._descriptor, [data], -1, os.RWF_NOWAIT) :]
            except BlockingIOError:
                pass
            except OSError:
                # Not for descriptors of this kind, or not with this kernel. Other errors show up in the thread again.
                self._direct = False
        return data

    def flush(self) -> None:
        """Do nothing: lines are written as soon as they can be."""

    def settle(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until all lines are written, at most this long. From now on each further line is waited for, briefly."""
        self._settled = True
        if self._process == os.getpid():
            with self._ready:
                self._ready.wait_for(lambda: not self._waiting and not self._lost, seconds)

    def close(self) -> None:
        """Write what waits, for a moment, and close the descriptor. Further calls do nothing."""
        if self._closed:
            return
        self.settle()
        self._closed = True
        with self._ready:
            stalled = bool(self._waiting)
            self._ready.notify_all()
        if not stalled:
            with suppress(OSError):
                os.close(self._descriptor)

    def _begin(self) -> None:
        """Start the thread. A fork has taken no thread along, and perhaps a lock that somebody holds."""
        self._process = os.getpid()
        self._ready = threading.Condition()
        self._waiting = sum(map(len, self._lines))
        threading.Thread(target=self._run, name="digsigd-log", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._lines or self._lost or self._closed)
                if self._closed:
                    return
                if self._lines:
                    data, lost = self._lines.popleft(), 0
                else:
                    # Everything before them is written.
                    data, lost = b"", self._lost
            text = self._dropped(lost).encode(self._encoding, "backslashreplace") if lost else data
            self._write(text)
            with self._ready:
                self._waiting -= len(data)
                self._lost -= lost
                self._ready.notify_all()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    # Whoever shares the descriptor has made it non-blocking.
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError):
            return  # a full disk must not stop the log for good, and there is no place to report it
