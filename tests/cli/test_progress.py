"""How an upload is shown: a bar on a terminal, a line now and then in a log, nothing where it is over at once."""

from __future__ import annotations

import io

import pytest

from digsigd.cli.console import Console
from digsigd.cli.server import Progress

MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [100.0]
    monkeypatch.setattr("digsigd.cli.server.time.monotonic", lambda: time[0])
    return time


def upload(err: io.StringIO, now: list[float], seconds: float, size: int = 40 * MIB) -> str:
    """What an upload in forty steps shows."""
    progress = Progress(Console(io.StringIO(), err))
    progress(0, size)
    for step in range(1, 41):
        now[0] += seconds / 40
        progress(step * size // 40, size)
    progress.clear()
    return err.getvalue()


def test_a_terminal_has_a_bar_that_goes_away(now: list[float]) -> None:
    """With how much there is, and how fast it goes."""
    drawn = upload(Terminal(), now, 20.0)
    assert "[###############               ] 20.0 of 40.0 MiB, 2.0 MiB/s" in drawn
    assert drawn.count("\r  [") == 40
    assert "\n" not in drawn
    assert drawn.endswith("\r\x1b[K")


def test_a_log_has_a_line_now_and_then(now: list[float]) -> None:
    """Without anything that draws."""
    lines = upload(io.StringIO(), now, 35.0).splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[0].startswith("uploaded ")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("err", [Terminal, io.StringIO])
def test_what_is_over_at_once_is_not_shown(now: list[float], err: type[io.StringIO]) -> None:
    """Small files, and in logs fast ones."""
    assert upload(err(), now, 5.0, size=MIB // 2) == ""
    if err is io.StringIO:
        assert upload(err(), now, 5.0) == ""
