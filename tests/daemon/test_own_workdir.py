"""Where nothing says where requests have their directories: in a folder of the daemon's own, beside others'."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon

DEADLINE = 60


@pytest.fixture
def daemon(tmp_path: Path, cst_base: Path) -> Daemon:
    """One with defaults, and a temporary directory that others use as well."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    made = Daemon(tmp_path, cst_base, environ={"TMPDIR": str(temporary)})
    made.config.write_text(made.config.read_text().replace(f'workdir = "{made.workdir}"', ""))
    made.environ.pop("RUNTIME_DIRECTORY", None)
    made.workdir.rmdir()
    made.workdir = temporary / f"digsigd.{os.geteuid()}"
    return made


def strangers(temporary: Path) -> dict[str, bytes]:
    """What others have in the temporary directory, under names that begin as ours."""
    for name in ("digsigd-foo", "digsigd-notes-of-ann", "digsigd-abcdefgh", "digsigd-1234567_"):
        (temporary / name).mkdir(mode=0o700)
        (temporary / name / "work").write_bytes(b"of months")
    return {str(path.relative_to(temporary)): path.read_bytes() for path in temporary.glob("*/work")}


def check(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command("--check"), env=daemon.environ, cwd=daemon.folder, capture_output=True, text=True, check=False,
        timeout=DEADLINE,
    )  # fmt: skip


def test_a_start_removes_nothing_in_the_temporary_directory(daemon: Daemon, pki: TrialPki) -> None:
    """What a crash left is in the daemon's own folder, and is removed there by the next start."""
    temporary = daemon.workdir.parent
    theirs = strangers(temporary)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        assert stat.S_IMODE(daemon.workdir.stat().st_mode) == 0o700
        (left,) = daemon.workdir.iterdir()
        daemon.stop(signal.SIGKILL)
        assert left.exists()
        daemon.start()
        assert not left.exists()
        assert len(list(daemon.workdir.iterdir())) == 1
        assert daemon.post(pki).status_code == 200
    finally:
        daemon.stop()
    assert list(daemon.workdir.iterdir()) == []
    assert {str(path.relative_to(temporary)): path.read_bytes() for path in temporary.glob("*/work")} == theirs
    assert "left alone" not in daemon.log()


def test_what_looks_like_its_own_is_named_once(daemon: Daemon) -> None:
    """In the log at a start, and by `--check`."""
    daemon.workdir.mkdir(mode=0o700)
    (daemon.workdir / "digsigd-foo").mkdir()
    daemon.start()
    daemon.stop()
    assert daemon.log().count("left alone") == 1
    assert "digsigd-foo (its name is not that of a daemon's directory)" in daemon.log()
    assert (daemon.workdir / "digsigd-foo").is_dir()
    assert "digsigd-foo (its name is not that of a daemon's directory)" in check(daemon).stdout


@pytest.mark.parametrize("what", ["open to others", "a link"])
def test_a_folder_that_is_not_its_own_ends_the_start_with_one_line(daemon: Daemon, what: str) -> None:
    """Which says which, why, and what to do; nothing is written there."""
    elsewhere = daemon.folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if what == "a link":
        daemon.workdir.symlink_to(elsewhere)
    else:
        daemon.workdir.mkdir()
        daemon.workdir.chmod(0o755)
    done = subprocess.run(
        daemon.command(), env=daemon.environ, cwd=daemon.folder, capture_output=True, text=True, check=False,
        timeout=DEADLINE,
    )  # fmt: skip
    checked = check(daemon)
    for ended in (done, checked):
        assert ended.returncode == 1
        told = ended.stdout + ended.stderr
        assert "Traceback" not in told
        (line,) = [line for line in told.splitlines() if "work directory cannot be used" in line]
        assert str(daemon.workdir) in line
        assert "set daemon.workdir" in line
    assert list(daemon.workdir.iterdir()) == list(elsewhere.iterdir()) == []
