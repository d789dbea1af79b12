"""Plots of samples as SVG, light and dark. matplotlib is in the dependency group `bench`, for `make soak`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

PANELS = {
    "memory_mib": "resident memory, MiB",
    "descriptors": "open descriptors",
    "threads": "threads",
    "files": "files of requests",
}


def plot_samples(samples: Sequence[dict[str, float]], folder: Path) -> list[Path]:
    """Plot all columns over the number of requests. Returns the two files."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    made = []
    styles = {"light": ("default", "#1f5fa8", "#333333"), "dark": ("dark_background", "#7db3ef", "#dddddd")}
    for name, (style, line, text) in styles.items():
        # No date and no random ids: the same samples give the same file.
        settings: Any = {"svg.hashsalt": "digsigd", "text.color": text, "axes.labelcolor": text, "font.size": 9}
        with pyplot.style.context(style), mpl.rc_context(settings):
            figure, axes = pyplot.subplots(2, 2, figsize=(9, 5), sharex=True, layout="constrained")
            for axis, (column, title) in zip(axes.flat, PANELS.items(), strict=True):
                axis.plot([one["requests"] for one in samples], [one[column] for one in samples], color=line, lw=1)
                axis.set_title(title, loc="left")
                axis.set_ylim(bottom=0)
                axis.grid(alpha=0.25)
                axis.spines[["top", "right"]].set_visible(False)
            for axis in axes[1]:
                axis.set_xlabel("requests answered")
            path = folder / f"requests-in-a-row-{name}.svg"
            figure.savefig(path, metadata={"Date": None}, transparent=True)
            pyplot.close(figure)
            made.append(path)
    return made
