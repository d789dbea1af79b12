"""Retries: how many, with which pauses, and until when."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.http import stringToDatetime
from twisted.web.http_headers import Headers

T = TypeVar("T")
E = TypeVar("E", bound=Exception)
# Statuses of temporary failures: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
PASSING = frozenset({408, 429, 502, 503, 504})


class Again(Exception, Generic[E]):
    """A try failed with `error`, and another try, not sooner than in `after` seconds, can succeed.

    `with_tries` sets `tries`, the number of tries so far, and `pause`, the seconds until the next try: also if that
    would be too late. `pause` is None if no tries were left.
    """

    def __init__(self, error: E, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        self.tries = 0
        self.pause: float | None = None


async def with_tries(
    attempt: Callable[[int], Awaitable[T]],
    *,
    tries: int,
    first_pause: float,
    longest_pause: float = math.inf,
    clock: IReactorTime,
    on_retry: Callable[[Again[Any]], object],
    end: float = math.inf,
) -> T:
    """Call `attempt` with the number of the try, from 1, and return its result. Retry when it raises `Again`.

    `on_retry` is called before each pause. The first pause is `first_pause` seconds, each further pause twice as long
    up to `longest_pause`, all varied at random by up to half. Raises the last try's `Again` after `tries` tries, or if
    the pause would last until `end`, in seconds of the clock.
    """
    for number in count(1):
        try:
            return await attempt(number)
        except Again as again:
            again.tries = number
            if number >= tries:
                raise
            pause = min(first_pause * 2.0 ** min(number - 1, 16), longest_pause)
            pause = again.pause = max(pause * random.uniform(0.5, 1.5), again.after)  # noqa: S311 - no secret
            if clock.seconds() + pause >= end:
                raise
            on_retry(again)
        await deferLater(clock, pause)
    raise AssertionError("count() has no end")


def retry_after(headers: Headers, *, longest: float) -> float:
    """Return the delay in seconds that a Retry-After header asks for, 0 without one: RFC 9110, 10.2.3.

    A date is compared with the answer's Date header if there is one. The result is at most `longest`.
    """
    text = _only(headers, "retry-after")
    seconds = 0.0
    if text.isdigit():
        seconds = float(text)
    elif text:
        try:
            then = stringToDatetime(text)
            date = _only(headers, "date")
            seconds = then - (stringToDatetime(date) if date else time.time())
        except (ValueError, IndexError, KeyError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), longest)


def _only(headers: Headers, name: str) -> bytes:
    return headers.getRawHeaders(name.encode(), [b""])[0].strip()
