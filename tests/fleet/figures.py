"""The figures of one run of a fleet: tables, and a plot of signatures and waiting times over the run."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fleet.fleet import Fleet


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which this part of the values is."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def figures_of(
    fleet: Fleet, results: list[dict[str, Any]], entries: list[dict[str, Any]], cpu: dict[str, float]
) -> Any:
    """Return all figures, as JSON has them. Times are in seconds since the first request."""
    began = min(one["began"] for one in results)
    signed = Counter(one["number"] for one in entries if one["outcome"] == "signed")
    waits = [one["ended"] - one["began"] for one in results]
    seconds = max(one["ended"] for one in results) - began
    answered = len(results)
    events = [{"event": name, "from": start - began, "to": end - began} for name, start, end in fleet.events]
    return {
        "images": answered,
        "clients": fleet.size.clients,
        "hosts": fleet.size.hosts,
        "seconds": round(seconds, 1),
        "signatures per second": round(answered / seconds, 1),
        "milliseconds": {f"p{round(part * 100)}": round(quantile(waits, part) * 1000) for part in (0.5, 0.95, 0.99, 1)},
        "tries again by clients": sum(len(one["retries"]) for one in results),
        "most tries of one image": 1 + max(len(one["retries"]) for one in results),
        "signed by host": {str(number): signed[number] for number in sorted(signed)},
        "signed, and the answer lost": sum(signed.values()) - answered,
        "haproxy": dict(fleet.counts),
        "cpu ms of a signature": {name: round(used / answered * 1000, 2) for name, used in sorted(cpu.items())},
        "events": [{**one, "from": round(one["from"], 1), "to": round(one["to"], 1)} for one in events],
        "answers": [[round(one["ended"] - began, 2), round(one["ended"] - one["began"], 3)] for one in results],
    }


def markdown(figures: Any) -> str:
    """Return the tables."""
    times = ", ".join(str(one) for one in figures["milliseconds"].values())
    by_host = ", ".join(str(one) for one in figures["signed by host"].values())
    counts = figures["haproxy"]
    rows = [
        ("images signed, verified by their clients and recorded once", figures["images"]),
        ("clients, hosts", f"{figures['clients']}, {figures['hosts']}"),
        ("seconds", figures["seconds"]),
        ("signatures a second, with everything below", figures["signatures per second"]),
        ("time of a signature with all its tries, ms: p50, p95, p99, most", times),
        ("tries again by clients", figures["tries again by clients"]),
        ("most tries for one image", figures["most tries of one image"]),
        ("signed and recorded, but the answer was lost with the host", figures["signed, and the answer lost"]),
        ("signed by each host", by_host),
        ("requests that had not reached a host, and that HAProxy gave to another one", counts["wredis"]),
    ]
    text = ["| what | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows), ""]
    text += ["| CPU time, ms a signature | |", "|---|---:|"]
    text += [f"| {name} | {value} |" for name, value in figures["cpu ms of a signature"].items()]
    text += ["", "| event | from s | to s |", "|---|---:|---:|"]
    text += [f"| {one['event']} | {one['from']} | {one['to']} |" for one in figures["events"]]
    return "\n".join(text) + "\n"


def keep(figures: Any, folder: Path) -> None:
    """Write fleet.json, fleet-figures.txt and fleet.svg into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.json").write_text(json.dumps(figures) + "\n")
    (folder / "fleet-figures.txt").write_text(markdown(figures))
    (folder / "fleet.svg").write_text(draw(figures))


def draw(figures: Any) -> str:
    """Return signatures a second and the time of each over the run, with the events behind them, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from etc.benchmarks import plots

    answers, step = figures["answers"], max(1, round(figures["seconds"] / 120))
    with mpl.rc_context(plots._RC):
        figure = Figure(figsize=(8.4, 4.8), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        bins = Counter(int(at / step) for at, _ in answers)
        edges = list(range(int(figures["seconds"] / step) + 1))
        upper.step(
            [one * step for one in edges], [bins[one] / step for one in edges], where="post", color=plots._LINES[0]
        )
        upper.set_ylabel("signatures/s")
        waits: dict[int, list[float]] = {}
        for at, wait in answers:
            waits.setdefault(int(at / step), []).append(wait)
        middles = [(one + 0.5) * step for one in sorted(waits)]
        for number, (name, part) in enumerate({"median": 0.5, "longest": 1.0}.items(), 1):
            values = [quantile(waits[one], part) for one in sorted(waits)]
            lower.plot(middles, values, color=plots._LINES[number], linewidth=1.4, label=name)
        lower.legend(ncols=2)
        lower.set_ylabel("s to a signature")
        lower.set_xlabel("seconds")
        for axes in (upper, lower):
            axes.grid(visible=True, axis="y")
            for one in figures["events"]:
                axes.axvspan(one["from"], one["to"], color=plots._FAINT, alpha=0.5, linewidth=0)
        upper.set_ylim(bottom=0)
        lower.set_ylim(bottom=0)
        high = upper.get_ylim()[1]
        for one in figures["events"]:
            upper.text(one["from"], high, one["event"], rotation=20, ha="left", va="bottom", fontsize=8)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return plots._themed(file.getvalue())
