"""What the tests have measured: rows of tables, printed at the end, and kept in a folder if one is given."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.record.clients import Clients

Row = dict[str, str | int | float | None]


class Figures:
    """Tables by their titles. No figure decides a test."""

    def __init__(self, folder: str | None) -> None:
        self.folder = Path(folder) if folder else None
        self._tables: dict[str, list[Row]] = {}

    def add(self, table: str, **row: str | float | None) -> None:
        """Append a row to a table; all its rows have the same columns."""
        self._tables.setdefault(table, []).append(row)

    def faults(self, fault: str, clients: Clients, recovered: float | None) -> None:
        """Append the row of a fault under load. `recovered` is in seconds, to the first 200 after the fault."""
        told = Counter(clients.statuses)
        others = {status: count for status, count in sorted(told.items()) if status not in {200, 503}}
        self.add(
            "Faults under load",
            fault=fault,
            requests=told.total() + clients.reset,
            **{"200": told[200], "503": told[503]},
            others=", ".join(f"{count} x {status}" for status, count in others.items()) or "0",
            reset=clients.reset,
            **{"recovers after s": recovered},
        )

    def markdown(self) -> str:
        return "\n".join(f"### {title}\n\n{_table(rows)}" for title, rows in self._tables.items())

    def show(self, reporter: pytest.TerminalReporter) -> None:
        """Print the tables, if a folder is given, and keep them there."""
        if self.folder is None or not self._tables:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "figures.json").write_text(json.dumps(self._tables, indent=1) + "\n")
        (self.folder / "figures.md").write_text(self.markdown())
        reporter.section("figures")
        reporter.write_line(self.markdown())


def _table(rows: list[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_text(one) for one in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


FIGURES = pytest.StashKey[Figures]()
