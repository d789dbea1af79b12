"""The errors of `digsigd.csf`, each with its place in the CSF description."""

from __future__ import annotations

from digsigd import Error

_SHOWN = 60


class CsfError(Error):
    """Base of all errors of this package. `line` and `column` count from 1; None for an error without a place."""

    def __init__(self, what: str, line: int | None = None, column: int | None = None, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.line = line
        self.column = column

    def summary(self) -> str:
        """Return the line, the column, and what happened."""
        if self.line is None:
            return self.what
        column = "" if self.column is None else f", column {self.column}"
        return f"line {self.line}{column}: {self.what}"

    def __str__(self) -> str:
        return f"{self.summary()}; {self.hint}" if self.hint else self.summary()


class CsfSyntaxError(CsfError):
    """The text is not a CSF description for HAB4."""


class CsfPolicyError(CsfError):
    """The CSF description has something that this host does not sign."""


class CsfNameError(CsfError):
    """The CSF description names a file, or a part of an artifact, that does not exist."""


class CsfKeyError(CsfNameError):
    """The key tarball has a certificate that the CSF description names, `member`, but not its private key."""

    def __init__(self, what: str, line: int | None, column: int | None, *, member: str) -> None:
        super().__init__(what, line, column)
        self.member = member


def quoted(text: str) -> str:
    """Return a client's text for an error: at most 60 characters, without its middle, control characters escaped."""
    # The end of a path says more than its middle.
    shown = text if len(text) <= _SHOWN else text[:17] + "..." + text[-(_SHOWN - 20) :]
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'
