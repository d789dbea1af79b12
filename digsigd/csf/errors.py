"""The errors of `digsigd.csf`, each with the place in the description that it is about."""

from __future__ import annotations

from digsigd import Error

_SHOWN = 60


class CsfError(Error):
    """Base of all errors of this package. `line` and `column` count from 1; None where it is about no place."""

    def __init__(self, what: str, line: int | None = None, column: int | None = None, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.line = line
        self.column = column

    def summary(self) -> str:
        """Return what happened, behind the line and the column."""
        if self.line is None:
            return self.what
        column = "" if self.column is None else f", column {self.column}"
        return f"line {self.line}{column}: {self.what}"

    def __str__(self) -> str:
        return f"{self.summary()}; {self.hint}" if self.hint else self.summary()


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
