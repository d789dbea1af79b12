"""The settings of etc/digsigd.toml with their comments, for digsigd.toml(5).

The file has a table's comment before its header, and a setting's comment before it; settings without a comment between
them have it in common. What is commented out has no space after the `#`: `#keep = 300`, `#[machines.imx8mm-evk]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from etc.manual.rest import bold, heading, item, literal, text_of

FILE = Path(__file__).parent.parent / "digsigd.toml"
_TABLE = re.compile(r"#?(\[\[?[\w.-]+\]\]?)")
_SETTING = re.compile(r'#?([\w-]+|"[^"]+") = (.+)')


@dataclass
class Setting:
    """A comment, and the lines of the settings that it is about."""

    comment: str
    lines: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of the settings."""
        return [found[1] for line in self.lines if (found := _SETTING.match(line))]


@dataclass
class Table:
    """A table of the file: its header, "" for what is before the first, its comment, and its settings."""

    header: str
    comment: str
    settings: list[Setting] = field(default_factory=list)


def tables(text: str) -> Iterator[Table]:
    """Return the tables of a configuration file whose comments explain it. Raises `ValueError` for any other line."""
    comment: list[str] = []
    table = Table("", "")
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# ") or line == "#":
            comment.append(line[2:])
        elif found := _TABLE.fullmatch(line):
            yield table
            table, comment = Table(found[1], "\n".join(comment)), []
        elif _SETTING.fullmatch(line):
            if comment or not table.settings:
                table.settings.append(Setting("\n".join(comment)))
                comment = []
            table.settings[-1].lines.append(line.removeprefix("#"))
        elif not line:
            if not table.header and not table.comment:
                table.comment, comment = "\n".join(comment), []
            elif comment:
                raise ValueError(f"line {number}: a comment without a setting or a table after it")
        else:
            raise ValueError(f"line {number} is not a comment, a table or a setting: {line}")
    yield table


def preamble() -> str:
    """Return what the file says before its first table, without its first paragraph: how it is checked, by twistd."""
    return text_of(next(tables(FILE.read_text())).comment.partition("\n\n")[2])


def settings() -> str:
    """Return the tables with their settings, their comments, and their defaults or examples."""
    blocks = []
    for table in tables(FILE.read_text()):
        if table.header:
            blocks += [heading(table.header.replace("[", "\\["), "-"), text_of(table.comment)]
        for one in table.settings:
            term = ", ".join(bold(name) for name in one.names)
            blocks.append(item(term, *([text_of(one.comment)] if one.comment else []), literal(one.lines)))
    return "\n".join(blocks)
