"""When a request is worth another try, and how long a client waits for what."""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.client._internal.errors import ClientError
from digsigd.http.retry import PASSING, Again

# Of digsigd's kinds of 500 (docs/api.md) those that may pass. The others are there until an operator has acted.
PASSING_PROBLEMS = frozenset({"cst-failed", "internal-error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a client waits for what, in seconds. People set none of it but the `timeout` of a whole call.

    `connect` is for a connection, `idle` for an upload in a full line or an answer that stands still. `first_pause` is
    before the second try, twice as much before each further one, up to `longest_pause`. A server that wants to be left
    alone is, for up to `longest_wish`.
    """

    connect: float = 10.0
    idle: float = 60.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    longest_wish: float = 600.0


def passes(error: ClientError) -> bool:
    """Return whether what an answer says may be over soon."""
    return error.status in PASSING or (error.status == 500 and error.problem in PASSING_PROBLEMS)


def counted(again: Again[ClientError]) -> ClientError:
    """Return the error of the last try, which says how many there were."""
    error = again.error
    if again.tries > 1 or again.pause is not None:
        more = "" if again.pause is None else f"; it would be {again.pause:.0f} s until the next"
        error.what += f" ({again.tries} {'try' if again.tries == 1 else 'tries'}{more})"
    return error
