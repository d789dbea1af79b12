"""What a crash left is removed by the next start, and whatever only looks like it is left alone, and named."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import capturedLogs

from digsigd.errors import DigsigError
from digsigd.signing import leftovers, removal
from digsigd.signing.marks import is_mark, write_mark
from digsigd.signing.workroot import WorkRoot
from tests.helpers.tools import own_mounts

ROOT = os.geteuid() == 0
SECRET = "request/keys/secret_key.pem"


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "parent"
    path.mkdir()
    return path


def crashed(parent: Path) -> Path:
    """What a daemon leaves that is killed: all but its lock."""
    root = WorkRoot(parent)
    root.open()
    root.new("request").write("keys/secret_key.pem", b"secret")
    os.close(root._lock)
    return root.path


def mark_in(folder: Path) -> Path:
    (mark,) = [path for path in folder.iterdir() if is_mark(path.name)]
    return mark


def started(parent: Path) -> str:
    """Start and stop a daemon; what it says of what it has left alone."""
    root = WorkRoot(parent)
    root.open()
    root.close()
    return root.left_alone


def everything(folder: Path) -> dict[str, tuple[int, int, int, bytes | str]]:
    """All that is in a folder: inode, mode, owner and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: bytes | str = b""
        if path.is_symlink():
            content = os.readlink(path)  # noqa: PTH115 - as it stands
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, status.st_uid, content)
    return found


# What is removed


def test_what_a_crash_left_is_removed_and_told_of_to_nobody(parent: Path) -> None:
    """With what is in it, whatever the modes; not what links lead to, nor other names of the same files."""
    outside = parent.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    for _ in range(3):
        left = crashed(parent)
        (left / "request/link").symlink_to(outside)
        (left / "link").symlink_to(outside / "file")
        (left / "another-name").hardlink_to(outside / "file")
        os.mkfifo(left / "request/fifo")
        (left / "request/keys").chmod(0)
    assert started(parent) == ""
    assert list(parent.iterdir()) == []
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("file", b"mine")]


def test_a_directory_in_which_a_daemon_lives_is_left_alone_without_a_word(parent: Path) -> None:
    """It is what is expected there."""
    other = WorkRoot(parent)
    other.open()
    other.new("request").write("file", b"x")
    before = everything(parent)
    assert started(parent) == ""
    assert everything(parent) == before
    other.close()


# What is not removed

Change = Callable[[Path], Path]


def mark_text(change: Callable[[bytes], bytes]) -> Change:
    def changed(left: Path) -> Path:
        mark = mark_in(left)
        mark.write_bytes(change(mark.read_bytes()))
        return left

    return changed


def mark_mode(mode: int) -> Change:
    def changed(left: Path) -> Path:
        mark_in(left).chmod(mode)
        return left

    return changed


def mark_replaced(make: Callable[[Path, bytes], object]) -> Change:
    """By something else of its name; `make` gets its place and its text."""

    def changed(left: Path) -> Path:
        mark = mark_in(left)
        text = mark.read_bytes()
        mark.unlink()
        make(mark, text)
        return left

    return changed


def a_link_to_it(mark: Path, text: bytes) -> None:
    aside = mark.with_name("aside")
    aside.write_bytes(text)
    aside.chmod(0o600)
    mark.symlink_to("aside")


def a_second_name_of_it(mark: Path, text: bytes) -> None:
    mark.write_bytes(text)
    mark.chmod(0o600)
    mark.with_name("backup").hardlink_to(mark)


def a_second_mark(left: Path) -> Path:
    folder = os.open(left, os.O_RDONLY)
    write_mark(folder, left.name)
    os.close(folder)
    return left


def folder_mode(mode: int) -> Change:
    def changed(left: Path) -> Path:
        left.chmod(mode)
        return left

    return changed


def renamed(name: str) -> Change:
    return lambda left: left.rename(left.with_name(name))


def named_and_marked(name: str | bytes) -> Change:
    """A name that no daemon gives, in a mark that says it."""

    def changed(left: Path) -> Path:
        new = Path(os.fsdecode(os.path.join(os.fsencode(left.parent), os.fsencode(name))))  # noqa: PTH118 - bytes
        left.rename(new)
        mark_in(new).unlink()
        folder = os.open(new, os.O_RDONLY)
        write_mark(folder, new.name)
        os.close(folder)
        return new

    return changed


def copied(name: str | None) -> Change:
    """A copy with the mark and all; the first one is gone."""

    def changed(left: Path) -> Path:
        copy = left.with_name(name or "aside")
        subprocess.run(["cp", "-a", left, copy], check=True)
        shutil.rmtree(left)
        return copy if name else copy.rename(left)

    return changed


def behind_a_link(left: Path) -> Path:
    left.rename(left.parent.parent / left.name)
    left.symlink_to(left.parent.parent / left.name)
    return left


def something_else(make: Callable[[Path], object]) -> Change:
    def changed(left: Path) -> Path:
        shutil.rmtree(left)
        make(left)
        return left

    return changed


def of_another_user(left: Path) -> Path:
    for path in (left, *left.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    return left


def mark_of_another_user(left: Path) -> Path:
    os.chown(mark_in(left), 12345, 12345)
    return left


def folder_of_another_user(left: Path) -> Path:
    os.chown(left, 12345, 12345)
    return left


def very_deep(left: Path) -> Path:
    (left / "/".join(["d"] * 100)).mkdir(parents=True)
    return left


LOOK_ALIKES: dict[str, Change] = {
    "no mark": mark_replaced(lambda _mark, _text: None),
    "empty mark": mark_text(lambda _: b""),
    "mark with a word changed": mark_text(lambda text: text.replace(b"work", b"home")),
    "mark with a digit changed": mark_text(lambda text: text[:-2] + bytes([text[-2] ^ 1]) + text[-1:]),
    "mark with more behind it": mark_text(lambda text: text + b"\n"),
    "mark with less": mark_text(lambda text: text[:-1]),
    "mark that others may read": mark_mode(0o644),
    "mark that is read-only": mark_mode(0o400),
    "mark that is executable": mark_mode(0o700),
    "mark that is a link to one": mark_replaced(a_link_to_it),
    "mark that is a link to nothing": mark_replaced(lambda mark, _: mark.symlink_to("nothing")),
    "mark with a second name": mark_replaced(a_second_name_of_it),
    "mark that is a FIFO": mark_replaced(lambda mark, _: os.mkfifo(mark, 0o600)),
    "mark that is a directory": mark_replaced(lambda mark, _: mark.mkdir(0o600)),
    "two marks": a_second_mark,
    "mark in a folder": mark_replaced(lambda mark, text: (mark.parent / "request" / mark.name).write_bytes(text)),
    "mark with another name": mark_replaced(lambda mark, text: mark.with_name(".mark").write_bytes(text)),
    "others may read it": folder_mode(0o755),
    "its group may read it": folder_mode(0o750),
    "read-only": folder_mode(0o500),
    "renamed to be kept": renamed("digsigd-keepthis"),
    "copied": copied("digsigd-copy_of_"),
    "copied to its very name": copied(None),
    "behind a link": behind_a_link,
    "a file": something_else(lambda path: path.write_bytes(b"mine")),
    "a FIFO": something_else(os.mkfifo),
    "a link to nothing": something_else(lambda path: path.symlink_to("nothing")),
    "a user's folder": something_else(lambda path: (path / "work").mkdir(parents=True)),
    "an empty folder": something_else(lambda path: path.mkdir(mode=0o700)),
    "far too deep": very_deep,
    **{
        f"named {name!r}": named_and_marked(name)
        for name in (
            "digsigd-foo", "digsigd-", "digsigd-1234567", "digsigd-123456789", "digsigd-ABCDEFGH", "digsigd-abcd.fgh",
            "digsigd-abcdefgh.back", "digsigd-abcdefgh\n", "digsigd-abc\x1b[2J", "digsigd-äöüäöüäö",
            b"digsigd-\xff\xfe\xfd\xfc1234", "digsigd-" + "x" * 247, "digsigd-١٢٣٤٥٦٧٨",
        )
    },
}  # fmt: skip
if ROOT:
    LOOK_ALIKES |= {
        "of another user": of_another_user,
        "mark of another user": mark_of_another_user,
        "folder of another user": folder_of_another_user,
    }


@pytest.mark.parametrize("look", LOOK_ALIKES)
def test_what_only_looks_like_it_is_left_alone_and_named(parent: Path, look: str) -> None:
    """Not a byte, mode or inode of it changes; the start is made, and what a crash left beside it is removed."""
    stays = LOOK_ALIKES[look](crashed(parent))
    before = everything(parent.parent)
    left = crashed(parent)
    told = started(parent)
    assert not left.exists()
    assert everything(parent.parent) == before
    assert ascii(stays.name)[1:-1][:60] in told
    assert told.count("(") == 1
    assert told.isprintable()
    assert started(parent) == told


def test_a_directory_of_an_earlier_release_is_left_alone_and_named(parent: Path) -> None:
    """It has no mark, whether its daemon lives or not; those releases had none."""
    dead, living = Path(tempfile.mkdtemp(prefix="digsigd-", dir=parent)), parent / "digsigd-living00"
    living.mkdir(mode=0o700)
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (dead / "request").mkdir()
    told = started(parent)
    assert dead.name in told
    assert living.name in told
    assert (dead / "request").exists()
    os.close(lock)


def test_the_warning_is_one_and_of_bounded_length(parent: Path) -> None:
    """Whatever anybody puts there, and however much."""
    for number in range(300):
        (parent / (f"digsigd-{number:03}" + "\x1b" * 240)).mkdir()
    with capturedLogs() as events:
        told = started(parent)
    assert told.endswith("and 292 more")
    assert told.isprintable()
    assert len(told) < 2000
    assert [event["names"] for event in events if event.get("event") == "workdir"] == [told]


def test_a_daemon_that_is_just_starting_is_not_named(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making its directory and marking it; the warning would be false a moment later."""
    new = Path(tempfile.mkdtemp(prefix="digsigd-", dir=parent))
    lock = os.open(new, os.O_RDONLY)
    waited: list[float] = []

    def mark(seconds: float) -> None:
        waited.append(seconds)
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_mark(lock, new.name)

    # The other daemon goes on while this one waits, at the time when the directory was made.
    made = SimpleNamespace(sleep=mark, time=lambda: new.stat().st_ctime)
    monkeypatch.setattr(leftovers, "time", made)
    assert started(parent) == ""
    assert waited == [leftovers._STARTING]
    os.close(lock)


# What changes meanwhile


@pytest.mark.parametrize("what", ["folder", "full folder", "file", "link"])
@pytest.mark.parametrize("taken", [False, True], ids=["name free", "name taken"])
def test_what_takes_its_place_before_it_is_moved_is_put_back(
    parent: Path, monkeypatch: pytest.MonkeyPatch, what: str, taken: bool
) -> None:
    """Under its name, or beside what has that by then: nothing is replaced, and nothing lost."""
    left = crashed(parent)
    check, rename = removal.check_tree, os.rename
    saved = parent.parent / "saved"

    def swapped(folder: int) -> None:
        check(folder)
        left.rename(saved)
        if what == "file":
            left.write_bytes(b"mine")
        elif what == "link":
            left.symlink_to("nowhere")
        else:
            left.mkdir()
            if what == "full folder":
                (left / "file").write_bytes(b"mine")

    def renaming(source: str, target: str, **folders: Any) -> None:
        rename(source, target, **folders)
        if taken and source == left.name:
            left.mkdir()

    monkeypatch.setattr(removal, "check_tree", swapped)
    monkeypatch.setattr(os, "rename", renaming)
    told = started(parent)
    monkeypatch.undo()
    assert left.name in told
    assert "replaced" in told
    assert (saved / SECRET).exists()
    found = sorted(path.name for path in parent.iterdir())
    if taken:
        assert found[0] == left.name
        assert list(left.iterdir()) == []
    (stranger,) = [path for path in parent.iterdir() if (path.name != left.name) is taken]
    if what == "file":
        assert stranger.read_bytes() == b"mine"
    elif what == "link":
        assert stranger.is_symlink()
    else:
        assert [path.name for path in stranger.iterdir()] == (["file"] if what == "full folder" else [])


def test_what_cannot_be_put_back_is_kept_where_it_is(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails then, and no later one removes it."""
    left = crashed(parent)
    check, mkdir = removal.check_tree, os.mkdir

    def swapped(folder: int) -> None:
        check(folder)
        left.rename(parent.parent / "saved")
        left.mkdir()
        (left / "file").write_bytes(b"mine")

    def refused(path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).startswith(left.name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(removal, "check_tree", swapped)
        patch.setattr(os, "mkdir", refused)
        with pytest.raises(DigsigError, match="cannot be used") as caught:
            WorkRoot(parent).open()
        assert left.name in caught.value.detail
    for _ in range(2):
        assert "no mark" in started(parent)
    assert [path.read_bytes() for path in parent.rglob("file")] == [b"mine"]


def test_what_cannot_be_removed_is_put_back_and_tried_again(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its mark until all else is gone; the start is made without it."""
    left = crashed(parent)
    rmdir, unlink = os.rmdir, os.unlink

    def stubborn(path: Any, *args: Any, **kwargs: Any) -> None:
        if path == "secret_key.pem":
            raise OSError(errno.EBUSY, "Device or resource busy")
        unlink(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", stubborn)
        told = started(parent)
    assert f"{left.name} (Device or resource busy)" in told
    assert (left / SECRET).exists()
    assert mark_in(left)
    assert [path.name for path in parent.iterdir()] == [left.name]
    assert rmdir is os.rmdir
    assert started(parent) == ""
    assert list(parent.iterdir()) == []


def test_a_process_that_still_writes_into_it_does_not_keep_it(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cst that outlives its daemon for a moment."""
    crashed(parent)
    rmdir, late = os.rmdir, ["one", "two"]

    def busy(path: Any, *args: Any, **kwargs: Any) -> None:
        if late and str(path).startswith(".left-"):
            os.close(os.open(f"{path}/{late.pop()}", os.O_CREAT | os.O_WRONLY, dir_fd=kwargs["dir_fd"]))
        rmdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "rmdir", busy)
    assert started(parent) == ""
    assert late == []
    assert list(parent.iterdir()) == []


# What is mounted

MOUNTS = """
import os, subprocess, sys
from pathlib import Path
from digsigd.signing.workdir import Workdir
from digsigd.signing.workroot import WorkRoot
from tests.signing.test_leftovers import crashed, started
parent, outside, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
left = crashed(parent)
place = {"folder": left / "request/mnt", "file": left / "request/mnt", "itself": left}[kind]
source = outside
if kind == "file":
    place.touch()
    source = outside / "file"
elif kind == "folder":
    place.mkdir()
subprocess.run(["mount", "--bind", source, place], check=True)
try:
    told = started(parent)
    assert left.name in told, told
    assert (outside / "file").read_bytes() == b"mine"
    if kind != "itself":
        assert (left / "request/keys/secret_key.pem").exists(), "something was removed"
        # Neither does the end of a request reach into it.
        try:
            Workdir(left / "request").remove()
        except Exception as error:
            assert "cannot be removed" in str(error), error
        else:
            raise AssertionError("removed")
        assert (outside / "file").read_bytes() == b"mine"
finally:
    subprocess.run(["umount", place], check=True)
print("kept")
"""


@pytest.mark.parametrize("kind", ["folder", "file", "itself"])
def test_what_is_mounted_in_it_is_not_touched(parent: Path, kind: str) -> None:
    """Of the same file system as well: a bind mount. It is named, and nothing of it removed."""
    outside = parent.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    done = subprocess.run(
        [*own_mounts(), sys.executable, "-c", MOUNTS, parent, outside, kind],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert done.stdout == "kept\n", done.stderr
    assert (outside / "file").read_bytes() == b"mine"


def test_without_proc_nothing_is_removed(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted could not be told from what is not."""
    left = crashed(parent)
    of = removal.Mount.of
    with monkeypatch.context() as patch:
        patch.setattr(removal.Mount, "of", lambda descriptor: removal.Mount(of(descriptor).device, None))
        told = started(parent)
    assert f"{left.name} (/proc does not show" in told
    assert (left / SECRET).exists()
    assert started(parent) == ""
