"""The errors of `digsigd.csf`, each with the place in the description that it is about."""

from __future__ import annotations

_SHOWN = 60


class CsfError(Exception):
    """Base of all errors of this package. `line` and `column` count from 1; None where it is about no place."""

    def __init__(self, what: str, line: int | None = None, column: int | None = None, *, hint: str = "") -> None:
        where = ""
        if line is not None:
            where = f"line {line}: " if column is None else f"line {line}, column {column}: "
        super().__init__(f"{where}{what}{f'; {hint}' if hint else ''}")
        self.what = what
        self.line = line
        self.column = column
        self.hint = hint


class CsfSyntaxError(CsfError):
    """The text is no CSF description for HAB4."""


class CsfPolicyError(CsfError):
    """The description holds what this host does not sign."""


class CsfNameError(CsfError):
    """The description names a file or a part of the artifact that is not there."""


def quoted(text: str) -> str:
    """A client's text for an error: at most 60 characters of it, its middle left out, none a control character."""
    # The end of a path tells more than its middle.
    shown = text if len(text) <= _SHOWN else text[:17] + "..." + text[-(_SHOWN - 20) :]
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'
