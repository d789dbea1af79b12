"""Text from elsewhere, fit to be read."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return the text with line ends and control characters escaped.

    So nobody can write a log line of their own, or draw on a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
