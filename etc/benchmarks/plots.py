"""Plots as SVG files that fit light and dark pages: their colours are CSS variables with `prefers-color-scheme`."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from etc.benchmarks.growth import MEMORY, OTHERS, Curves

# What matplotlib draws with, the variable that replaces it, and its values on light and on dark pages.
_COLOURS = {
    "#010101": ("ink", "#24292f", "#d7dde4"),
    "#020202": ("faint", "#d0d7de", "#3d444d"),
    "#030303": ("one", "#0969da", "#58a6ff"),
    "#040404": ("two", "#bc4c00", "#f0883e"),
    "#050505": ("three", "#1a7f37", "#56d364"),
    "#060606": ("four", "#8250df", "#bc8cff"),
}
_INK, _FAINT, *_LINES = _COLOURS
_MARKERS = "os^D"
_TITLES = {
    "machines": "machines in the key store",
    "records": "entries in the record (SQLite)",
    "clients": "clients at a time",
    "size": "bytes of the artifact (one client)",
}
_RC: Any = {
    "svg.hashsalt": "digsigd",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def draw(axis: str, curves: Curves) -> str:
    """Return a plot of one axis of growth as SVG: times on the left, memory on the right."""
    times = {name: points for name, points in curves.items() if name not in {MEMORY, OTHERS}}
    memory = {name: points for name, points in curves.items() if name == MEMORY}
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(8.4, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        steep = any(_spread(points) > 12 for points in times.values())
        _panel(left, axis, times, "ms", logarithmic=steep)
        _panel(right, axis, memory, "MiB", logarithmic=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(file.getvalue())


def _panel(axes: Any, axis: str, curves: Mapping[str, list[list[float]]], unit: str, *, logarithmic: bool) -> None:
    for number, (name, points) in enumerate(curves.items()):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        label = name.removesuffix(f" {unit}")
        colour, marker = _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)]
        axes.plot(xs, ys, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)
    axes.set_xscale("log")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0, top=1.15 * max((y for points in curves.values() for _, y in points), default=1))
    ticks = sorted({x for points in curves.values() for x, _ in points})
    if ticks:
        axes.set_xticks(ticks, [tick_text(axis, x) for x in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_TITLES.get(axis, axis))
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    if curves:
        axes.legend(fontsize=9)


def tick_text(axis: str, x: float) -> str:
    """Return a number on the horizontal axis: 64K, 1M; for sizes in powers of two."""
    step = 1024 if axis == "size" else 1000
    for unit in ("", "K", "M"):
        if x < step:
            return f"{x:g}{unit}"
        x /= step
    return f"{x:g}G"


def _spread(points: list[list[float]]) -> float:
    values = [y for _, y in points if y > 0]
    return max(values) / min(values) if values else 1.0


def _themed(svg: str) -> str:
    """Return the SVG with variables instead of colours, and without the size in points that keeps it from scaling."""
    for colour, (name, _, _) in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    light = "".join(f"--{name}:{value};" for name, value, _ in _COLOURS.values())
    dark = "".join(f"--{name}:{value};" for name, _, value in _COLOURS.values())
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    # Text without a colour of its own would be black.
    style = style.replace("</style>", "text{fill:var(--ink)}</style>")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(<svg [^>]*>)", lambda found: f"{found[1]}\n {style}", svg, count=1, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def write(folder: Path, growth: Mapping[str, Curves]) -> list[Path]:
    """Write a file for each axis, and return their paths."""
    folder.mkdir(exist_ok=True)
    written = []
    for axis, curves in growth.items():
        path = folder / f"growth-{axis}.svg"
        path.write_text(draw(axis, curves))
        written.append(path)
    return written
