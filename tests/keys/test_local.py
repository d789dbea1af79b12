"""Known tarballs on local file systems are looked at without a thread, and what has changed is still seen at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from digsigd.errors import BadTarball, NoKeys
from digsigd.keys import file as file_module
from digsigd.keys.file import FileSource
from digsigd.keys.local import _kinds, is_local
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE
from tests.keys.test_file_and_store import KeyFolder, at_once


class Watched(KeyFolder):
    """A key folder whose source counts what it has threads do."""

    def __init__(self, folder: Path, tarball: bytes) -> None:
        super().__init__(folder, tarball)
        self.turns = 0
        self.source = FileSource(self.root, max_tarball=1 << 20, timeout=5, clock=self.clock, in_thread=self._counted)

    def _counted(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        self.turns += 1
        return at_once(function, *args, **kwargs)


@pytest.fixture
def keys(tmp_path: Path, pki: TrialPki) -> Watched:
    return Watched(tmp_path, pki.tarball())


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests' folder is on."""
    monkeypatch.setattr(file_module, "is_local", lambda _: True)


@pytest.mark.usefixtures("local")
async def test_a_known_tarball_needs_no_thread(keys: Watched) -> None:
    """For a minute; then one looks whether the file system is still the same."""
    version = (await keys.source.fetch(MACHINE, None)).version
    for _ in range(3):
        assert (await keys.source.fetch(MACHINE, version)).data is None
    assert keys.turns == 1
    keys.clock.advance(61)
    assert (await keys.source.fetch(MACHINE, version)).data is None
    assert keys.turns == 2
    assert (await keys.source.fetch(MACHINE, version)).data is None
    assert keys.turns == 2


async def test_a_file_system_that_can_hang_is_only_asked_in_threads(
    keys: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every time."""
    monkeypatch.setattr(file_module, "is_local", lambda _: False)
    version = (await keys.source.fetch(MACHINE, None)).version
    for _ in range(3):
        assert (await keys.source.fetch(MACHINE, version)).data is None
    assert keys.turns == 4


def _written(keys: Watched, tarball: bytes) -> None:
    keys.put(tarball)


def _replaced(keys: Watched, tarball: bytes) -> None:
    new = keys.path.with_name("new")
    new.write_bytes(tarball)
    os.replace(new, keys.path)  # noqa: PTH105
    keys.age()


def _whole_folder(keys: Watched, tarball: bytes) -> None:
    keys.path.parent.rename(keys.path.parent.with_name("old"))
    keys.path.parent.mkdir()
    keys.put(tarball)


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("change", [_written, _replaced, _whole_folder])
async def test_other_keys_are_seen_by_the_next_request(
    keys: Watched, other_pki: TrialPki, change: Callable[[Watched, bytes], None]
) -> None:
    """However they came there."""
    other = other_pki.tarball()
    version = (await keys.source.fetch(MACHINE, None)).version
    change(keys, other)
    assert (await keys.source.fetch(MACHINE, version)).data == other


@pytest.mark.usefixtures("local")
async def test_keys_that_are_gone_or_elsewhere_are_refused_by_the_next_request(
    keys: Watched, tmp_path: Path, pki: TrialPki
) -> None:
    """A link out of the machine's folder counts as elsewhere, even to the same file."""
    version = (await keys.source.fetch(MACHINE, None)).version
    outside = tmp_path / "outside.tar.gz"
    keys.path.rename(outside)
    with pytest.raises(NoKeys):
        await keys.source.fetch(MACHINE, version)
    keys.path.symlink_to(outside)
    with pytest.raises(BadTarball, match="outside its folder"):
        await keys.source.fetch(MACHINE, version)
    keys.path.unlink()
    outside.rename(keys.path)
    keys.age()
    version = (await keys.source.fetch(MACHINE, None)).version
    assert (await keys.source.fetch(MACHINE, version)).data is None
    folder = keys.path.parent
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")  # the file itself is as it was
    with pytest.raises(BadTarball, match="outside its folder"):
        await keys.source.fetch(MACHINE, version)


def _device(path: str) -> tuple[int, int]:
    device = Path(path).stat().st_dev
    return os.major(device), os.minor(device)


def test_local_file_systems_are_told_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is where it leads, and what is not there is nowhere; one that can hang on the way is asked first."""
    link = tmp_path / "link"
    link.symlink_to("/proc/self")
    assert not is_local(Path("/proc/self"))
    memory = {_device("/dev/shm"): b"tmpfs", _device("/dev"): b"devtmpfs", _device("/"): b"ext4"}
    monkeypatch.setattr("digsigd.keys.local._kinds", lambda: memory | {_device(str(tmp_path)): b"xfs"})
    assert is_local(Path("/dev/shm"))
    assert is_local(tmp_path)
    assert not is_local(link)
    assert not is_local(tmp_path / "missing")
    for kind in (b"nfs4", b"fuse.sshfs", b"overlay"):
        monkeypatch.setattr("digsigd.keys.local._kinds", lambda kind=kind: memory | {_device("/"): kind})
        assert not is_local(Path("/dev/shm"))


def test_types_are_those_of_the_kernel() -> None:
    """By device number."""
    assert _kinds()[_device("/proc")] == b"proc"
    assert _kinds()[_device("/dev/shm")] in {b"tmpfs", b"devtmpfs"}  # of its own, or that of /dev
