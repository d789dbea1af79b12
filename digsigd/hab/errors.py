"""The errors of `digsigd.hab`."""

from __future__ import annotations


class HabError(Exception):
    """Base of all errors of this package; the text says what does not hold, with the numbers.

    `command` is the number, from 0, of the command of a CSF at which that showed, where there is one.
    """

    command: int | None = None


class FormatError(HabError):
    """Bytes that are not in the format they should be in. `offset` is where, in bytes from the start."""

    def __init__(self, what: str, offset: int | None = None) -> None:
        super().__init__(what if offset is None else f"{what} (at offset {offset:#x})")
        self.offset = offset


class VerificationError(HabError):
    """What the boot ROM would refuse. `check` is the short name of the check that did not hold."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check
