"""Tables in Markdown, and their places between markers in docs/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from etc.benchmarks.results import Figures, Host, Result
from etc.benchmarks.targets import TARGETS

_FLOORS = {"system": "of the host's cst", "own": "of cst, same libraries", "plain": "of cst, decrypted keys"}


class MarkersMissing(Exception):
    """A document without the markers of a table: which."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a table; the first `left` columns are aligned left, the others right."""
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join("---" if number < left else "---:" for number in range(len(head))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


_COLUMNS: dict[str, Callable[[Result], str]] = {
    "case": lambda one: f"`{one.case}`",
    "signed/s": lambda one: f"{one.per_second:.1f}",
    **{
        title: lambda one, name=name: f"{one.floors[name].ratio:.2f}" if name in one.floors else ""  # type: ignore[misc]
        for name, title in _FLOORS.items()
    },
    "CPU ms: daemon": lambda one: f"{one.own_ms:.1f}",
    "its cst": lambda one: f"{one.children_ms:.1f}",
    "bare cst": lambda one: f"{one.floors['own'].cpu_ms:.1f}",
    "load": lambda one: f"{one.load_ms:.1f}",
    "p50 ms": lambda one: f"{one.p50_ms:.0f}",
    "p95": lambda one: f"{one.p95_ms:.0f}",
    "p99": lambda one: f"{one.p99_ms:.0f}",
    "bare p50": lambda one: f"{one.floors['own'].wall_ms:.0f}",
    "stall ms": lambda one: f"{one.stall_ms:.0f}",
    "daemon MiB": lambda one: f"{one.daemon_mib:.0f}",
    "tree MiB": lambda one: f"{one.tree_mib:.0f}",
    "not 200": lambda one: str(one.others) if one.others else "",
}


def cases(results: Sequence[Result]) -> str:
    """Return the table of cases, a row for each."""
    return markdown(list(_COLUMNS), [[show(one) for show in _COLUMNS.values()] for one in results])


def targets(results: Sequence[Result], *, unmeasured: bool = True) -> str:
    """Return the table of targets, each with what was measured, and those for which nothing was, unless told not to."""
    rows = []
    for one in TARGETS:
        value = one.measured(results)
        bound = f"{'≥' if one.least else '≤'} {one.bound:g}{one.unit}"
        if value is None:
            if unmeasured:
                rows.append([one.what, bound, "not measured", ""])
            continue
        rows.append([one.what, bound, f"{value:g}{one.unit}", "met" if one.met(value) else "**missed**"])
    return markdown(["what", "target", "measured", ""], rows)


def versus(results: Sequence[Result], other: str) -> str:
    """Return the table that compares this checkout with the other, case by case."""
    rows = []
    theirs = {one.case: one for one in results if one.checkout == other}
    for one in results:
        if one.checkout != "this" or one.case not in theirs:
            continue
        it = theirs[one.case]
        rows.append(
            [
                f"`{one.case}`",
                f"{one.per_second:.1f}",
                f"{it.per_second:.1f}",
                f"{one.per_second / it.per_second:.2f}" if it.per_second else "",
                f"{one.own_ms:.1f} + {one.children_ms:.1f}",
                f"{it.own_ms:.1f} + {it.children_ms:.1f}",
                f"{one.floors['own'].ratio:.2f}, {it.floors['own'].ratio:.2f}",
                f"{one.p50_ms:.0f}",
                f"{it.p50_ms:.0f}",
            ]
        )
    names = ("digsigd" if other == "server" else "this", other)
    head = ["case", *(f"{name}/s" for name in names), "ratio", *(f"CPU ms, {name}" for name in names)]
    head += ["of cst, same libraries", *(f"p50 ms, {name}" for name in names)]
    return markdown(head, rows)


def profile(rows: Sequence[Sequence[str | float]]) -> str:
    """Return a table of where a request's time goes: thread, step, milliseconds."""
    total = sum(float(row[2]) for row in rows)
    shown = [[str(row[0]), str(row[1]), f"{float(row[2]):.1f}"] for row in rows]
    return markdown(["thread", "step", "CPU ms a request"], [*shown, ["all", "", f"{total:.1f}"]], left=2)


def host(one: Host) -> str:
    """Return what machine the figures are of, as a paragraph."""
    return (
        f"Measured with cst {one.cst} and the {one.libraries}, on {one.processors} processors ({one.model}), "
        f"{one.memory_gib} GiB, {one.system}, Linux {one.kernel}, Python {one.python}, Twisted {one.twisted}.\n"
    )


def blocks(figures: Figures) -> dict[str, str]:
    """Return the text of each place in the document that the figures fill, by the name in its markers."""
    ours = [one for one in figures.cases if one.checkout == "this"]
    found = {"host": host(figures.host), "targets": targets(ours), "cases": cases(ours)}
    if any(one.checkout == "server" for one in figures.cases):
        found["server"] = versus(figures.cases, "server")
    for name, rows in figures.profile.items():
        found[f"profile-{name}"] = profile(rows)
    return found


def fill(text: str, blocks: dict[str, str]) -> str:
    """Return a document with each block between its markers `<!-- bench: NAME -->` and `<!-- end -->`.

    Raises `MarkersMissing` if there is no place for a block.
    """
    for name, block in blocks.items():
        place = re.compile(rf"(<!-- bench: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise MarkersMissing(f"the document has no place for {name!r}")
        text = place.sub(lambda found, block=block: f"{found[1]}\n{block}\n{found[2]}", text, count=1)  # type: ignore[misc]
    return text


def fill_file(path: Path, figures: Figures) -> None:
    """Fill the places of a document. Raises `MarkersMissing` and `OSError`."""
    path.write_text(fill(path.read_text(), blocks(figures)))
