"""Waiting: how long, and what is heard of what was given up."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.task import Clock

from digsigd.http.deadline import IdleTimer, Waiting, within


def heard(waiting: Deferred[Any]) -> list[Any]:
    """What comes of it, errors as such."""
    results: list[Any] = []
    waiting.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


def test_a_timer_runs_out_once_nothing_goes_on() -> None:
    """Each sign of life gives it as long again; stopped, it does nothing."""
    clock = Clock()
    late: list[float] = []
    timer = IdleTimer(clock, 10, lambda: late.append(clock.seconds()))
    clock.advance(9)
    timer.went_on()
    clock.advance(9)
    assert late == []
    clock.advance(1)
    assert late == [19.0]
    timer.went_on()
    timer.stop()
    stopped = IdleTimer(clock, 10, lambda: late.append(clock.seconds()))
    stopped.stop()
    stopped.stop()
    stopped.went_on()
    clock.advance(100)
    assert late == [19.0]


def test_what_is_waited_for_is_handed_on() -> None:
    """A result or an error, before the waiting begins or after."""
    for early in (True, False):
        for result in (1, ValueError("why")):
            inner: Deferred[Any] = Deferred()
            give: Any = inner.errback if isinstance(result, Exception) else inner.callback
            if early:
                give(result)
            results = heard(Waiting(inner, lambda: None))
            if not early:
                give(result)
            assert results == [result]


@pytest.mark.parametrize("stopping", ["fails", "succeeds", "ends later", "never ends"])
def test_what_is_given_up_is_not_heard_of(stopping: str) -> None:
    """Whatever it makes of being stopped."""
    inner: Deferred[Any] = Deferred()
    stops: list[str] = []

    def stop() -> None:
        stops.append("stopped")
        if stopping == "fails":
            inner.errback(ValueError())
        elif stopping == "succeeds":
            inner.callback(1)

    waiting: Waiting[Any] = Waiting(inner, stop)
    results = heard(waiting)
    waiting.give_up(KeyError("mine"))
    assert [str(result) for result in results] == ["'mine'"]
    if stopping == "ends later":
        inner.errback(ValueError())
    waiting.give_up(KeyError("again"))
    waiting.cancel()
    assert len(results) == len(stops) == 1


def test_what_stops_is_over_before_anybody_hears() -> None:
    """Nothing of it is open any more."""
    order: list[str] = []
    waiting: Waiting[Any] = Waiting(Deferred(), lambda: order.append("stopped"))
    results = heard(waiting)
    waiting.addCallback(lambda _: order.append("heard"))
    waiting.cancel()
    assert order == ["stopped", "heard"]
    assert isinstance(results[0], CancelledError)


def test_a_time_bounds_it() -> None:
    """Also where it does not end with being cancelled; and cancelling is told from being late."""
    clock = Clock()
    for inner in (Deferred[Any](), Deferred[Any](lambda _: None), Deferred[Any](lambda one: one.callback(1))):
        results = heard(within(5, inner, clock))
        clock.advance(4.9)
        assert results == []
        clock.advance(0.2)
        assert isinstance(results[0], LateError)
    waiting: Deferred[int] = within(5, Deferred(), clock)
    results = heard(waiting)
    waiting.cancel()
    assert isinstance(results[0], CancelledError)
    assert clock.getDelayedCalls() == []


def test_what_ends_in_time_is_given() -> None:
    """And nothing is to happen later."""
    clock = Clock()
    inner: Deferred[int] = Deferred()
    results = heard(within(5, inner, clock))
    inner.callback(1)
    assert results == [1]
    assert clock.getDelayedCalls() == []
