"""The errors that end a signing request. Each has a text for the client and details for the operator only.

They do not depend on HTTP: `digsigd.web.answers` gives each class its status. The pure packages `digsigd.csf` and
`digsigd.hab` have separate errors, which `digsigd.signing` turns into these.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from digsigd import Error

# How many causes of an error are looked at.
_DEEPEST = 20


class DigsigError(Error):
    """An error that ends a signing request. Raised directly, it is an internal error of the signing host.

    `what` says what happened and `hint` what to do next. Both are sent to the client, so they hold no secret, no path
    of the host and no address of the key store. `detail` is only for the operator's log. It holds no secret either, but
    may name paths and addresses. `problem` is a short, stable name of the kind of error.
    """

    problem: ClassVar[str] = "internal-error"

    def __init__(self, what: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint)
        self.detail = detail
        # The id of the entry in the record, once the decision is recorded.
        self.record = ""

    def for_client(self) -> str:
        """Return what happened and what to do next, in one line."""
        return f"{self.what}: {self.hint}" if self.hint else self.what

    def for_operator(self) -> str:
        """Return what happened, the detail and the hint in one line, for logs and terminals of this host."""
        return " | ".join(part for part in (self.what, self.detail, self.hint) if part)

    def __str__(self) -> str:
        return self.for_operator()


class BadRequest(DigsigError):
    """A field is missing or malformed, the body is not a form, or the CSF description does not parse."""

    problem = "bad-request"


class NotAuthenticated(DigsigError):
    """Credentials are missing, malformed or wrong."""

    problem = "not-authenticated"


class NotAllowed(DigsigError):
    """The caller is authenticated, but may not use this machine's keys or this backend."""

    problem = "not-allowed"


class NoKeys(DigsigError):
    """The key store has no tarball for this machine."""

    problem = "no-keys"


class TooLarge(DigsigError):
    """The request, or a part of it, is larger than this daemon accepts."""

    problem = "too-large"


class UnsupportedCoding(DigsigError):
    """The body is compressed."""

    problem = "unsupported-coding"


class Refused(DigsigError):
    """The CSF description is refused by policy or by cst, or names something that does not exist.

    `line` is the line of the client's CSF description, from 1; None if the error does not belong to a line.
    """

    problem = "refused"

    def __init__(self, what: str, *, line: int | None = None, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.line = line


class Busy(DigsigError):
    """There are too many requests, or the daemon is shutting down. `retry_after` is in seconds."""

    problem = "busy"

    def __init__(self, what: str, *, retry_after: int = 5, hint: str = "", detail: str = "") -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.retry_after = retry_after


class RateLimited(Busy):
    """The caller has sent more requests than its rate allows."""

    problem = "rate-limited"


class NoSpace(Busy):
    """The work directory is full. It has room again when other requests have ended, or the operator has made some."""

    problem = "no-space"

    def __init__(self, *, detail: str = "") -> None:
        super().__init__(
            "this signing host has no disk space left for the request",
            retry_after=30,
            hint="try again later",
            detail=detail,
        )


class KeyStoreFailed(DigsigError):
    """The key store cannot be reached, refused the request, or sent an invalid response."""

    problem = "key-store-failed"


class KeyStoreTimeout(DigsigError):
    """The key store did not answer in time."""

    problem = "key-store-timeout"


class BadTarball(DigsigError):
    """The machine's key tarball is not a tarball, is unsafe, is incomplete, or is not the pinned one."""

    problem = "bad-key-tarball"


class CstFailed(DigsigError):
    """cst crashed, could not be started, or wrote no usable output: a fault of this host."""

    problem = "cst-failed"


class CstTimeout(DigsigError):
    """cst exceeded its time limit and was killed."""

    problem = "cst-timeout"


class VerificationFailed(DigsigError):
    """The boot ROM would not accept cst's result, so it was not sent."""

    problem = "verification-failed"


class UploadTimeout(DigsigError):
    """The client stopped sending, or took too long."""

    problem = "upload-timeout"


class TokenFailed(DigsigError):
    """A token cannot be used: its PIN is refused, or its module cannot be loaded."""

    problem = "token-failed"


def out_of_descriptors(error: BaseException | None) -> Busy | None:
    """Return the error to answer with if the cause of `error` is that no file descriptor was left, else None.

    That passes when other requests have ended.
    """
    for _ in range(_DEEPEST):
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            return Busy("this signing host has too many files open", hint="try again later", detail=str(error))
        if error is None:
            break
        error = error.__cause__ or error.__context__
    return None


def shutting_down() -> Busy:
    """Build the error for requests that arrive, or are cancelled, while this host stops."""
    return Busy("this signing host is shutting down")
