"""Room that uploads reserve, of a file system whose size tests set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from digsigd.errors import NoSpace
from digsigd.web.room import Room
from digsigd.web.shares import Shares

MIB = 1 << 20


class Disk:
    """What statvfs(3) tells of the file system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free, self.files = free, 1000
        monkeypatch.setattr("os.statvfs", self.told)

    def told(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=self.free >> 12, f_frsize=1 << 12, f_files=1000, f_favail=self.files)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A file system with 100 MiB."""
    return Disk(monkeypatch, 100 * MIB)


def room(callers: int = 1, **more: Any) -> Room:
    shares = Shares(share=0.5, max_at_once=5, rates=dict.fromkeys("ab"[:callers]), rate=None, clock=Clock())
    made: dict[str, Any] = {"keep_free": 4 * MIB, "max_running": 1, "share": 0.5, "shares": shares, **more}
    return Room(folder=lambda: Path("/work"), **made)


def test_what_is_reserved_is_not_given_twice(disk: Disk) -> None:
    """Its body, a copy that cst makes, and what is to be left free; what is released can be had again."""
    made = room()
    first = made.reserve("a", 48 * MIB)
    with pytest.raises(NoSpace, match="are free"):
        made.reserve("a", 1 * MIB)
    assert made.reserved == 48 * MIB
    first.release()
    first.release()
    assert made.reserved == 0
    with pytest.raises(NoSpace):
        made.reserve("a", 48 * MIB + 1)
    made.reserve("a", 48 * MIB)


def test_what_has_arrived_is_counted_once(disk: Disk) -> None:
    """It is missing from what is free, and not reserved any more."""
    made = room()
    first = made.reserve("a", 30 * MIB)
    first.store(20 * MIB)
    disk.free -= 20 * MIB
    assert made.reserved == 10 * MIB
    made.reserve("a", 33 * MIB).release()
    with pytest.raises(NoSpace):
        # 80 are free: 10 for the first, 4 that stay free, and one copy of the larger.
        made.reserve("a", 34 * MIB)


@pytest.mark.parametrize(("runs", "most"), [(1, 28), (2, 18), (3, 13)])
def test_as_many_copies_are_counted_as_cst_runs_at_once(disk: Disk, runs: int, most: int) -> None:
    """Of the largest uploads, not of all: beside 20, 10 and 10 MiB, of the 56 that are left."""
    made = room(max_running=runs)
    for size in (20, 10, 10):
        made.reserve("a", size * MIB)
    with pytest.raises(NoSpace):
        made.reserve("a", most * MIB + 4096)
    made.reserve("a", most * MIB)


def test_a_body_of_unknown_length_reserves_step_by_step(disk: Disk) -> None:
    """It is refused when a step finds no room, and one large piece reserves its size."""
    made = room()
    one = made.reserve("a", None)
    assert made.reserved == MIB
    one.store(MIB)
    assert made.reserved == 0
    one.store(1)
    assert made.reserved == MIB - 1
    one.store(3 * MIB)
    assert made.reserved == 0
    disk.free = 8 * MIB
    with pytest.raises(NoSpace):
        one.store(1)


def test_an_upload_that_has_ended_keeps_what_has_arrived(disk: Disk) -> None:
    """A step that it did not use is given back."""
    made = room()
    one = made.reserve("a", None)
    one.store(10)
    one.settle()
    assert made.reserved == 0


def test_a_party_has_half_of_what_is_free_and_stored(disk: Disk) -> None:
    """Half of what was free before uploads came, reserved or stored; another has the rest, and who is alone all."""
    made = room(callers=2, keep_free=0)
    first = made.reserve("a", 30 * MIB)
    first.store(30 * MIB)
    disk.free -= 30 * MIB
    with pytest.raises(NoSpace, match=r"caller 'a' would have .* more than their share"):
        made.reserve("a", 21 * MIB)
    made.reserve("a", 15 * MIB)
    made.reserve("b", 20 * MIB)
    alone = room(callers=1, keep_free=0, max_running=0)
    alone.reserve("a", disk.free)


def test_a_file_system_without_files_has_no_room(disk: Disk) -> None:
    """Bytes are not all that an upload needs."""
    disk.files = 3
    with pytest.raises(NoSpace, match="3 files are free"):
        room().reserve("a", 1)
    disk.files = 1000
    disk.free = 0
    with pytest.raises(NoSpace):
        room(keep_free=0).reserve("a", 1)
