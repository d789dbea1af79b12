"""The probe in a daemon under test: Python imports this file at its start, because PYTHONPATH has its folder.

SIGUSR2 starts a timer of 10 ms in the reactor; the next SIGUSR2 ends it and writes how late it was at worst, in
seconds, to the file BENCH_STALLS/<process>. A late tick means that something blocked the reactor, or that the process
had no processor. Without a signal the probe does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import Any

_TICK = 0.01


class _Probe:
    def __init__(self) -> None:
        self._worst = 0.0
        self._last = 0.0
        self._running = False

    def toggle(self, *_: object) -> None:
        reactor: Any = sys.modules.get("twisted.internet.reactor")
        if reactor is not None:
            reactor.callFromThread(self._stop if self._running else self._start, reactor)

    def _start(self, reactor: Any) -> None:
        self._running, self._worst, self._last = True, 0.0, monotonic()
        reactor.callLater(_TICK, self._tick, reactor)

    def _tick(self, reactor: Any) -> None:
        now = monotonic()
        self._worst, self._last = max(self._worst, now - self._last - _TICK), now
        if self._running:
            reactor.callLater(_TICK, self._tick, reactor)

    def _stop(self, _: Any) -> None:
        self._running = False
        path = Path(os.environ["BENCH_STALLS"]) / str(os.getpid())
        path.with_suffix(".new").write_text(str(max(self._worst, monotonic() - self._last - _TICK)))
        path.with_suffix(".new").rename(path)


if os.environ.get("BENCH_STALLS"):
    signal.signal(signal.SIGUSR2, _Probe().toggle)
