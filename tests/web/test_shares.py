"""What one caller may take, with a clock that tests turn."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from digsigd.errors import Busy, NoSpace, RateLimited
from digsigd.signing.host import OwnCounts
from digsigd.web.shares import Shares


def shares(folder: Path, callers: int = 2, **more: Any) -> tuple[Clock, Shares]:
    clock = Clock()
    rates = dict.fromkeys("ab"[:callers])
    made: dict[str, Any] = {
        "share": 0.5, "max_at_once": 5, "rates": rates, "rate": None, "folder": lambda: folder, **more,
    }  # fmt: skip
    return clock, Shares(clock=clock, **made)


def test_a_caller_has_half_of_the_uploads(tmp_path: Path) -> None:
    """Rounded up; another has its own; what ends makes room."""
    _, made = shares(tmp_path)
    for _ in range(3):
        made.enter("a")
    with pytest.raises(Busy, match="too many requests of caller 'a'"):
        made.enter("a")
    made.enter("b")
    made.leave("a", 0)
    made.enter("a")


@pytest.mark.parametrize(("callers", "party"), [(1, "a"), (0, "127.0.0.1"), (0, "::1"), (0, "a local socket")])
def test_who_is_alone_or_cannot_be_told_apart_has_everything(tmp_path: Path, callers: int, party: str) -> None:
    """A host's only caller, and anonymous clients of this host."""
    _, made = shares(tmp_path, callers)
    for _ in range(20):
        made.enter(party)
        made.store(party, 0, 1 << 60)


def test_anonymous_callers_are_told_apart_by_their_addresses(tmp_path: Path) -> None:
    """With callers, by their names, wherever they come from."""
    assert shares(tmp_path, 0)[1].party("anonymous", "192.0.2.1") == "192.0.2.1"
    assert shares(tmp_path, 2)[1].party("a", "192.0.2.1") == "a"
    _, made = shares(tmp_path, 0)
    for _ in range(3):
        made.enter("192.0.2.1")
    with pytest.raises(Busy, match=r"address 192\.0\.2\.1"):
        made.enter("192.0.2.1")


def test_a_caller_has_half_of_the_space(tmp_path: Path) -> None:
    """Of what is free and what all uploads have; checked at each MiB."""
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize
    _, made = shares(tmp_path)
    made.store("a", 0, free // 4)
    with pytest.raises(NoSpace):
        made.store("a", free // 4, free)
    made.store("b", 0, 2 << 20)
    made.leave("a", free // 4 + free)
    made.store("a", 0, 2 << 20)


def test_what_uploads_have_counts_as_space_that_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what was free before they came, not of what is left."""
    _, made = shares(tmp_path)
    for stored in range(5):
        # Of 8 MiB that were free.
        room = SimpleNamespace(f_bavail=7 - stored, f_frsize=1 << 20)
        monkeypatch.setattr("os.statvfs", lambda _, room=room: room)
        with pytest.raises(NoSpace) if stored == 4 else nullcontext():
            made.store("a", stored << 20, 1 << 20)


def test_a_rate_is_requests_per_minute(tmp_path: Path) -> None:
    """As many at once, then one after the other; the error says when to come again."""
    clock, made = shares(tmp_path, rates={"a": 3, "b": None}, rate=600)
    for _ in range(3):
        made.enter("a")
        made.leave("a", 0)
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


def test_a_reload_replaces_callers_and_rates(tmp_path: Path) -> None:
    """A rate, a second caller, who makes the first share, and none any more; what is active still counts."""
    _, made = shares(tmp_path, 1)
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


def test_questions_count_for_the_rate_alone(tmp_path: Path) -> None:
    """They are no uploads, and take no place of one."""
    _, made = shares(tmp_path, rates={"a": 4, "b": None})
    for _ in range(4):
        made.ask("a")
    with pytest.raises(RateLimited):
        made.enter("a")
    for _ in range(9):
        made.ask("b")
    for _ in range(3):
        made.enter("b")


def test_rates_of_many_addresses_are_forgotten(tmp_path: Path) -> None:
    """A scan from everywhere takes no memory for good."""
    counts = OwnCounts()
    clock, made = shares(tmp_path, 0, rate=1, counts=counts)
    for number in range(1025):
        made.enter(f"192.0.2.{number}")
    clock.advance(60)
    made.enter("198.51.100.1")
    assert counts.rate("192.0.2.1") is None
    assert counts.rate("198.51.100.1") is not None
