"""Those who ask for metrics at the same time get one text."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from digsigd.web.scrape import SharedScrape


class Source:
    """Makes texts when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[tuple[bytes, str]]]] = []

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        answer: Deferred[tuple[bytes, str]] = Deferred()
        self.asked.append((accept, answer))
        return await answer


def ask(scrape: SharedScrape, accept: str = "") -> Deferred[Any]:
    return Deferred.fromCoroutine(scrape(accept))


def test_one_text_is_made_for_all_that_wait() -> None:
    """For each form one, whatever else the Accept header has; the next who asks gets a new one."""
    source = Source()
    scrape = SharedScrape(source)
    waiting = [ask(scrape), ask(scrape, "text/html;q=0.5"), ask(scrape, "application/openmetrics-text; version=1.0.0")]
    assert [accept.partition(";")[0] for accept, _ in source.asked] == ["", "application/openmetrics-text"]
    source.asked[0][1].callback((b"a", "text/plain"))
    assert [one.result for one in waiting[:2]] == [(b"a", "text/plain")] * 2
    assert not waiting[2].called
    ask(scrape)
    assert len(source.asked) == 3


def test_a_failure_is_everybodys() -> None:
    """And the next one tries again."""
    source = Source()
    scrape = SharedScrape(source)
    waiting = [ask(scrape), ask(scrape)]
    source.asked[0][1].errback(RuntimeError("no thread"))
    for one in waiting:
        failure: Any = one.result
        one.addErrback(lambda _: None)
        with pytest.raises(RuntimeError, match="no thread"):
            failure.raiseException()
    ask(scrape)
    assert len(source.asked) == 2


def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    """The text is made for those who stay."""
    source = Source()
    scrape = SharedScrape(source)
    gone, stays = ask(scrape), ask(scrape)
    gone.addErrback(lambda _: None)
    gone.cancel()
    source.asked[0][1].callback((b"a", "text/plain"))
    assert stays.result == (b"a", "text/plain")
