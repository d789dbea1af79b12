"""Renames files in the text of a CSF description and changes nothing else, so that errors keep their lines."""

from __future__ import annotations

from collections.abc import Mapping

from digsigd.csf.model import Place


def renamed(text: bytes, names: Mapping[Place, str]) -> bytes:
    """Return the text with new names in the quotation marks that open at these places, which parsing found.

    Raises `ValueError` for a place without a name, and for a new name with a quotation mark.
    """
    lines = text.split(b"\n")
    # From the right, so that what is to the left stays where it is.
    for line, column in sorted(names, reverse=True):
        old = lines[line - 1]
        # A byte order mark, which columns do not count, is in the first line: no name is there.
        start = column - 1
        end = old.find(b'"', start + 1)
        if old[start : start + 1] != b'"' or end < 0 or '"' in names[line, column]:
            raise ValueError(f"there is no name at {line}:{column}, or the new name has a quotation mark")
        lines[line - 1] = old[: start + 1] + names[line, column].encode() + old[end:]
    return b"\n".join(lines)
