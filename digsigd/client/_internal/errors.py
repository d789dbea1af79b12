"""The errors of a client of a signing host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digsigd import Error

if TYPE_CHECKING:
    from digsigd.image.ahab_report import AhabReport
    from digsigd.image.report import Report


class ClientError(Error):
    """A call failed: `what` happened, and what to do about it (`hint`). Neither contains a secret.

    `status` is the HTTP status of the response, `request_id` the request's ID in the host's log, and `problem` the
    stable name of the kind of error (docs/api.md); each is None if there is none. Text from a server is stripped of
    control characters.
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
        """Return what happened, with the ID of the request."""
        return f"{self.what} (request {self.request_id})" if self.request_id else self.what

    def __str__(self) -> str:
        text = f"{self.what} [request {self.request_id}]" if self.request_id else self.what
        return f"{text}: {self.hint}" if self.hint else text


class ServerUnreachable(ClientError):
    """No complete response arrived: unknown host, no connection, a TLS error, or a connection that broke or stalled."""


class ServerRefused(ClientError):
    """The host refused the request as wrong or not allowed: status 4xx."""


class ServerFailed(ClientError):
    """The host failed or is busy: status 5xx."""


class ClientSettingsError(ClientError):
    """The configuration is wrong. `what` names the file, variable or option, and what is expected there."""


class VerificationFailed(ClientError):
    """The signed image fails verification, so it was not written. `report` has every check of it."""

    def __init__(self, what: str, *, hint: str = "", report: Report) -> None:
        super().__init__(what, hint=hint)
        self.report = report


class AhabVerificationFailed(ClientError):
    """The same of a file with AHAB containers."""

    def __init__(self, what: str, *, hint: str = "", report: AhabReport) -> None:
        super().__init__(what, hint=hint)
        self.report = report
