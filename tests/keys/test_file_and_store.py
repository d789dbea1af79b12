"""Keys in a folder, and keeping them: real files, and a clock of our own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from errno import EACCES
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from digsigd.errors import BadTarball, KeyStoreFailed, KeyStoreTimeout, NoKeys
from digsigd.keys import KeyStore
from digsigd.keys.file import FileSource
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE


def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    """Call without a thread, so that the clock of a test is the only one."""
    return Deferred.fromCoroutine(_call(function, *args, **kwargs))


async def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


class KeyFolder:
    """A folder with one machine's keys, and a store on it."""

    def __init__(self, folder: Path, tarball: bytes) -> None:
        self.root = folder / "root"
        self.path = self.root / MACHINE / "imxsign/imx-cst-keys.tar.gz"
        self.path.parent.mkdir(parents=True)
        self.clock = Clock()
        self.source = FileSource(
            self.root,
            max_tarball=1 << 20,
            timeout=5,
            clock=self.clock,
            in_thread=at_once,
        )
        self.put(tarball)

    def put(self, tarball: bytes) -> None:
        self.path.write_bytes(tarball)
        self.age()

    def age(self) -> None:
        """Have the file be older than any clock's tick."""
        time.sleep(0.06)

    def store(self, **more: Any) -> KeyStore:
        settings = {"keep": 300.0, "max_unpacked": 1 << 20, **more}
        return KeyStore(self.source, clock=self.clock, in_thread=at_once, **settings)


@pytest.fixture
def key_folder(tmp_path: Path, pki: TrialPki) -> KeyFolder:
    return KeyFolder(tmp_path, pki.tarball())


async def test_keys_are_fetched_once_and_revalidated_after(key_folder: KeyFolder, pki: TrialPki) -> None:
    """The second request asks only whether the file is the same."""
    store = key_folder.store()
    first = await store.get(MACHINE)
    second = await store.get(MACHINE)
    assert (first.how, second.how) == ("fetched", "revalidated")
    assert first.tarball.members == pki.files
    assert second.tarball is first.tarball
    assert first.origin == key_folder.root.as_uri()
    await store.stop()


async def test_a_changed_tarball_is_used_by_the_next_request(key_folder: KeyFolder) -> None:
    """Written over, replaced, or of the same size and time: the next request has it."""
    other = TrialPki.make("p256", srks=1)
    store = key_folder.store()
    before = await store.get(MACHINE)
    key_folder.put(other.tarball().ljust(1 << 13, b"\0"))
    assert (await store.get(MACHINE)).tarball.members == other.files
    status = key_folder.path.stat()
    new = key_folder.path.with_name("new")
    new.write_bytes(TrialPki.make("p256", srks=1).tarball().ljust(1 << 13, b"\0"))
    assert new.stat().st_size == status.st_size
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(key_folder.path)
    assert (await store.get(MACHINE)).tarball.members not in (before.tarball.members, other.files)
    await store.stop()


async def test_a_file_written_just_now_is_read_again(
    key_folder: KeyFolder, pki: TrialPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within one tick of the clock cannot be told apart by their times."""
    store = key_folder.store()
    key_folder.path.write_bytes(pki.tarball())
    status = key_folder.path.stat()
    now = max(status.st_mtime_ns, status.st_ctime_ns) + 49_000_000
    monkeypatch.setattr("digsigd.keys.file.time", SimpleNamespace(time_ns=lambda: now, sleep=time.sleep))
    assert (await store.get(MACHINE)).how == "fetched"
    now += 2_000_000
    assert (await store.get(MACHINE)).how == "fetched"
    assert (await store.get(MACHINE)).how == "revalidated"
    await store.stop()


async def test_half_a_tarball_is_one_that_is_being_written(
    key_folder: KeyFolder, pki: TrialPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place, with pauses: the store's failure for that moment, wherever it is cut. Later it is a bad tarball."""
    monkeypatch.setattr("digsigd.keys.file._PAUSE_OF_WRITERS_NS", 600_000_000_000)
    whole = pki.tarball()
    store = key_folder.store()
    await store.get(MACHINE)
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        key_folder.put(whole[:length])
        with pytest.raises(KeyStoreFailed, match=r"are being written .*try again") as caught:
            await store.get(MACHINE)
        assert str(key_folder.root) not in caught.value.for_client()
    key_folder.put(b"no tarball at all")
    with pytest.raises(BadTarball, match="damaged"):
        await store.get(MACHINE)
    key_folder.put(whole[:-1])
    an_hour_ago = time.time() - 3600
    os.utime(key_folder.path, (an_hour_ago, an_hour_ago))
    with pytest.raises(BadTarball, match="ends in the middle"):
        await store.get(MACHINE)
    key_folder.put(whole)
    assert (await store.get(MACHINE)).tarball.members == pki.files
    await store.stop()


async def test_keys_are_forgotten_after_so_long_without_a_request(key_folder: KeyFolder) -> None:
    """Each request starts the time anew."""
    store = key_folder.store(keep=10.0)
    await store.get(MACHINE)
    key_folder.clock.advance(9)
    assert (await store.get(MACHINE)).how == "revalidated"
    key_folder.clock.advance(9)
    assert (await store.get(MACHINE)).how == "revalidated"
    key_folder.clock.advance(10)
    assert (await store.get(MACHINE)).how == "fetched"
    await store.stop()
    assert key_folder.clock.getDelayedCalls() == []


async def test_keys_are_not_kept_where_that_is_asked_for(key_folder: KeyFolder) -> None:
    """Keep = 0."""
    store = key_folder.store(keep=0.0)
    await store.get(MACHINE)
    assert (await store.get(MACHINE)).how == "fetched"
    assert key_folder.clock.getDelayedCalls() == []


async def test_what_is_kept_has_a_bound(key_folder: KeyFolder, pki: TrialPki) -> None:
    """The machine that was asked for longest ago is forgotten first."""
    size = sum(map(len, pki.files.values()))
    store = key_folder.store(max_kept_bytes=size * 2)
    for name in ("a", "b", "c"):
        path = key_folder.root / name / "imxsign/imx-cst-keys.tar.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(pki.tarball())
    key_folder.age()
    await store.get("a")
    await store.get("b")
    await store.get("a")
    await store.get("c")
    assert [(await store.get(name)).how for name in ("a", "c")] == ["revalidated", "revalidated"]
    assert (await store.get("b")).how == "fetched"
    await store.stop()


async def test_a_tarball_that_is_not_the_pinned_one_is_refused(key_folder: KeyFolder, pki: TrialPki) -> None:
    """With both hashes in the text; the right one, in any case, is taken."""
    seen = (await key_folder.store().get(MACHINE)).tarball.sha256
    assert (await key_folder.store().get(MACHINE, sha256=seen)).tarball.members == pki.files
    with pytest.raises(BadTarball, match=seen) as caught:
        await key_folder.store().get(MACHINE, sha256="0" * 64)
    assert "0" * 64 in str(caught.value)


async def test_keys_that_are_taken_away_are_gone(key_folder: KeyFolder) -> None:
    """Nobody signs with keys that the store has no more."""
    store = key_folder.store()
    await store.get(MACHINE)
    key_folder.path.unlink()
    with pytest.raises(NoKeys, match=MACHINE) as caught:
        await store.get(MACHINE)
    assert str(key_folder.root) not in caught.value.for_client()
    await store.stop()


async def test_a_store_that_is_not_there_fails(key_folder: KeyFolder, tmp_path: Path) -> None:
    """A missing root is not the same as a missing machine."""
    key_folder.root.rename(tmp_path / "elsewhere")
    with pytest.raises(KeyStoreFailed):
        await key_folder.store().get(MACHINE)
    with pytest.raises(KeyStoreFailed):
        await key_folder.store().check()
    key_folder.root.write_text("a file")
    with pytest.raises(KeyStoreFailed, match="is not a folder"):
        await key_folder.store().check()


async def test_what_is_no_regular_file_fails(key_folder: KeyFolder) -> None:
    """A FIFO does not hold anybody, and a folder is no tarball."""
    key_folder.path.unlink()
    os.mkfifo(key_folder.path)
    with pytest.raises(KeyStoreFailed, match="regular"):
        await key_folder.store().get(MACHINE)
    key_folder.path.unlink()
    key_folder.path.mkdir()
    with pytest.raises(KeyStoreFailed):
        await key_folder.store().get(MACHINE)


async def test_a_tarball_beyond_the_bound_is_refused(key_folder: KeyFolder) -> None:
    """Before it is read."""
    key_folder.put(bytes((1 << 20) + 1))
    with pytest.raises(BadTarball, match="more than"):
        await key_folder.store().get(MACHINE)


async def test_names_that_are_no_machines_are_refused(key_folder: KeyFolder) -> None:
    """Whoever forgot to check them."""
    for name in ("..", "a/b", "", ".hidden", "a\n"):
        with pytest.raises(ValueError, match="is not a machine name"):
            await key_folder.store().get(name)


async def test_a_folder_that_hangs_is_given_up(key_folder: KeyFolder) -> None:
    """As a dead file server's does."""

    def never(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return Deferred()

    source = FileSource(
        key_folder.root,
        max_tarball=1,
        timeout=5,
        clock=key_folder.clock,
        in_thread=never,
    )
    store = KeyStore(source, keep=1, clock=key_folder.clock, in_thread=at_once, max_unpacked=1)
    getting = Deferred.fromCoroutine(store.get(MACHINE))
    key_folder.clock.advance(5)
    with pytest.raises(KeyStoreTimeout):
        await getting


async def test_a_tarball_that_the_daemon_may_not_read(key_folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads which file it is, and what rights it needs; callers read neither."""

    def refused(path: Path, flags: int) -> int:
        raise PermissionError(EACCES, os.strerror(EACCES), str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(KeyStoreFailed) as caught:
        await key_folder.source.fetch(MACHINE, None)
    monkeypatch.undo()
    assert f"'{key_folder.path}': give it to a group of the daemon's user" in caught.value.for_operator()
    assert caught.value.for_client() == "the key store cannot be read"
