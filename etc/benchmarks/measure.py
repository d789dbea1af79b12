"""One case: the floors and the daemons take turns, so that every ratio is of one minute of one machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from etc.benchmarks import floor, load, processes
from etc.benchmarks.cases import Case
from etc.benchmarks.daemon import THIS, Checkout, Running, daemon
from etc.benchmarks.floor import Floor, FloorRun
from etc.benchmarks.ground import Ground
from etc.benchmarks.load import LoadRun
from etc.benchmarks.processes import Sampler, Used
from etc.benchmarks.results import Result, floor_figures, percentile
from etc.benchmarks.servers import NAME
from etc.benchmarks.servers import server as other_server


class MeasureError(Exception):
    """A case in which no request was signed: what was answered instead."""


class _Turns:
    """A daemon and what its rounds gave."""

    def __init__(self, ground: Ground, case: Case, name: str, running: Running) -> None:
        self.name = name
        self._ground = ground
        self._case = case
        self._running = running
        self.loads: list[LoadRun] = []
        self.used: list[Used] = []
        self.tree = 0
        self.peak = 0
        self.stall = 0.0

    def warm_up(self) -> None:
        """Fetch keys, start threads, fill caches."""
        done = self._load(max(4, 2 * self._case.clients))
        if not done.good:
            raise MeasureError(f"{self._case.name}: answered {dict(done.statuses)}:\n{self._running.log()[-2000:]}")
        processes.forget_peak(self._running.pid)

    def round(self, count: int) -> None:
        """Run one round."""
        before = processes.used(self._running.pid)
        self.loads.append(self._load(count))
        self.used.append(processes.used(self._running.pid) - before)

    def watched(self, count: int) -> None:
        """Run one round that does not count, and watch memory and stalls: watching takes time."""
        self._running.watch()
        with Sampler(self._running.pid) as sampler:
            self._load(count)
        self.stall = self._running.longest_stall()
        self.tree = sampler.most
        self.peak = processes.peak(self._running.pid)

    def result(self, floors: dict[str, list[FloorRun]]) -> Result:
        """Return the figures."""
        good = [max(1, run.good) for run in self.loads]
        times = [one for run in self.loads for one in run.times_ms]
        rates = [run.per_second for run in self.loads]

        def each(seconds: Sequence[float]) -> float:
            return round(median(1000 * one / count for one, count in zip(seconds, good, strict=True)), 2)

        return Result(
            case=self._case.name,
            checkout=self.name,
            rounds=len(self.loads),
            requests=sum(sum(run.statuses.values()) for run in self.loads),
            others=sum(run.others for run in self.loads),
            per_second=round(median(rates), 1),
            own_ms=each([one.own for one in self.used]),
            children_ms=each([one.children for one in self.used]),
            load_ms=each([run.cpu_seconds for run in self.loads]),
            p50_ms=round(percentile(times, 0.5), 1),
            p95_ms=round(percentile(times, 0.95), 1),
            p99_ms=round(percentile(times, 0.99), 1),
            stall_ms=round(self.stall * 1000, 1),
            daemon_mib=round(self.peak / 2**20, 1),
            tree_mib=round(self.tree / 2**20, 1),
            floors={name: floor_figures(runs, rates) for name, runs in floors.items()},
        )

    def _load(self, count: int) -> LoadRun:
        return load.run(
            self._running.url, self._ground.body(self._case),
            clients=self._case.clients, count=count, log=self._ground.folder / "h2load-log",
        )  # fmt: skip


def measure(
    ground: Ground,
    case: Case,
    *,
    rounds: int,
    count: int = 0,
    checkouts: Sequence[Checkout] = (THIS,),
    record: str = "",
    server: str = "",
) -> list[Result]:
    """Measure a case: a result for each checkout. `count` is requests in a round, 0 for a number that fits the size.

    `record` is the URL for a case with a record in PostgreSQL, `server` the command of another server. Raises
    `FloorError`, `LoadError`, `DaemonError`, and `MeasureError`.
    """
    count = count or case.requests
    floors = ground.floors(case)
    at_once = ground.at_once(case)
    ground.put_machine(case)
    runs: dict[str, list[FloorRun]] = {one.name: [] for one in floors}
    for one in floors:
        floor.run(ground.forker, one, at_once, at_once)  # fills caches
    with ExitStack() as stack:
        turns = []
        for checkout in checkouts:
            url = record if case.record == "postgresql" else ""
            running = stack.enter_context(daemon(ground, case, checkout, record=url))
            turns.append(_Turns(ground, case, checkout.name, running))
        if server:
            turns.append(_Turns(ground, case, NAME, stack.enter_context(other_server(ground, server))))
        for turn in turns:
            turn.warm_up()
        for number in range(rounds):
            # Floors and daemons alternate, and every second round goes the other way.
            order: list[Floor | _Turns] = (
                [*floors, *turns] if number % 2 == 0 else [*reversed(turns), *reversed(floors)]
            )
            for part in order:
                if isinstance(part, _Turns):
                    part.round(count)
                else:
                    runs[part.name].append(floor.run(ground.forker, part, at_once, count))
        for turn in turns:
            turn.watched(count)
    return [turn.result(runs) for turn in turns]
