"""The errors of `digsigd.hab`."""

from __future__ import annotations

from digsigd import Error


class HabError(Error):
    """Base of all errors of this package; `what` says what does not hold, with the numbers.

    `command` is the number, from 0, of the command of a CSF at which that showed, where there is one.
    """

    command: int | None = None


class FormatError(HabError):
    """Bytes that are not in the format they should be in. `offset` is where, in bytes from the start."""

    def __init__(self, what: str, offset: int | None = None, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.offset = offset

    def summary(self) -> str:
        """Return what is wrong, and the offset behind it."""
        return self.what if self.offset is None else f"{self.what} (at offset {self.offset:#x})"


class VerificationError(HabError):
    """What the boot ROM would refuse. `check` is the short name of the check that did not hold."""

    def __init__(self, check: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.check = check

    def summary(self) -> str:
        """Return the name of the check, and what did not hold."""
        return f"{self.check}: {self.what}"
