"""What processes have used."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process, of its children, and of those that have ended."""
    ticks = 0
    with suppress(OSError):
        # After the name in parentheses: utime, stime, cutime, cstime are fields 14 to 17 of proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = sum(int(one) for one in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(one) for one in children(pid))


def children(pid: int) -> set[int]:
    """Return the processes that a process of one thread has started, and that it has not reaped."""
    with suppress(OSError):
        return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()
