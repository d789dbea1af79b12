"""The canary's own decisions, with runs that fail on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from digsigd._canary import Canary
from digsigd.errors import Busy, CstFailed
from digsigd.metrics.cells import Cells, Layout
from digsigd.settings import CanarySettings
from digsigd.signing.request import Signed


class Parts:
    """Everything that a canary uses. `results` are those of its runs."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.results: list[Exception | Deferred[None] | None] = []
        self.runs = 0
        self.removed = 0
        self.cells = Cells(Layout(1))
        text = tmp_path / "canary.csf"
        text.write_text("[Header]\n")
        parts: Any = self
        self.canary = Canary(
            CanarySettings(machine="a", csf=text, cst_version="1", **settings),
            direct=parts, machines=parts, keys=parts, root=parts, in_thread=parts.in_thread, clock=self.clock,
            cells=self.cells,
        )  # fmt: skip

    path = Path("/nowhere")

    def in_thread(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return succeed(function(*args, **kwargs))

    def new(self, name: str) -> Parts:
        return self

    def write(self, name: str, data: bytes) -> None:
        pass

    def remove(self) -> None:
        self.removed += 1

    async def sign(self, request: Any, *, counted: bool) -> Signed:
        assert not counted
        self.runs += 1
        result = self.results.pop(0) if self.results else None
        if isinstance(result, Deferred):
            await result
        elif result is not None:
            raise result
        return Signed(b"a blob")

    def missing(self) -> str:
        return " ".join(self.canary.missing())

    @property
    def counts(self) -> tuple[float, float]:
        reading = self.cells.read()
        return reading.counter("canary_ok"), reading.counter("canary_failed")


def test_it_is_not_ready_before_the_first_run(tmp_path: Path) -> None:
    """So that a load balancer sends nothing to a host that never signed."""
    parts = Parts(tmp_path)
    parts.canary.start()
    assert parts.missing() == "canary: has not signed yet"
    parts.clock.advance(0)
    assert parts.missing() == ""
    assert (parts.runs, parts.removed) == (1, 1)


def test_a_full_queue_says_nothing_about_the_host(tmp_path: Path) -> None:
    """It stays as it was: not ready before the first signature, ready afterwards."""
    parts = Parts(tmp_path, every=10.0)
    parts.results = [Busy("full"), None, Busy("full")]
    parts.canary.start()
    parts.clock.advance(0)
    assert parts.missing() == "canary: has not signed yet"
    parts.clock.advance(10)
    assert parts.missing() == ""
    parts.clock.advance(10)
    assert (parts.runs, parts.missing(), parts.counts) == (3, "", (1, 0))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CstFailed("cst crashed", detail="/secret/path"), "cst crashed"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_failure_is_told_without_what_is_for_the_operator(tmp_path: Path, error: Exception, reason: str) -> None:
    """And tried again after half a minute at the latest."""
    parts = Parts(tmp_path, every=300.0)
    parts.results = [None, error, None]
    parts.canary.start()
    parts.clock.advance(0)
    parts.clock.advance(300)
    assert parts.missing() == f"canary: {reason}"
    assert list(parts.counts) == [1, 1]
    parts.clock.advance(29)
    assert parts.runs == 2
    parts.clock.advance(1)
    assert (parts.missing(), parts.counts) == ("", (2, 1))


async def test_a_fault_of_its_own_ends_nothing(tmp_path: Path) -> None:
    """It is logged, and tried again."""
    parts = Parts(tmp_path, every=5.0)
    parts.results = [RuntimeError("a fault"), None]
    parts.canary.start()
    parts.clock.advance(0)
    assert parts.missing() == "canary: internal error"
    parts.clock.advance(5)
    assert parts.missing() == ""


def test_a_stop_ends_the_run(tmp_path: Path) -> None:
    """Its directory is removed, and no other begins."""
    parts = Parts(tmp_path)
    under_way: Deferred[None] = Deferred()
    parts.results = [under_way]
    parts.canary.start()
    parts.clock.advance(0)
    over: list[object] = []
    parts.canary.drained().addCallback(over.append)
    assert over == []
    parts.canary.stop()
    assert len(over) == 1
    assert parts.removed == 1
    assert parts.clock.getDelayedCalls() == []
    assert parts.canary.drained().called
