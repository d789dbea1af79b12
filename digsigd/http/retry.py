"""Asking again: how often, after how long, and until when."""

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
# Statuses that may be another a moment later: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
PASSING = frozenset({408, 429, 502, 503, 504})


class Again(Exception, Generic[E]):
    """A try that failed with `error` in a way that another may not, which should not be sooner than in `after` seconds.

    `with_tries` adds how many `tries` there were, and `pause`: how many seconds there are until the next, or would be
    if there was the time for it. That is None where no more tries were left.
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
    """Return what `attempt` gives, which is called with the number of the try, from 1.

    Where it raises `Again`, it is tried again: `on_retry` is told before the pause. The first pause is `first_pause`
    seconds, each further one twice as long up to `longest_pause`, all spread by half to both sides. Raises the last
    try's `Again` after `tries` of them, or where the pause would last until `end`, in seconds of the clock.
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
    """Return for how many seconds a server wants to be left alone, 0 where it says nothing: RFC 9110, 10.2.3.

    A date is compared with the server's own, where it tells that. No more than `longest` is heard.
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
