"""The errors of the record."""

from __future__ import annotations

from digsigd import Error


class RecordError(Error):
    """The record cannot be read or written, or something in it is malformed."""


class RecordUnavailable(RecordError):
    """The record's database cannot be used now; the same call can succeed later.

    `unsure` means that the entries may have been written nevertheless.
    """

    unsure = False


class ProofError(RecordError):
    """A proof, a signature or a checkpoint does not match."""
