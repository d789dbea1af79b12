"""When a request is tried again, and the timeouts of a client."""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.client._internal.errors import ClientError
from digsigd.http.retry import PASSING, Again

# digsigd's kinds of 500 (docs/api.md) that can be temporary. The others last until an operator has acted.
PASSING_PROBLEMS = frozenset({"cst-failed", "internal-error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The timeouts of a client, in seconds. They are fixed for users, who set the `timeout` of a whole call.

    `connect` limits a connection attempt, `idle` the time in which no byte of an upload or a response moves.
    `first_pause` is the pause before the second try; it doubles with each further try, up to `longest_pause`.
    `longest_wish` limits the pause that a server can ask for (Retry-After).
    """

    connect: float = 10.0
    idle: float = 60.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    longest_wish: float = 600.0


def passes(error: ClientError) -> bool:
    """Return whether an error can be temporary."""
    return error.status in PASSING or (error.status == 500 and error.problem in PASSING_PROBLEMS)


def counted(again: Again[ClientError]) -> ClientError:
    """Return the error of the last try, with the number of tries in its text."""
    error = again.error
    if again.tries > 1 or again.pause is not None:
        more = "" if again.pause is None else f"; the next would be in {again.pause:.0f} s"
        error.what += f" ({again.tries} {'try' if again.tries == 1 else 'tries'}{more})"
    return error
