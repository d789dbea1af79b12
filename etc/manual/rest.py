"""Text as reStructuredText: escapes, terms and blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from textwrap import indent

# Markup, and what would be taken for an address: "tcp:9999" is one of a scheme "tcp".
_SPECIAL = re.compile(r"([\\`*_|:@<])")


def escaped(text: str) -> str:
    """Return plain text as reStructuredText without markup. A backslash and a space at the start mean nothing."""
    return "\\ " + _SPECIAL.sub(r"\\\1", text)


def paragraph(text: str) -> str:
    """Return a paragraph; `words` in backquotes are bold in it."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    marked = (f"{bold(part)}\\ " if place % 2 else escaped(part) for place, part in enumerate(parts) if part)
    return "".join(marked) + "\n"


def bold(text: str) -> str:
    """Return bold text. It must not begin or end with a space."""
    return "**" + _SPECIAL.sub(r"\\\1", text) + "**"


def italic(text: str) -> str:
    """Return text in italics: what the user replaces."""
    return "*" + _SPECIAL.sub(r"\\\1", text) + "*"


def literal(lines: Iterable[str]) -> str:
    """Return lines as they are."""
    return "::\n\n" + indent("\n".join(lines), "    ") + "\n"


def item(term: str, *blocks: str) -> str:
    """Return a term with its definition."""
    return f"{term}\n" + indent("\n".join(blocks), "    ")


def heading(text: str, mark: str) -> str:
    """Return a heading, underlined with `mark`."""
    return f"{text}\n{mark * (len(text) + 2)}\n"


def text_of(text: str) -> str:
    """Return plain text in paragraphs as reStructuredText: lines indented by two spaces stay as they are."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        for indented, some in groupby(block.splitlines(), lambda line: line.startswith("  ")):
            lines = list(some)
            blocks.append(literal(line[2:] for line in lines) if indented else paragraph(" ".join(lines)))
    return "\n".join(blocks)
