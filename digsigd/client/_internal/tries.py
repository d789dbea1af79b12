"""Asking again: when that makes sense, how often, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.task import deferLater
from twisted.web.http import stringToDatetime

from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.responses import Answer

T = TypeVar("T")
# Statuses that may be another a moment later: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
_PASSING = frozenset({408, 429, 502, 503, 504})
# Of digsigd's kinds of 500 (docs/api.md) those that may. The others are there until an operator has acted.
_PASSING_PROBLEMS = frozenset({"cst-failed", "internal-error"})
# In seconds: before the second try, doubled before each further one, and spread by half to both sides.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
# A server is waited for no longer than this, whatever it asks for.
_LONGEST_WISH = 600.0


class Again(Exception):
    """A try that failed in a way that another may not, not before `after` seconds if the server says so."""

    def __init__(self, error: ClientError, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


def passes(error: ClientError) -> bool:
    """Whether what an answer says may be over soon."""
    return error.status in _PASSING or (error.status == 500 and error.problem in _PASSING_PROBLEMS)


def wish_of(answer: Answer) -> float:
    """How many seconds a server wants to be left alone for: `Retry-After`, RFC 9110, 10.2.3. 0 where it says nothing.

    A date is compared with the server's own, where it tells that.
    """
    text = answer.header("retry-after").strip()
    seconds = 0.0
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    elif text:
        try:
            then = stringToDatetime(text.encode())
            date = answer.header("date")
            seconds = then - (stringToDatetime(date.encode()) if date else time.time())
        except (ValueError, IndexError, KeyError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WISH)


async def with_tries(
    attempt: Callable[[int], Awaitable[T]],
    *,
    retries: int,
    timeout: float,
    reactor: Any,
    on_retry: Callable[[str], None] | None,
) -> T:
    """What an attempt gives, which is told its number from 1. The last one's error where all raise `Again`.

    No pause is begun that would end after `timeout` seconds from now.
    """
    end = reactor.seconds() + timeout
    number = 0
    while True:
        number += 1
        try:
            return await attempt(number)
        except Again as again:
            pause = min(_FIRST_PAUSE * 2 ** min(number - 1, 16), _LONGEST_PAUSE)
            pause = max(pause * random.uniform(0.5, 1.5), again.after)  # noqa: S311 - no secret
            if number > retries:
                raise _counted(again.error, number) from None
            if reactor.seconds() + pause >= end:
                raise _counted(again.error, number, f"; it would be {pause:.0f} s until the next") from None
            if on_retry is not None:
                on_retry(f"{again.error.what}; next try in {pause:.0f} s ({number} of {retries})")
        await deferLater(reactor, pause)


def _counted(error: ClientError, tries: int, more: str = "") -> ClientError:
    if tries > 1 or more:
        error.what += f" ({tries} {'try' if tries == 1 else 'tries'}{more})"
    return error
