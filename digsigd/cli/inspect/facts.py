"""The description of a file: parts with facts, tables and inner parts, printed as text or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from digsigd.cli.console import Console, shown


class Hex(int):
    """A number that is printed in hexadecimal."""


Fact: TypeAlias = str | int | Hex | bool | datetime | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of rows called `name`; in JSON each row is an object with the columns as keys."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Fact, ...]]


@dataclass(slots=True)
class Part:
    """A part of a file. `kind` is for programs, `title` for people; text leaves out facts without a value.

    `damage` says what is wrong and where, `notes` what else is worth knowing.
    """

    kind: str
    title: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def damaged(self) -> bool:
        """True if this part or a part in it is damaged."""
        return bool(self.damage) or any(part.damaged for part in self.parts)

    def walk(self) -> Iterator[Part]:
        """Yield this part and all parts in it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def as_values(self) -> dict[str, Any]:
        """Return this part as values for JSON."""
        values: dict[str, Any] = {"kind": self.kind, "title": self.title}
        values.update((name, _value(fact)) for name, fact in self.facts.items())
        for table in self.tables:
            keys = [column.replace(" ", "_") for column in table.columns]
            values[table.name.replace(" ", "_")] = [
                dict(zip(keys, map(_value, row), strict=True)) for row in table.rows
            ]
        values.update(damage=self.damage, notes=self.notes, parts=[part.as_values() for part in self.parts])
        return values


def _value(fact: Fact) -> Any:
    if isinstance(fact, datetime):
        return fact.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(fact, str | int | None):
        return fact
    return list(fact)


def as_text(fact: Fact) -> str:
    """Return a fact as text."""
    if fact is None:
        return "-"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, Hex):
        return f"{int(fact):#x}"
    if isinstance(fact, datetime):
        return f"{fact:%Y-%m-%d %H:%M} UTC"
    if isinstance(fact, int | str):
        return shown(str(fact))
    return shown(", ".join(fact)) or "-"


def show(part: Part, console: Console, indent: str = "") -> None:
    """Print a part and all parts in it."""
    console.say(indent + shown(part.title))
    inner = indent + "  "
    known = {name.replace("_", " "): as_text(fact) for name, fact in part.facts.items() if fact not in (None, "", ())}
    width = max(map(len, known), default=0)
    for name, text in known.items():
        console.say(f"{inner}{console.coloured(name.ljust(width), 'dim')}  {text}".rstrip())
    for table in part.tables:
        if table.rows:
            console.say(f"{inner}{table.name}:")
            console.table(table.columns, [tuple(map(as_text, row)) for row in table.rows], indent=inner + "  ")
    for text in part.damage:
        console.say(f"{inner}{console.coloured('damaged', 'bad')}: {shown(text)}")
    for text in part.notes:
        console.say(f"{inner}{console.coloured('note', 'note')}: {shown(text)}")
    for one in part.parts:
        console.say()
        show(one, console, inner)
