"""The figures of a benchmark, as values and as JSON. Times are in ms, memory in MiB, ratios are of the same round."""

from __future__ import annotations

import json
import os
import platform
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec

from etc.benchmarks.floor import FloorRun


@dataclass(frozen=True, slots=True)
class FloorFigures:
    """A floor of a case: medians over the rounds. `ratio` is the daemon's throughput divided by the floor's."""

    per_second: float
    wall_ms: float
    cpu_ms: float
    peak_mib: float
    ratio: float
    least_ratio: float
    most_ratio: float


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one case with one checkout.

    `own_ms`, `children_ms` and `load_ms` are CPU time for each request: of the daemon's own processes, of the cst that
    they start, and of the load generator. `others` are requests that were not answered 200.
    """

    case: str
    checkout: str
    rounds: int
    requests: int
    others: int
    per_second: float
    own_ms: float
    children_ms: float
    load_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    stall_ms: float
    daemon_mib: float
    tree_mib: float
    floors: dict[str, FloorFigures]

    @property
    def cpu_ms(self) -> float:
        """CPU time of the daemon and its cst for each request."""
        return self.own_ms + self.children_ms


@dataclass(frozen=True, slots=True)
class Host:
    """The machine of a run, without its name."""

    processors: int
    model: str
    memory_gib: int
    kernel: str
    system: str
    python: str
    openssl: str
    twisted: str
    cst: str
    libraries: str


@dataclass(frozen=True, slots=True)
class Figures:
    """All that a run has measured. `growth` and `profile` are by `growth.py` and `profiling.py`."""

    host: Host
    cases: list[Result]
    growth: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    profile: dict[str, list[list[str | float]]] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values are; the nearest rank. 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def floor_figures(runs: Sequence[FloorRun], rates: Sequence[float]) -> FloorFigures:
    """Return the figures of a floor: its rounds, and the daemon's requests a second in the same rounds."""
    ratios = [rate / run.per_second for run, rate in zip(runs, rates, strict=True)]
    return FloorFigures(
        per_second=round(median(run.per_second for run in runs), 1),
        wall_ms=round(median(run.wall_ms for run in runs), 2),
        cpu_ms=round(median(run.cpu_ms for run in runs), 2),
        peak_mib=round(max(run.peak_mib for run in runs), 1),
        ratio=round(median(ratios), 3),
        least_ratio=round(min(ratios), 3),
        most_ratio=round(max(ratios), 3),
    )


def this_host(cst: str, libraries: str) -> Host:
    """Return what machine this is."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return Host(
        processors=len(os.sched_getaffinity(0)),
        model=model.partition(":")[2].strip(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + (1 << 29) >> 30,
        kernel=platform.release(),
        system=system,
        python=platform.python_version(),
        openssl=ssl.OPENSSL_VERSION,
        twisted=version("twisted"),
        cst=cst,
        libraries=libraries,
    )


def read(path: Path) -> Figures:
    """Read a file of figures. Raises `msgspec.ValidationError` for another form, and `OSError`."""
    return msgspec.json.decode(path.read_bytes(), type=Figures)


def write(path: Path, figures: Figures) -> None:
    """Write a file of figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(figures), indent=1) + "\n")


def merged(old: Figures | None, new: Figures) -> Figures:
    """Return the new figures, with those old ones that they do not replace, if they are of the same host."""
    if old is None or old.host != new.host:
        return new
    measured = {(one.case, one.checkout): one for one in new.cases}
    cases = [measured.pop((one.case, one.checkout), one) for one in old.cases]
    return Figures(
        host=new.host,
        cases=[*cases, *measured.values()],
        growth={**old.growth, **new.growth},
        profile={**old.profile, **new.profile},
    )


def add(path: Path | None, new: Figures) -> None:
    """Add figures to a file, if there is one to write. Raises as `read`."""
    if path is not None:
        write(path, merged(read(path) if path.exists() else None, new))
