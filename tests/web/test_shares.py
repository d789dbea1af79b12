"""What one caller may take, with a clock that tests turn."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from digsigd.errors import Busy, RateLimited
from digsigd.signing.host import OwnCounts
from digsigd.web.shares import Shares


def shares(callers: int = 2, **more: Any) -> tuple[Clock, Shares]:
    clock = Clock()
    rates = dict.fromkeys("ab"[:callers])
    made: dict[str, Any] = {"share": 0.5, "max_at_once": 5, "rates": rates, "rate": None, **more}
    return clock, Shares(clock=clock, **made)


def test_a_caller_has_half_of_the_uploads() -> None:
    """Rounded up; another has its own; what ends makes room."""
    _, made = shares()
    for _ in range(3):
        made.enter("a")
    with pytest.raises(Busy, match="too many requests of caller 'a'"):
        made.enter("a")
    made.enter("b")
    made.leave("a")
    made.enter("a")


@pytest.mark.parametrize(("callers", "party"), [(1, "a"), (0, "127.0.0.1"), (0, "::1"), (0, "a local socket")])
def test_who_is_alone_or_cannot_be_told_apart_has_everything(callers: int, party: str) -> None:
    """A host's only caller, and anonymous clients of this host."""
    _, made = shares(callers)
    for _ in range(20):
        made.enter(party)


def test_anonymous_callers_are_told_apart_by_their_addresses() -> None:
    """With callers, by their names, wherever they come from."""
    assert shares(0)[1].party("anonymous", "192.0.2.1") == "192.0.2.1"
    assert shares(2)[1].party("a", "192.0.2.1") == "a"
    _, made = shares(0)
    for _ in range(3):
        made.enter("192.0.2.1")
    with pytest.raises(Busy, match=r"address 192\.0\.2\.1"):
        made.enter("192.0.2.1")


def test_a_rate_is_requests_per_minute() -> None:
    """As many at once, then one after the other; the error says when to come again."""
    clock, made = shares(rates={"a": 3, "b": None}, rate=600)
    for _ in range(3):
        made.enter("a")
        made.leave("a")
    with pytest.raises(RateLimited, match="3 requests per minute") as caught:
        made.enter("a")
    assert caught.value.retry_after == 20
    made.enter("b")
    clock.advance(20)
    made.enter("a")
    with pytest.raises(RateLimited):
        made.enter("a")
    # What is not used is not saved up.
    clock.advance(3600)
    for _ in range(3):
        made.ask("a")
    with pytest.raises(RateLimited):
        made.ask("a")


def test_a_reload_replaces_callers_and_rates() -> None:
    """A rate, a second caller, who makes the first share, and none any more; what is active still counts."""
    _, made = shares(1)
    for _ in range(4):
        made.enter("a")
    made.reload({"a": None, "b": 1})
    made.enter("b")
    with pytest.raises(RateLimited):
        made.enter("b")
    with pytest.raises(Busy, match="caller 'a'"):
        made.enter("a")
    made.reload({})
    assert made.party("anonymous", "192.0.2.1") == "192.0.2.1"


def test_questions_count_for_the_rate_alone() -> None:
    """They are no uploads, and take no place of one."""
    _, made = shares(rates={"a": 4, "b": None})
    for _ in range(4):
        made.ask("a")
    with pytest.raises(RateLimited):
        made.enter("a")
    for _ in range(9):
        made.ask("b")
    for _ in range(3):
        made.enter("b")


def test_rates_of_many_addresses_are_forgotten() -> None:
    """A scan from everywhere takes no memory for good."""
    counts = OwnCounts()
    clock, made = shares(0, rate=1, counts=counts)
    for number in range(1025):
        made.enter(f"192.0.2.{number}")
    clock.advance(60)
    made.enter("198.51.100.1")
    assert counts.rate("192.0.2.1") is None
    assert counts.rate("198.51.100.1") is not None
