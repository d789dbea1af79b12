"""CPU time and memory of a process and what it started, from /proc."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.02
# How many samples ago a worker was started, at least.
_GROWN = 50


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds: of the daemon's own processes, and of those that they started and that have ended, such as cst."""

    own: float
    children: float

    def __sub__(self, other: Used) -> Used:
        return Used(self.own - other.own, self.children - other.children)


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants, as far as they are still there."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def daemons(pid: int) -> list[int]:
    """Return a daemon's process and its workers: the descendants that run the same program."""
    program = _program(pid)
    return [one for one in tree(pid) if one == pid or (_program(one) == program != "")]


def used(pid: int) -> Used:
    """Return the CPU time of a daemon with its workers, and of the processes that they have waited for."""
    own = children = 0.0
    for one in daemons(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        own += (int(fields[11]) + int(fields[12])) / _TICKS
        children += (int(fields[13]) + int(fields[14])) / _TICKS
    return Used(own, children)


def threads(pid: int) -> dict[int, tuple[str, float]]:
    """Return the name and the CPU seconds of each thread of a process, by its number."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            found[int(task.name)] = (name, int((task / "schedstat").read_text().split()[0]) / 1e9)
        except (OSError, IndexError):
            continue
    return found


def forget_peak(pid: int) -> None:
    """Begin anew with the peaks of a daemon's processes (proc(5), clear_refs), so that its start does not count."""
    for one in daemons(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Return the most resident memory that the largest process of a daemon has had, in bytes."""
    return max(_high_water(one) for one in daemons(pid))


def _high_water(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10
    except (OSError, IndexError):
        return 0


def _program(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


class Sampler:
    """Samples the resident memory of a process and its descendants every 20 ms. `most` is the peak, in bytes.

    A child that has not started its program yet shares its parent's memory, and is not counted: what looks like the
    daemon counts after a second, as a worker.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        ages = {self._pid: _GROWN}
        program = _program(self._pid)
        while not self._stopped.wait(_EVERY):
            found = {pid: _program(pid) == program for pid in tree(self._pid)}
            counted = [pid for pid, alike in found.items() if not alike or ages.get(pid, 0) >= _GROWN]
            self.most = max(self.most, sum(resident(pid) for pid in counted))
            ages = {pid: ages.get(pid, 0) + 1 for pid, alike in found.items() if alike}
