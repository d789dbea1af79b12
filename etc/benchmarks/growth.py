"""What happens when something grows: machines, records, clients, artifacts. Each point is a short run of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from etc.benchmarks import filling, floor, load, processes
from etc.benchmarks.cases import Case
from etc.benchmarks.daemon import Running, daemon
from etc.benchmarks.ground import OWN, Ground
from etc.benchmarks.load import LoadRun
from etc.benchmarks.results import percentile

# The curves of one axis: points [x, y] by name. What ends in MiB is memory, the rest is time in ms.
Curves: TypeAlias = dict[str, list[list[float]]]
MACHINES = (1, 10, 100, 1000, 10_000)
RECORDS = (1, 1000, 10_000, 100_000, 1_000_000)
CLIENTS = (1, 4, 16, 64, 250, 1000)
SIZES = tuple(1 << power for power in range(16, 29, 2))
P50, P99, CPU, MEMORY, OTHERS = "p50 ms", "p99 ms", "daemon CPU ms", "daemon MiB", "not 200"
_BASE = Case("p256")


class _Curve:
    """Collects the points of one axis."""

    def __init__(self) -> None:
        self.curves: Curves = {}

    def add(self, x: int, name: str, y: float) -> None:
        self.curves.setdefault(name, []).append([float(x), round(y, 2)])

    def request(self, x: int, run: LoadRun, own_seconds: float) -> None:
        self.add(x, P50, percentile(run.times_ms, 0.5))
        self.add(x, P99, percentile(run.times_ms, 0.99))
        self.add(x, CPU, own_seconds * 1000 / max(1, run.good))
        if run.others:
            self.add(x, OTHERS, run.others)


def _post(ground: Ground, case: Case, running: Running, machine: str, count: int) -> tuple[LoadRun, float]:
    """Post; return what h2load saw, and the CPU seconds of the daemon's own processes. Peaks of memory begin anew."""
    processes.forget_peak(running.pid)
    before = processes.used(running.pid)
    run = load.run(
        running.url, ground.body(case, machine), clients=case.clients, count=count, log=ground.folder / "h2load-log"
    )
    return run, (processes.used(running.pid) - before).own


def machines(ground: Ground, counts: tuple[int, ...] = MACHINES) -> Curves:
    """Machines in the key store. The daemon is asked for the public keys of each once, and then signs for the last."""
    curve = _Curve()
    for count in counts:
        names = filling.put_machines(ground, _BASE, count)
        with daemon(ground, _BASE) as running:
            root = running.url.removesuffix("/sign/imx")
            addresses = ground.folder / "addresses"
            addresses.write_text("".join(f"{root}/machines/{name}\n" for name in names))
            command = ["h2load", "--h1", "-c", "1", "-n", str(count), "-i", str(addresses)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if f"status codes: {count} 2xx" not in done.stdout:
                raise load.LoadError(f"not all machines have keys: {done.stdout[-500:]}")
            _post(ground, _BASE, running, names[-1], 20)
            curve.request(count, *_post(ground, _BASE, running, names[-1], 400))
            curve.add(count, MEMORY, processes.peak(running.pid) / 2**20)
    return curve.curves


def records(ground: Ground, counts: tuple[int, ...] = RECORDS) -> Curves:
    """Entries in the record, in SQLite on the disk; and how long a start takes."""
    curve = _Curve()
    case = replace(_BASE, record="sqlite")
    ground.put_machine(case)
    with tempfile.TemporaryDirectory(prefix="digsigd-bench-record-") as folder:
        state = Path(folder)
        url = f"sqlite:///{state}/record.sqlite"
        for count in counts:
            if count > 1:
                filling.fill_record(state, url, count)
            began = time.monotonic()
            with daemon(ground, case, record=url, state=state) as running:
                curve.add(count, "start ms", (time.monotonic() - began) * 1000)
                _post(ground, case, running, case.machine, 20)
                curve.request(count, *_post(ground, case, running, case.machine, 400))
                curve.add(count, MEMORY, processes.peak(running.pid) / 2**20)
    return curve.curves


def clients(ground: Ground, counts: tuple[int, ...] = CLIENTS, *, requests: int = 400) -> Curves:
    """Clients at a time, each with a connection of its own."""
    curve = _Curve()
    for count in counts:
        case = replace(_BASE, clients=count)
        ground.put_machine(case)
        with daemon(ground, case) as running:
            _post(ground, case, running, case.machine, 20)
            run, own = _post(ground, case, running, case.machine, max(requests, 2 * count))
            curve.request(count, run, own)
            # A client waits for its turn, which comes later with more clients; flat is as good as it gets.
            curve.add(count, "p50 / clients ms", percentile(run.times_ms, 0.5) / count)
            curve.add(count, MEMORY, processes.peak(running.pid) / 2**20)
    return curve.curves


def sizes(ground: Ground, counts: tuple[int, ...] = SIZES) -> Curves:
    """Bytes of the artifact, one client, beside bare cst with the same libraries."""
    curve = _Curve()
    for size in counts:
        case = replace(_BASE, size=size, clients=1)
        ground.put_machine(case)
        rounds = max(3, min(60, (256 << 20) // size))
        own = next(one for one in ground.floors(case) if one.name == OWN)
        bare = floor.run(ground.forker, own, 1, rounds)
        with daemon(ground, case) as running:
            _post(ground, case, running, case.machine, 2)
            curve.request(size, *_post(ground, case, running, case.machine, rounds))
            curve.add(size, "bare cst p50 ms", bare.wall_ms)
            curve.add(size, MEMORY, processes.peak(running.pid) / 2**20)
        ground.forget_bodies()
    return curve.curves


AXES: dict[str, Callable[[Ground, tuple[int, ...]], Curves]] = {
    "machines": machines,
    "records": records,
    "clients": clients,
    "size": sizes,
}
