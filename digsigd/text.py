"""Make untrusted text safe to print."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return the text with line ends and control characters escaped.

    Untrusted text then cannot forge a log line or control a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
