"""The command line: run, growth, profile, render."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from digsigd import Error
from digsigd.signing.libraries import describe
from etc.benchmarks import cases, growth, results, tables
from etc.benchmarks.cases import Case, CaseError
from etc.benchmarks.daemon import ROOT, THIS, Checkout, DaemonError
from etc.benchmarks.floor import FloorError
from etc.benchmarks.ground import Ground, ground
from etc.benchmarks.load import LoadError
from etc.benchmarks.measure import MeasureError, measure
from etc.benchmarks.profiling import ProfileError, profile
from etc.benchmarks.results import Figures

JSON, DOCUMENT, PLOTS = ROOT / "docs/benchmarks.json", ROOT / "docs/benchmarks.md", ROOT / "docs/benchmarks"
_FAILURES = (CaseError, DaemonError, FloorError, LoadError, MeasureError, ProfileError, tables.MarkersMissing, Error)
# Larger artifacts have two rounds at most, which take minutes.
_HUGE = 64 << 20
_ALL = ("machines", "records", "clients", "size")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="etc.benchmarks", description=__doc__)
    parser.add_argument(
        "--base", type=Path, default=os.environ.get("DIGSIGSERVER_IMX_CST_BASE") or ROOT / ".digsigd/nxp"
    )
    parser.add_argument("--cst", default="3.4.1", metavar="VERSION", help="version of cst (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="add the figures to this file (docs: docs/benchmarks.json)")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="measure cases", description=cases.parse.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    run.add_argument("--cases", default="standard", help="default: %(default)s")
    run.add_argument("--rounds", type=int, default=5, help="rounds in which floors and daemons alternate (default: 5)")
    run.add_argument("--requests", type=int, default=0, help="requests in a round (default: depends on the size)")
    run.add_argument("--versus", type=Path, metavar="WORKTREE", help="another checkout, measured in the same rounds")
    run.add_argument(
        "--record", default="", metavar="URL", help="also each key with a record in this PostgreSQL database"
    )
    run.add_argument("--server", default="", metavar="COMMAND", help="another server, on 127.0.0.1:{port}: servers.py")
    grow = commands.add_parser("growth", help="measure what happens when something grows")
    grow.add_argument("--axes", nargs="+", choices=_ALL, default=list(_ALL))
    grow.add_argument("--most", type=int, default=0, help="leave out points above this number")
    where = commands.add_parser("profile", help="measure where the CPU time of a request goes")
    where.add_argument("--case", default="rsa4096,64K,4")
    where.add_argument("--seconds", type=int, default=20)
    commands.add_parser("render", help="update the document and its plots from docs/benchmarks.json")
    return parser


def _run(place: Ground, chosen: argparse.Namespace, found: Figures) -> None:
    todo = cases.parse(chosen.cases)
    if chosen.record:
        todo += [Case(keys, record="postgresql") for keys in ("rsa4096", "rsa2048")]
    if not chosen.record and any(case.record == "postgresql" for case in todo):
        raise CaseError("a record in PostgreSQL needs --record URL")
    checkouts = [THIS]
    if chosen.versus and not (chosen.versus / "digsigd").is_dir():
        raise CaseError(f"--versus is the folder of another checkout, and {chosen.versus} is none (git worktree add)")
    if chosen.versus:
        checkouts.append(Checkout("other", chosen.versus.absolute()))
    for number, case in enumerate(dict.fromkeys(todo), 1):
        began = time.monotonic()
        rounds = min(2, chosen.rounds) if case.size > _HUGE else chosen.rounds
        new = measure(
            place, case, rounds=rounds, count=chosen.requests, checkouts=checkouts, record=chosen.record,
            server=chosen.server,
        )  # fmt: skip
        found.cases.extend(new)
        results.add(chosen.json, found)
        ratios = ", ".join(f"{name} {floor.ratio:.2f}" for name, floor in new[0].floors.items())
        took = time.monotonic() - began
        print(f"{number}/{len(todo)} {case.name}: {new[0].per_second:.1f}/s; {ratios} ({took:.0f} s)", file=sys.stderr)
        place.forget_bodies()


def _grow(place: Ground, chosen: argparse.Namespace, found: Figures) -> None:
    points = {"machines": growth.MACHINES, "records": growth.RECORDS, "clients": growth.CLIENTS, "size": growth.SIZES}
    for axis in chosen.axes:
        counts = tuple(one for one in points[axis] if not chosen.most or one <= chosen.most)
        found.growth[axis] = growth.AXES[axis](place, counts)
        results.add(chosen.json, found)
        print(f"{axis}: {found.growth[axis]}", file=sys.stderr)


def _measure(chosen: argparse.Namespace) -> Figures:
    room = 6 << 30 if chosen.command != "run" or "256M" in chosen.cases or "standard" in chosen.cases else 2 << 30
    with ground(Path(chosen.base), chosen.cst, room=room) as place:
        figures = Figures(results.this_host(chosen.cst, describe(place.libraries).partition(" in ")[0]), [])
        if chosen.command == "run":
            _run(place, chosen, figures)
        elif chosen.command == "growth":
            _grow(place, chosen, figures)
        else:
            case = cases.parse(chosen.case)[0]
            figures.profile[case.name] = profile(place, case, seconds=chosen.seconds)
            results.add(chosen.json, figures)
    return figures


def _show(figures: Figures) -> None:
    print(tables.host(figures.host))
    ours = [one for one in figures.cases if one.checkout == THIS.name]
    if ours:
        print(tables.cases(ours))
        print(tables.targets(ours, unmeasured=False))
    for name in dict.fromkeys(one.checkout for one in figures.cases if one.checkout != THIS.name):
        print(tables.versus(figures.cases, name))
    for rows in figures.profile.values():
        print(tables.profile(rows))


def render() -> None:
    """Update docs/benchmarks.md and the plots. Raises `MarkersMissing`, `OSError` and `msgspec.ValidationError`."""
    from etc.benchmarks import plots

    figures = results.read(JSON)
    tables.fill_file(DOCUMENT, figures)
    plots.write(PLOTS, figures.growth)


def main(arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    chosen = _options().parse_args(arguments)
    # So that daemons are stopped and folders removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        if chosen.command == "render":
            render()
            return 0
        figures = _measure(chosen)
        _show(figures)
    except (*_FAILURES, msgspec.ValidationError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    return 0
