"""Why a signing host did not do what it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digsigd import Error

if TYPE_CHECKING:
    from digsigd.image.report import Report


class ClientError(Error):
    """A call that failed: `what` happened, and what to do next (`hint`), both for people, neither with a secret.

    `status` is that of the answer, where there was one, `request_id` what the host's log calls the request, and
    `problem` the stable name of the kind of error (docs/api.md) where the host tells one. Text of a server has no
    control characters in it.
    """

    def __init__(
        self,
        what: str,
        *,
        hint: str = "",
        status: int | None = None,
        request_id: str | None = None,
        problem: str | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.status = status
        self.request_id = request_id
        self.problem = problem

    def summary(self) -> str:
        """Return what happened, and the request that it is in the host's log."""
        return f"{self.what} (request {self.request_id})" if self.request_id else self.what

    def __str__(self) -> str:
        told = f"{self.what} [request {self.request_id}]" if self.request_id else self.what
        return f"{told}: {self.hint}" if self.hint else told


class ServerUnreachable(ClientError):
    """No whole answer came: no such host, no connection, TLS that failed, or a connection that broke or stood still."""


class ServerRefused(ClientError):
    """The host says that the request is wrong, or not allowed: a status of 4xx."""


class ServerFailed(ClientError):
    """The host failed, or is busy: a status of 5xx."""


class ClientSettingsError(ClientError):
    """A mistake in the configuration. `what` names the file, variable or option, and what was expected."""


class VerificationFailed(ClientError):
    """What the host signed does not hold, so it was not written. `report` has every check of it."""

    def __init__(self, what: str, *, hint: str = "", report: Report) -> None:
        super().__init__(what, hint=hint)
        self.report = report
