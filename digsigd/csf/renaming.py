"""Other names for files in a description that stays as it is otherwise, so that the lines of errors are its own."""

from __future__ import annotations

from collections.abc import Mapping

from digsigd.csf.model import Place


def renamed(text: bytes, names: Mapping[Place, str]) -> bytes:
    """The text with other names in the quotation marks that open at these places, as parsing has found them."""
    lines = text.split(b"\n")
    # From the right, so that what is to the left stays where it is.
    for line, column in sorted(names, reverse=True):
        old = lines[line - 1]
        # A byte order mark, which columns do not count, is in the first line: no name stands there.
        start = column - 1
        end = old.find(b'"', start + 1)
        if old[start : start + 1] != b'"' or end < 0 or '"' in names[line, column]:
            raise ValueError(f"no name stands at {line}:{column}, or the new one cannot")
        lines[line - 1] = old[: start + 1] + names[line, column].encode() + old[end:]
    return b"\n".join(lines)
