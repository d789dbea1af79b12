"""The errors of `digsigd.hab`."""

from __future__ import annotations

from digsigd import Error


class HabError(Error):
    """Base of all errors of this package; `what` says what is wrong, with the numbers.

    `command` is the number, from 0, of the CSF's command at which the error was found, or None.
    """

    command: int | None = None


class FormatError(HabError):
    """Bytes that are not in the expected format. `offset` is the place, in bytes from the start."""

    def __init__(self, what: str, offset: int | None = None, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.offset = offset

    def summary(self) -> str:
        """Return what is wrong, followed by the offset."""
        return self.what if self.offset is None else f"{self.what} (at offset {self.offset:#x})"


class VerificationError(HabError):
    """A CSF or an image that the boot ROM would refuse. `check` is the short name of the check that failed."""

    def __init__(self, check: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.check = check

    def summary(self) -> str:
        """Return the name of the check, and what is wrong."""
        return f"{self.check}: {self.what}"
