"""Where a configuration file says what: the line of a key."""

from __future__ import annotations

import tomllib
from typing import Any


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the line, from 1, at which a TOML file sets a key or opens a table; None if it does not have it.

    TOML's own parser decides: the key is set by the first lines with which a file would have it. A number in the path
    selects an entry of a list, from 0. Raises `ValueError` if the text is not TOML.
    """
    lines = text.splitlines(keepends=True)

    def first(counts: range) -> tuple[int, Any] | None:
        for count in counts:
            try:
                return count, tomllib.loads("".join(lines[:count]))
            except tomllib.TOMLDecodeError:
                continue  # in the middle of a value with several lines
        return None

    # Before `low` lines the key is not there, with the first `high` lines it is.
    low, high = 0, len(lines)
    if not _has(tomllib.loads(text), path):
        return None
    while True:
        middle = (low + high) // 2
        found = first(range(middle, low, -1)) or first(range(middle + 1, high))
        if found is None:
            return low + 1
        count, raw = found
        low, high = (low, count) if _has(raw, path) else (count, high)


def _has(raw: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if isinstance(raw, list):
            if not part.isdigit() or int(part) >= len(raw):
                return False
            raw = raw[int(part)]
        elif isinstance(raw, dict) and part in raw:
            raw = raw[part]
        else:
            return False
    return True
