"""The map of an image as SVG: which bytes a signature covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted.web.template import Flattenable, Tag, tags

from digsigd.image.report import STATES, Drawn, cells_of

COLUMNS, ROWS = 64, 16
# In units of the picture: a cell, and the room for the offsets at the left.
_WIDTH, _HEIGHT, _LEFT = 12, 16, 84
# States that the legend always has.
_ALWAYS = ("signed", "csf", "wrong", "open")


def picture(report: Drawn) -> list[Flattenable]:
    """Return the map with its legend. Each row shows its offset; a cell shows the most important of its bytes."""
    size, cells = cells_of(report, COLUMNS * ROWS)
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    drawn: list[Flattenable] = []
    for number, row in enumerate(rows):
        y = number * _HEIGHT
        offset = f"{number * COLUMNS * size:#x}"
        drawn.append(Tag("text")(offset, x=str(_LEFT - 8), y=str(y + 12), **{"text-anchor": "end"}))
        for start, length, state in _runs(row):
            x, width = _LEFT + start * _WIDTH, length * _WIDTH
            drawn.append(_part(x, y, width, state))
    counts = {state: cells.count(state) for state in STATES}
    shares = ", ".join(
        f"{words}: {_share(counts[state], len(cells))}" for state, words in report.states.items() if counts[state]
    )
    svg = Tag("svg")(
        Tag("title")(f"Map of the file, {size:#x} bytes a cell. {shares}."),
        *drawn,
        viewBox=f"0 0 {_LEFT + COLUMNS * _WIDTH} {max(len(rows), 1) * _HEIGHT}",
        class_="map",
        role="img",
    )
    shown = [state for state in STATES if state in _ALWAYS or counts[state]]
    return [
        svg,
        _legend([(state, report.states[state]) for state in shown]),
        tags.p(f"A cell is {size:#x} bytes.", class_="hint"),
    ]


def _part(x: int, y: int, width: int, state: str) -> Tag:
    box = Tag("rect")(
        x=str(x), y=str(y + 1), width=str(width), height=str(_HEIGHT - 2), class_=f"cell is-{state}"
    )  # fmt: skip
    if state != "wrong":
        return box
    # Not by colour alone.
    lines = [
        Tag("line")(x1=str(at), y1=str(y + _HEIGHT - 2), x2=str(at + 6), y2=str(y + 2), class_="hatch")
        for at in range(x + 1, x + width - 6, 6)
    ]
    return Tag("g")(box, *lines)


def _legend(states: Sequence[tuple[str, str]]) -> Tag:
    entries = []
    for state, words in states:
        mark = Tag("svg")(_mark(state), viewBox="0 0 14 16", **{"aria-hidden": "true"})
        entries.append(tags.li(mark, words))
    return tags.ul(entries, class_="legend")


def _mark(state: str) -> Tag:
    return Tag("g")(_part(0, 0, 14, state), class_="map" if state == "wrong" else "")


def _runs(row: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (start, length, state) of the cells in a row that are alike."""
    start = 0
    for end in range(1, len(row) + 1):
        if end == len(row) or row[end] != row[start]:
            yield start, end - start, row[start]
            start = end


def _share(count: int, total: int) -> str:
    share = 100 * count / total
    return "less than 1 %" if share < 1 else f"{share:.0f} %"
