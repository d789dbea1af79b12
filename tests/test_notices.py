"""Notices to systemd, with a clock and a real socket: what is sent, when, and what if nobody reads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from digsigd.notices import Notices


class Manager:
    """Reads what is sent to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address.replace("@", "\0"))
        self.clock = Clock()
        self.state = "0 running, 0 waiting"
        self.environ: dict[str, str] = {}

    def notices(self, **environ: str) -> Notices:
        self.environ = {"NOTIFY_SOCKET": self.address, "PATH": "/bin", **environ}
        return Notices(self.clock, lambda: self.state, self.environ)

    def read(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager(f"@digsigd-notices-{os.getpid()}")
    yield made
    made.socket.close()


def test_without_a_manager_nothing_is_sent_and_nothing_waits() -> None:
    """As from a shell."""
    clock = Clock()
    for environ in ({}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        notices = Notices(clock, lambda: "x", environ)
        notices.ready()
        notices.stopping(1)
        notices.close()
        assert clock.getDelayedCalls() == []


def test_a_status_is_sent_when_it_has_changed(manager: Manager) -> None:
    """And looked at every five seconds, not for each request."""
    notices = manager.notices()
    notices.ready()
    assert manager.read() == ["READY=1\nSTATUS=0 running, 0 waiting"]
    for number in range(20):
        manager.state = f"{number} running, 0 waiting"
        manager.clock.advance(0.5)
    assert manager.read() == ["STATUS=9 running, 0 waiting", "STATUS=19 running, 0 waiting"]
    manager.clock.advance(60)
    assert manager.read() == []
    notices.close()
    assert manager.clock.getDelayedCalls() == []


def test_the_watchdog_is_fed_three_times_in_its_time(manager: Manager) -> None:
    """As long as the clock of the reactor goes on, and while the daemon stops, too."""
    notices = manager.notices(WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid()))
    notices.ready()
    manager.read()
    manager.clock.pump([0.5] * 18)
    assert manager.read() == ["WATCHDOG=1"] * 3
    notices.stopping(30)
    manager.read()
    manager.clock.pump([0.5] * 6)
    assert manager.read() == ["WATCHDOG=1"]
    notices.close()


@pytest.mark.parametrize(
    "environ", [{"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}, {}], ids=str
)
def test_the_watchdog_of_others_is_not_fed(manager: Manager, environ: dict[str, str]) -> None:
    """One of another process, or none."""
    notices = manager.notices(**environ)
    notices.ready()
    manager.read()
    manager.clock.pump([1] * 60)
    assert manager.read() == []
    notices.close()


def test_no_other_process_finds_the_socket(manager: Manager) -> None:
    """Its variables are gone."""
    manager.notices(WATCHDOG_USEC="9000000", WATCHDOG_PID="1").close()
    assert manager.environ == {"PATH": "/bin"}


def test_a_notice_that_finds_no_room_is_sent_later(manager: Manager) -> None:
    """In its order, and the reactor does not wait for it; those that come again anyway are left out."""
    notices = manager.notices(WATCHDOG_USEC="9000000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other:
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"full", "\0" + manager.address[1:])
        notices.ready()
        notices.reloading()
        manager.clock.pump([1] * 30)
        assert set(manager.read()) == {"full"}
    manager.clock.advance(0.1)
    ready, reloading = manager.read()
    assert ready.startswith("READY=1\n")
    assert reloading.startswith("RELOADING=1\n")
    notices.close()


def test_a_path_that_is_gone_is_logged_and_ends_nothing(tmp_path: Path) -> None:
    """Nobody reads there."""
    notices = Notices(Clock(), lambda: "x", {"NOTIFY_SOCKET": str(tmp_path / "n")})
    notices.ready()
    notices.reloading()
    notices.reloaded()
    notices.close()


def test_nothing_is_ready_that_has_not_been_or_stops(manager: Manager) -> None:
    """A reload before the start or within a stop is not reported."""
    notices = manager.notices()
    notices.reloading()
    notices.reloaded(refused=True)
    assert manager.read() == []
    notices.ready()
    notices.stopping(30)
    manager.read()
    notices.reloading()
    notices.reloaded()
    notices.stopping(30)
    assert manager.read() == []
    notices.close()
