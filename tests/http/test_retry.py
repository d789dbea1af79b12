"""Trying again, on a clock: how often, after how long, until when, and what servers want."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from digsigd.http.retry import Again, retry_after, with_tries


class Tries:
    """What `with_tries` makes of attempts that raise these errors one after the other, and then succeed."""

    def __init__(self, *errors: Exception, tries: int = 3, **more: Any) -> None:
        self.clock = Clock()
        self.numbers: list[int] = []
        self.at: list[float] = []
        self.told: list[tuple[str, int, float | None]] = []
        self.errors = errors
        pauses: dict[str, Any] = {"first_pause": 2.0, "longest_pause": 10.0, **more}
        trying = with_tries(self._attempt, tries=tries, clock=self.clock, on_retry=self._tell, **pauses)
        self.waiting = Deferred.fromCoroutine(trying)
        self.results: list[Any] = []
        self.waiting.addCallbacks(self.results.append, lambda failure: self.results.append(failure.value))

    async def _attempt(self, number: int) -> str:
        self.numbers.append(number)
        self.at.append(self.clock.seconds())
        if number <= len(self.errors):
            raise self.errors[number - 1]
        return "done"

    def _tell(self, again: Again[Any]) -> None:
        self.told.append((str(again), again.tries, again.pause))

    def run(self) -> Any:
        for _ in range(100_000):
            if self.results:
                return self.results[0]
            self.clock.advance(0.01)
        raise AssertionError("it does not end")


def test_one_that_succeeds_is_enough() -> None:
    """At once."""
    tries = Tries()
    assert tries.results == ["done"]
    assert tries.numbers == [1]


def test_what_may_pass_is_tried_again_after_a_pause() -> None:
    """Twice as long each time, spread by half; it is told before."""
    tries = Tries(*[Again(ValueError("why"))] * 4, tries=5)
    assert tries.run() == "done"
    assert tries.numbers == [1, 2, 3, 4, 5]
    pauses = [after - before for before, after in zip(tries.at, tries.at[1:], strict=False)]
    for pause, middle in zip(pauses, (2, 4, 8, 10), strict=True):
        assert middle * 0.5 <= pause <= middle * 1.5 + 0.02
    assert [told[:2] for told in tries.told] == [("why", number) for number in (1, 2, 3, 4)]


def test_the_last_ones_error_counts() -> None:
    """With how many there were."""
    tries = Tries(*[Again(ValueError(str(number))) for number in range(3)])
    again = tries.run()
    assert (str(again.error), again.tries, again.pause) == ("2", 3, None)
    assert len(tries.told) == 2


def test_any_other_error_is_the_end() -> None:
    """And no try."""
    tries = Tries(Again(ValueError()), KeyError("mine"))
    assert str(tries.run()) == "'mine'"
    assert tries.numbers == [1, 2]


def test_a_wish_makes_a_pause_longer_and_never_shorter() -> None:
    """In seconds."""
    tries = Tries(Again(ValueError(), 100), Again(ValueError(), 0.1))
    assert tries.run() == "done"
    assert 100 <= tries.at[1] <= 100.02
    assert tries.at[2] - tries.at[1] >= 2


def test_no_pause_is_begun_that_would_end_too_late() -> None:
    """It says how long it would have been."""
    tries = Tries(Again(ValueError("why"), 50), end=50)
    assert (tries.results[0].tries, tries.results[0].pause) == (1, 50)
    assert tries.told == []
    assert Tries(Again(ValueError("why"), 50), end=50.1).run() == "done"


def test_a_pause_can_be_cancelled() -> None:
    """Then there is no other try, and nothing is to happen later."""
    tries = Tries(Again(ValueError("why")))
    tries.waiting.cancel()
    assert isinstance(tries.results[0], CancelledError)
    assert tries.clock.getDelayedCalls() == []
    assert tries.numbers == [1]


def test_pauses_stay_bounded_however_many_there_are() -> None:
    """No power of two overflows, and there need be none."""
    tries = Tries(*[Again(ValueError())] * 2000, tries=3000, first_pause=0.01, longest_pause=0.02)
    assert tries.run() == "done"
    assert tries.at[-1] < 2000 * 0.05
    assert Tries(Again(ValueError()), first_pause=0.0).run() == "done"


NOW = formatdate(1_000_000, usegmt=True)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "700"}, 600),
        ({"retry-after": "9" * 400}, 600),
        ({"retry-after": formatdate(1_000_007, usegmt=True), "date": NOW}, 7),
        ({"retry-after": formatdate(999_999, usegmt=True), "date": NOW}, 0),
        ({"retry-after": formatdate(1_000_007, usegmt=True), "date": "today"}, 0),
        ({"retry-after": formatdate(time.time() + 86400, usegmt=True)}, 600),
        ({"retry-after": formatdate(time.time() - 86400, usegmt=True)}, 0),
        *[({"retry-after": text}, 0) for text in ("0", "-1", "soon", "1e3", "²", "", "\xff" * 500, "Xyz, 99 Foo 2020")],
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(fields: dict[str, str], seconds: float) -> None:
    """In seconds or until a date by its own clock; no longer than the bound, and not at all where it is neither."""
    headers = Headers({name: [value] for name, value in fields.items()})
    assert retry_after(headers, longest=600) == seconds
