"""Work directories: private, shared with nobody, and none left over."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.errors import Busy, DigsigError
from digsigd.signing.marks import is_mark
from digsigd.signing.workdir import Workdir
from digsigd.signing.workroot import WorkRoot
from tests.helpers.descriptors import open_descriptors


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    path = tmp_path / "parent"
    path.mkdir()
    return path


@pytest.fixture
def root(parent: Path) -> Iterator[WorkRoot]:
    """An open work root, which has to leave nothing in its parent."""
    made = WorkRoot(parent)
    made.open()
    yield made
    made.close()
    assert list(parent.iterdir()) == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# A request's directory


def test_directories_and_files_are_private(root: WorkRoot) -> None:
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        made = root.new("request-1")
        made.write("description.csf", b"[Header]")
        made.write("crts/a/CSF1_crt.pem", b"pem")
        made.write("open", b"", 0o644)
    finally:
        os.umask(before)
    assert made.path == root.path / "request-1"
    assert [mode(path) for path in (root.path, made.path, made.path / "crts", made.path / "crts/a")] == [0o700] * 4
    assert mode(made.path / "description.csf") == mode(made.path / "crts/a/CSF1_crt.pem") == 0o600
    assert mode(made.path / "open") == 0o644
    assert (made.path / "crts/a/CSF1_crt.pem").read_bytes() == b"pem"


def test_large_data_is_written_whole(root: WorkRoot) -> None:
    """In however many pieces the system takes it."""
    made, data = root.new("r"), random.randbytes(3 << 20)
    made.write("big", data)
    assert (made.path / "big").read_bytes() == data


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/x", "../x", "a/../../x", "a//b", "a/", "./a", "a/./b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(root: WorkRoot, name: str) -> None:
    """Before anything is made."""
    made = root.new("r")
    with pytest.raises(ValueError, match="not a relative path"):
        made.write(name, b"x")
    assert list(made.path.iterdir()) == []


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "c d", "~", "\\", "…", "-"]), min_size=1, max_size=5))
def test_no_name_leads_out_of_the_directory(parts: list[str]) -> None:
    """A file is written inside, or there is an error and no file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "here").mkdir()
        made = Workdir(Path(folder, "here"))
        try:
            made.write("/".join(parts), b"x")
        except ValueError:
            assert list(Path(folder).rglob("*")) == [made.path]
        else:
            assert (made.path / "/".join(parts)).read_bytes() == b"x"
            assert list(Path(folder).iterdir()) == [made.path]


def test_no_link_is_followed_and_nothing_overwritten(root: WorkRoot, tmp_path: Path) -> None:
    """Neither as the file nor as a folder on the way to it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    made = root.new("r")
    (made.path / "file").symlink_to(outside / "file")
    (made.path / "dangling").symlink_to(outside / "new")
    (made.path / "crts").symlink_to(outside)
    (made.path / "there").write_bytes(b"first")
    for name in ("file", "dangling", "crts/new", "crts/file", "there", "there/x"):
        with pytest.raises(DigsigError, match="cannot write"):
            made.write(name, b"overwritten")
    for name in ("file", "dangling", "there"):
        with pytest.raises(FileExistsError):
            made.create(name)
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"mine"
    assert (made.path / "there").read_bytes() == b"first"


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "/a", "a b", "a\0", "a\n", "ü", "x" * 101])
def test_only_a_safe_name_names_a_directory(root: WorkRoot, name: str) -> None:
    """Such a name is a mistake of ours."""
    with pytest.raises(ValueError, match="not a valid name"):
        root.new(name)
    assert [path for path in root.path.iterdir() if not is_mark(path.name)] == []


def test_two_requests_never_share_a_directory(root: WorkRoot) -> None:
    """A name that is in use is an error."""
    root.new("r")
    with pytest.raises(DigsigError, match="cannot write"):
        root.new("r")


def test_no_path_has_what_cst_would_replace(root: WorkRoot) -> None:
    """A key is where `keys` instead of the first `crts` in its certificate's path leads, for cst."""
    assert "crts" not in str(root.new("crts").path)
    assert "crts" not in str(root.new("acrtscrtsb").path)


def test_a_removed_directory_is_gone_with_all_that_was_in_it(root: WorkRoot, tmp_path: Path) -> None:
    """Links are removed, not what they lead to; read-only folders are no hindrance; twice is once."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    made = root.new("r")
    made.write("keys/deep/er/file", b"x")
    (made.path / "link").symlink_to(tmp_path / "kept")
    os.mkfifo(made.path / "fifo")
    for folder in ("keys/deep/er", "keys/deep", "keys"):
        (made.path / folder).chmod(0o500)
    made.remove()
    assert not made.path.exists()
    made.remove()
    assert (tmp_path / "kept/file").exists()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("replaced", [True, False])
def test_a_directory_that_was_moved_away_keeps_no_keys(root: WorkRoot, known: bool, replaced: bool) -> None:
    """Wherever it is now, its files are removed, and what has its name now goes as well."""
    workdir = root.new("r")
    workdir.write("keys/secret", b"a key")
    if not known:
        (workdir.path / "keys" / "left").write_bytes(b"by cst")
    elsewhere = workdir.path.rename(root.path / "elsewhere")
    if replaced:
        workdir.path.mkdir()
    workdir.remove()
    assert not workdir.path.exists()
    assert list(elsewhere.iterdir()) == []


def test_what_was_made_is_removed_by_its_names_alone(
    root: WorkRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at what is there: files of all kinds that a request has."""
    made = root.new("r")
    made.create("artifact").close()
    made.write_all({"k1/a_crt.pem": b"x", "k1/a_key.pem": b"x", "srk_table.bin": b"x"})
    made.write("k1/more", b"x")
    made.enter("run", ["artifact", "k1"], made=["csf.bin"])
    (made.path / "run/csf.bin").touch()
    monkeypatch.setattr("digsigd.signing.workdir.remove_tree", None)
    made.remove()
    assert made.removed
    assert not made.path.exists()


@pytest.mark.parametrize("what", ["link", "folder", "nothing"])
def test_a_folder_that_was_exchanged_is_not_the_one_that_was_made(root: WorkRoot, tmp_path: Path, what: str) -> None:
    """Nothing is removed by its name from what is there now."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/a_key.pem").touch()
    made = root.new("r")
    made.write("k1/a_key.pem", b"x")
    (made.path / "k1").rename(tmp_path / "moved")
    if what == "link":
        (made.path / "k1").symlink_to(tmp_path / "theirs")
    elif what == "folder":
        (tmp_path / "theirs").rename(made.path / "k1")
    assert not made.remove_known()
    left = made.path / "k1" if what == "folder" else tmp_path / "theirs"
    assert (left / "a_key.pem").exists()
    made.remove()
    assert not made.path.exists()


@pytest.mark.parametrize("folder_mode", [0o500, 0o000])
def test_read_only_folders_are_removed_without_the_rights_of_root(folder_mode: int) -> None:
    """Root passes over modes, so this takes another user where the tests run as root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "r").mkdir()
        made = Workdir(Path(folder, "r"))
        made.write("keys/deep/file", b"x")
        (made.path / "keys/deep").chmod(folder_mode)
        (made.path / "keys").chmod(folder_mode)
        as_nobody(Path(folder), "Workdir(Path(sys.argv[1], 'r')).remove()")
        assert list(Path(folder).iterdir()) == []


def as_nobody(folder: Path, program: str) -> None:
    """Run a program as another user, to whom the folder is given; as ourselves if we are not root."""
    setup = "import sys\nfrom pathlib import Path\n"
    setup += "from digsigd.signing.workdir import *\nfrom digsigd.signing.workroot import *\n"
    extra: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.rglob("*")):
            os.lchown(path, nobody.pw_uid, nobody.pw_gid)
        # The interpreter may be where only root may look: import first, then become another.
        setup += f"import os\nos.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
    done = subprocess.run([sys.executable, "-c", setup + program, folder], capture_output=True, text=True, **extra)
    assert done.returncode == 0, done.stderr


def test_a_directory_that_changes_while_it_is_removed_is_removed(
    root: WorkRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that a crash left may still be writing."""
    made = root.new("r")
    made.write("one", b"x")
    rmdir, late = os.rmdir, ["two", "three"]

    def busy(path: Any, *args: Any, **kwargs: Any) -> None:
        if late and Path(path) == made.path:
            (made.path / late.pop()).touch()
        rmdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "rmdir", busy)
    made.remove()
    assert late == []
    assert not made.path.exists()


def test_what_cannot_be_removed_is_told(root: WorkRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the path for the operator alone."""
    made = root.new("r")

    def refused(path: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refused)
        with pytest.raises(DigsigError) as caught:
            made.remove()
    assert str(made.path) in caught.value.detail
    assert str(made.path) not in caught.value.for_client()


def test_a_full_disk_is_told_and_leaves_no_part_of_a_file(root: WorkRoot) -> None:
    """The limit on file sizes stands for the disk: the system writes a part and refuses the rest."""
    made = root.new("r")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    open_before = open_descriptors()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DigsigError, match="no disk space left") as caught:
            made.write("crts/big", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(made.path) not in caught.value.for_client()
    assert list((made.path / "crts").iterdir()) == []
    assert not open_descriptors() - open_before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_a_folder_is_told(root: WorkRoot, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Making one needs room, too."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    made = root.new("r")
    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(DigsigError, match="no disk space left"):
        root.new("s")
    with pytest.raises(DigsigError, match="no disk space left"):
        made.write("crts/x", b"x")


# The daemon's own directory


def test_closing_removes_everything_and_gives_up_the_lock(parent: Path) -> None:
    """Twice is once, and it can be opened again, as a service may be started again."""
    open_before = open_descriptors()
    root = WorkRoot(parent)
    with pytest.raises(RuntimeError, match="not open"):
        root.new("r")
    for _ in range(2):
        root.open()
        root.new("r").write("crts/x", b"x")
        with pytest.raises(RuntimeError, match="already open"):
            root.open()
        root.close()
        root.close()
        assert list(parent.iterdir()) == []
    assert not open_descriptors() - open_before


def test_no_directory_is_made_again_by_a_request_that_comes_too_late(parent: Path) -> None:
    """Requests in other threads get a directory before the root is closed, or are told that the host stops."""
    for _ in range(25):
        root = WorkRoot(parent)
        root.open()
        path = root.path
        with ThreadPoolExecutor(2) as pool:
            late = [pool.submit(made_until_closed, root, start) for start in (0, 1 << 20)]
            while not list(path.iterdir())[1:]:
                pass
            root.close()
            assert all(isinstance(one.result(), Busy) for one in late)
        assert list(parent.iterdir()) == []


def made_until_closed(root: WorkRoot, start: int) -> DigsigError:
    """Make directories until that is refused."""
    for number in range(start, start + (1 << 20)):
        try:
            root.new(f"r{number}")
        except DigsigError as error:
            return error
    raise AssertionError("the root was not closed")


def test_a_bad_parent_is_told_when_opening(tmp_path: Path) -> None:
    """Missing, a file, with what spoils cst's paths in it, or where anybody could replace our directory."""
    (tmp_path / "file").touch()
    (tmp_path / "my-crts-2").mkdir()
    (tmp_path / "innocent").symlink_to("my-crts-2")
    (tmp_path / "everybody").mkdir()
    (tmp_path / "everybody").chmod(0o777)
    for name, reason in (
        ("missing", "No such file"),
        ("file", "Not a directory"),
        ("my-crts-2", "must not contain 'crts'"),
        ("innocent", "must not contain 'crts'"),
        ("everybody", "sticky"),
    ):
        with pytest.raises(DigsigError, match="work directory cannot be used") as caught:
            WorkRoot(tmp_path / name).open()
        assert reason in caught.value.hint
        assert str(tmp_path) not in caught.value.for_client()
    (tmp_path / "everybody").chmod(0o1777)
    root = WorkRoot(tmp_path / "everybody")
    root.open()
    root.close()


def test_a_name_by_chance_that_spoils_cst_is_not_taken(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is."""
    names = iter(["xxcrtsxx", "abcdefgh"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    root = WorkRoot(parent)
    root.open()
    assert root.path.name == "digsigd-abcdefgh"
    root.close()
    assert list(parent.iterdir()) == []


def test_a_directory_that_was_replaced_is_not_used_and_not_removed(parent: Path, tmp_path: Path) -> None:
    """What has its name by now is somebody's; the one that was moved away is emptied, for it is ours."""
    root = WorkRoot(parent)
    root.open()
    first = root.path
    root.new("r").write("keys/key.pem", b"secret")
    first.rename(tmp_path / "moved")
    first.mkdir()
    (first / "file").touch()
    second = root.new("s").path.parent
    assert second != first
    second.rename(tmp_path / "moved-2")
    second.mkdir()
    root.close()
    assert {path.name for path in parent.rglob("*")} == {first.name, second.name, "file"}
    assert list((tmp_path / "moved-2").iterdir()) == []


# The parent that is made where none is set


def test_a_parent_of_our_own_is_made_and_is_private(tmp_path: Path) -> None:
    """Whatever the umask says; it is kept, and serves the next start."""
    before = os.umask(0)
    try:
        for _ in range(2):
            root = WorkRoot(tmp_path / "own", own=True)
            root.open()
            assert root.path.parent == tmp_path / "own"
            assert mode(tmp_path / "own") == 0o700
            root.close()
    finally:
        os.umask(before)
    assert list((tmp_path / "own").iterdir()) == []


def test_a_parent_that_went_away_is_made_again(tmp_path: Path) -> None:
    """With the directory in it, when the next request comes."""
    root = WorkRoot(tmp_path / "own", own=True)
    root.open()
    shutil.rmtree(tmp_path / "own")
    root.new("r").write("file", b"x")
    assert mode(tmp_path / "own") == 0o700
    root.close()


def elsewhere(path: Path) -> None:
    (path.parent / "there").mkdir(mode=0o700)
    path.symlink_to("there")


def of_another_user(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (elsewhere, "may be a link"),
        (lambda path: path.symlink_to("nowhere"), "may be a link"),
        (Path.touch, "is not a directory"),
        (os.mkfifo, "is not a directory"),
        (lambda path: path.mkdir(mode=0o750), "has mode 0750"),
        (lambda path: path.mkdir(mode=0o701), "has mode 0701"),
        *([(of_another_user, "belongs to user 12345")] if os.geteuid() == 0 else []),
    ],
)
def test_a_parent_that_is_not_surely_our_own_is_refused(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """Whoever was there first may look into it, or put something else in its place; nothing is changed there."""
    before = os.umask(0)
    try:
        make(tmp_path / "own")
    finally:
        os.umask(before)
    was = (tmp_path / "own").lstat()
    with pytest.raises(DigsigError, match="work directory cannot be used") as caught:
        WorkRoot(tmp_path / "own", own=True).open()
    assert reason in caught.value.hint
    assert "daemon.workdir" in caught.value.hint
    assert str(tmp_path) not in caught.value.for_client()
    assert caught.value.detail == str(tmp_path / "own")
    assert (tmp_path / "own").lstat().st_mode == was.st_mode
    assert not list((tmp_path / "there").glob("*"))


def test_a_parent_of_our_own_is_not_made_where_anybody_could_replace_it(tmp_path: Path) -> None:
    """A temporary directory without the sticky bit is none for that."""
    (tmp_path / "everybody").mkdir()
    (tmp_path / "everybody").chmod(0o777)
    with pytest.raises(DigsigError, match="work directory cannot be used") as caught:
        WorkRoot(tmp_path / "everybody/own", own=True).open()
    assert "sticky" in caught.value.hint
    assert list((tmp_path / "everybody").iterdir()) == []


# Starting beside others


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked", "while it is held"])
def test_a_new_directory_that_another_cleans_away_is_replaced(
    parent: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """In each moment between making and locking it, when it looks like a dead daemon's."""
    victims: list[Path] = []
    held: list[int] = []
    make, flock = tempfile.mkdtemp, fcntl.flock

    def mkdtemp(**kwargs: Any) -> str:
        path = Path(make(**kwargs))
        if not victims:
            victims.append(path)
            if moment == "before it is opened":
                path.rmdir()
            elif moment == "while it is held":
                held.append(os.open(path, os.O_RDONLY))
                flock(held[0], fcntl.LOCK_EX)
        return str(path)

    def locking(descriptor: int, operation: int) -> None:
        if moment == "before it is locked" and victims[0].exists():
            victims[0].rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(fcntl, "flock", locking)
    open_before = open_descriptors()
    root = WorkRoot(parent)
    root.open()
    assert root.path not in victims
    assert root.path.is_dir()
    root.close()
    for descriptor in held:
        victims[0].rmdir()
        os.close(descriptor)
    assert list(parent.iterdir()) == []
    assert not open_descriptors() - open_before


def test_a_file_system_without_locks_is_told(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing stays on it."""

    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    open_before = open_descriptors()
    with pytest.raises(DigsigError, match="cannot be used"):
        WorkRoot(parent).open()
    assert list(parent.iterdir()) == []
    assert not open_descriptors() - open_before


# Several daemons

DAEMON = """
import subprocess
import sys
from pathlib import Path
from digsigd.signing.workroot import WorkRoot
root = WorkRoot(Path(sys.argv[1]))
root.open()
root.new("request").write("keys/secret_key.pem", b"secret")
print(root.path, flush=True)
if "child" in sys.argv:
    print(subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, close_fds=False).pid, flush=True)
sys.stdin.read()
root.close()
"""


class Daemon:
    """Another process with a work root; it ends when its input does."""

    def __init__(self, parent: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, parent, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def path(self) -> Path:
        return Path(self.line())

    def end(self) -> None:
        self.process.communicate("")
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


Start: TypeAlias = Callable[..., Daemon]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts daemons, and ends those that a failed test left running."""
    started: list[Daemon] = []

    def one(parent: Path, *arguments: str) -> Daemon:
        started.append(Daemon(parent, *arguments))
        return started[-1]

    yield one
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.kill()


def test_the_next_start_removes_what_a_killed_daemon_left_and_no_more(parent: Path, start: Start) -> None:
    """Daemons that share a parent keep their own, whoever of them starts or is killed."""
    first, second = start(parent), start(parent)
    first_path, second_path = first.path(), second.path()
    assert {first_path, second_path} == set(parent.iterdir())
    first.kill()
    assert (first_path / "request/keys/secret_key.pem").exists()
    third = start(parent)
    third_path = third.path()
    assert set(parent.iterdir()) == {second_path, third_path}
    assert (second_path / "request/keys/secret_key.pem").exists()
    second.end()
    third.end()
    assert list(parent.iterdir()) == []


STARTS = """
import sys
from pathlib import Path
from digsigd.signing.workroot import WorkRoot
sys.stdin.readline()
roots = []
for number in range(40):
    root = WorkRoot(Path(sys.argv[1]))
    root.open()
    root.new("request").write("keys/key.pem", b"mine")
    roots.append(root)
    if number % 2:
        roots.pop(0).close()
for root in roots:
    assert (root.path / "request/keys/key.pem").read_bytes() == b"mine", root.path
    root.close()
"""


def test_daemons_that_start_at_once_do_not_take_each_others_directories(parent: Path) -> None:
    """Each cleans up while the others are between making and locking theirs."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS, parent], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert list(parent.iterdir()) == []


def test_a_start_that_is_killed_while_it_cleans_up_is_cleaned_up_itself(parent: Path, start: Start) -> None:
    """With what it had moved into its own directory by then."""
    first = start(parent)
    left = first.path()
    first.kill()
    second = start(parent)
    own = second.path()
    assert not left.exists()
    (own / ".left-digsigd-xxxxxxxx/request").mkdir(parents=True)
    second.kill()
    start(parent).path()
    assert not own.exists()


def test_what_a_daemon_started_does_not_keep_the_lock(parent: Path, start: Start) -> None:
    """A cst that outlives its killed daemon for a moment is no reason to keep the directory."""
    killed = start(parent, "child")
    path, child = killed.path(), int(killed.line())
    killed.kill()
    try:
        root = WorkRoot(parent)
        root.open()
        assert not path.exists()
        root.close()
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("folder", ["/dev/shm", "/tmp"])
def test_a_directory_in_memory_is_known_as_such(folder: str) -> None:
    """As coreutils say, unless its mount is hidden, as it may be in a chroot; a request's directory knows it too."""
    said = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout
    parent = Path(tempfile.mkdtemp(dir=folder))
    descriptor = os.open(parent, os.O_RDONLY)
    mount = re.search(r"mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{descriptor}").read_text())
    os.close(descriptor)
    assert mount is not None
    is_shown = re.search(rf"^{mount[1]} ", Path("/proc/self/mountinfo").read_text(), re.MULTILINE) is not None
    root = WorkRoot(parent)
    root.open()
    assert root.new("r").in_memory == (is_shown and said.strip() in {"tmpfs", "ramfs"})
    root.close()
    parent.rmdir()
