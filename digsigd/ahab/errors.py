"""The errors of `digsigd.ahab`."""

from __future__ import annotations

from digsigd import Error


class AhabError(Error):
    """Base of all errors of this package; `what` says what is wrong, with the numbers."""


class FormatError(AhabError):
    """Bytes that are not in the expected format. `offset` is the place, in bytes from the start of what was read."""

    def __init__(self, what: str, offset: int | None = None, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.offset = offset

    def summary(self) -> str:
        """Return what is wrong, followed by the offset."""
        return self.what if self.offset is None else f"{self.what} (at offset {self.offset:#x})"


class VerificationError(AhabError):
    """A container that a board would refuse. `check` is the short name of the check that failed."""

    def __init__(self, check: str, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.check = check

    def summary(self) -> str:
        """Return the name of the check, and what is wrong."""
        return f"{self.check}: {self.what}"


class NotConfirmed(AhabError):
    """A value of a chip that is not confirmed."""
