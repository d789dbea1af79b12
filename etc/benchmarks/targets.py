"""What the project promises about its speed on two processors, each with the measured figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from etc.benchmarks.cases import Case
from etc.benchmarks.results import Result

_SMALL, _LARGE = 64 << 10, 32 << 20
# Bare cst with the same libraries, and as a Debian 12 host has it.
SAME, HOST = "own", "system"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: its words, its bound, and what is measured for it. With `least`, more is better; else less is."""

    what: str
    bound: float
    least: bool
    unit: str
    measured: Callable[[Iterable[Result]], float | None]

    def met(self, value: float) -> bool:
        """Return whether a measured value keeps the promise."""
        return value >= self.bound if self.least else value <= self.bound


def _of(results: Iterable[Result], case: Case) -> Result | None:
    return next((one for one in results if one.case == case.name), None)


def _ratio(case: Case, floor: str = SAME) -> Callable[[Iterable[Result]], float | None]:
    def measured(results: Iterable[Result]) -> float | None:
        one = _of(results, case)
        # Without libraries of its own, cst has one floor: the host's.
        found = one and (one.floors.get(floor) or one.floors.get(SAME))
        return found.ratio if found else None

    return measured


def _beyond(case: Case) -> Callable[[Iterable[Result]], float | None]:
    def measured(results: Iterable[Result]) -> float | None:
        one = _of(results, case)
        return round(one.p50_ms - one.floors[SAME].wall_ms, 1) if one else None

    return measured


def _cpu(case: Case) -> Callable[[Iterable[Result]], float | None]:
    def measured(results: Iterable[Result]) -> float | None:
        one = _of(results, case)
        return round(one.cpu_ms / one.floors[SAME].cpu_ms, 2) if one else None

    return measured


def _most(value: Callable[[Result], float]) -> Callable[[Iterable[Result]], float | None]:
    def measured(results: Iterable[Result]) -> float | None:
        return max((value(one) for one in results), default=None)

    return measured


def _targets() -> list[Target]:
    found = []
    for clients in (4, 16):
        for keys, name, bound in (
            ("rsa4096", "RSA-4096", 0.90),
            ("rsa2048", "RSA-2048", 0.75),
            ("p256", "P-256", 0.70),
        ):
            what = f"{name}, 64 KiB, {clients} clients: throughput of bare cst with the same libraries"
            found.append(Target(what, bound, True, "", _ratio(Case(keys, _SMALL, clients))))
        what = f"RSA-4096, 64 KiB, {clients} clients: throughput of bare cst as a Debian 12 host has it"
        found.append(Target(what, 1.05, True, "", _ratio(Case("rsa4096", _SMALL, clients), HOST)))
    for keys, name in (("rsa4096", "RSA-4096"), ("rsa2048", "RSA-2048"), ("p256", "P-256")):
        what = f"{name}, 64 KiB, 1 client: median time beyond that of bare cst"
        found.append(Target(what, 4.0, False, " ms", _beyond(Case(keys, _SMALL, 1))))
    for keys, name in (("rsa4096", "RSA-4096"), ("rsa2048", "RSA-2048")):
        what = f"{name}, 32 MiB, 4 clients: throughput of bare cst"
        found.append(Target(what, 0.70, True, "", _ratio(Case(keys, _LARGE, 4))))
    for keys, name in (("ahab-p384", "P-384"), ("ahab-rsa4096", "RSA-4096")):
        for size, text, bound in ((_SMALL, "64 KiB", 1.0), (_LARGE, "32 MiB", 4.0)):
            what = f"AHAB, {name}, {text}, 4 clients: throughput of bare cst on the same file"
            found.append(Target(what, bound, True, "", _ratio(Case(keys, size, 4))))
    what = "RSA-4096, 64 KiB, 4 clients: CPU time of a request to that of bare cst"
    found.append(Target(what, 1.12, False, "", _cpu(Case("rsa4096", _SMALL, 4))))
    found.append(Target("all cases: peak memory of the daemon", 70.0, False, " MiB", _most(lambda one: one.daemon_mib)))
    found.append(Target("all cases: longest stall of the reactor", 30.0, False, " ms", _most(lambda one: one.stall_ms)))
    return found


TARGETS = _targets()
