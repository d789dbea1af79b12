"""The errors that end a signing request, each with what a client may read and what only the operator may.

No module here knows HTTP: `digsigd.web.answers` gives each class its status. The pure packages `digsigd.csf` and
`digsigd.hab` have errors of their own, which `digsigd.signing` turns into these.
"""

from __future__ import annotations

from typing import ClassVar

from digsigd import Error


class DigsigError(Error):
    """A request that cannot be answered with a signature.

    `what` says what happened and `hint` what to do next: both are read by the client, so they hold no secret, no
    path of the host and no address of the key store. `detail` is for the operator's log alone. It holds no secret
    either, but may name paths and addresses. `problem` is a short, stable name of the kind of error.
    """

    problem: ClassVar[str] = "internal-error"

    def __init__(self, what: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint)
        self.detail = detail

    def for_client(self) -> str:
        """What happened and what to do next, in one line."""
        return f"{self.what}: {self.hint}" if self.hint else self.what

    def for_operator(self) -> str:
        """Return all that is known of it in one line, for logs and terminals of this host."""
        return " | ".join(part for part in (self.what, self.detail, self.hint) if part)

    def __str__(self) -> str:
        return self.for_operator()


class BadRequest(DigsigError):
    """A field is missing or malformed, the body is no form, or the CSF description does not parse."""

    problem = "bad-request"


class NotAuthenticated(DigsigError):
    """Nobody said who is calling, or what they said is wrong."""

    problem = "not-authenticated"


class NotAllowed(DigsigError):
    """The caller is known, and may not use this machine's keys or this backend."""

    problem = "not-allowed"


class NoKeys(DigsigError):
    """The key store has no tarball for this machine."""

    problem = "no-keys"


class TooLarge(DigsigError):
    """A part of the request, or all of it, is larger than this daemon takes."""

    problem = "too-large"


class Refused(DigsigError):
    """The CSF description is refused by policy, names what is not there, or cst refused it.

    `line` is the line of the client's CSF description that it is about, from 1; None where it is about no line.
    """

    problem = "refused"

    def __init__(self, what: str, *, line: int | None = None, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.line = line


class Busy(DigsigError):
    """As many requests as allowed are being signed and waiting. `retry_after` is in seconds."""

    problem = "busy"

    def __init__(self, what: str, *, retry_after: int = 5, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.retry_after = retry_after


class KeyStoreFailed(DigsigError):
    """The key store cannot be reached, refused us, or sent nonsense."""

    problem = "key-store-failed"


class KeyStoreTimeout(DigsigError):
    """The key store ran out of time."""

    problem = "key-store-timeout"


class BadTarball(DigsigError):
    """The machine's key tarball is no tarball, is hostile, lacks what it must hold, or is not the pinned one."""

    problem = "bad-key-tarball"


class CstFailed(DigsigError):
    """cst crashed, could not be started, or wrote no usable output: the fault is this host's."""

    problem = "cst-failed"


class CstTimeout(DigsigError):
    """cst ran out of time and was killed."""

    problem = "cst-timeout"


class VerificationFailed(DigsigError):
    """cst's result is not what the boot ROM would accept, so it was not sent."""

    problem = "verification-failed"


class UploadTimeout(DigsigError):
    """The client stopped sending, or took too long."""

    problem = "upload-timeout"


class TokenFailed(DigsigError):
    """A token cannot be used: its PIN is not taken, or its module cannot be loaded."""

    problem = "token-failed"


def shutting_down() -> Busy:
    """What is said to whoever comes, or is still here, when this host stops."""
    return Busy("this signing host is shutting down")
