"""`make fresh`: its mistakes are told before anything is made. CI runs it whole, in the other Debian release."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "etc/fresh-debian"


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("suite", ["", "Trixie", "../etc", "trixie; true", "-x"])
def test_a_release_has_to_be_named(suite: str, tmp_path: Path) -> None:
    """In small letters, as Debian names it; nothing is made."""
    done = run("make", "--no-print-directory", "fresh", f"SUITE={suite}", f"FRESH={tmp_path}/fresh")
    assert done.returncode != 0
    assert "SUITE=trixie" in done.stderr
    assert not (tmp_path / "fresh").exists()


def test_a_command_has_to_be_named(tmp_path: Path) -> None:
    """`make fresh` has one, the README's."""
    done = run(SCRIPT, "trixie", FRESH=str(tmp_path / "fresh"))
    assert done.returncode == 1
    assert "no command given" in done.stderr
    assert not (tmp_path / "fresh").exists()
    shown = run("make", "-n", "fresh", "SUITE=trixie")
    assert shown.returncode == 0
    assert "etc/fresh-debian 'trixie'" in shown.stdout


def test_whoever_is_not_root_is_told(tmp_path: Path) -> None:
    """Before anything is installed."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "id").write_text("#!/bin/sh\necho 1000\n")
    (tools / "id").chmod(0o755)
    done = run(SCRIPT, "trixie", "true", PATH=f"{tools}:{os.environ['PATH']}", FRESH=str(tmp_path / "fresh"))
    assert done.returncode == 1
    assert "sudo make fresh SUITE=trixie" in done.stderr
    assert not (tmp_path / "fresh").exists()


def test_where_there_are_no_namespaces_it_says_so(tmp_path: Path) -> None:
    """As in most containers: it ends with an error, and is never taken for a run that went well."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("id", "echo 0"), ("unshare", "exit 1"), ("apt-get", "exit 0")):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    done = run(SCRIPT, "trixie", "true", PATH=f"{tools}:{os.environ['PATH']}", FRESH=str(tmp_path / "fresh"))
    assert done.returncode == 1
    assert "namespaces" in done.stderr
    assert not (tmp_path / "fresh").exists()


def test_the_scripts_of_the_house_are_shell_scripts_without_mistakes() -> None:
    """As far as the shell itself sees them."""
    bash = shutil.which("bash")
    assert bash is not None
    for path in (SCRIPT, ROOT / ".ci/run", ROOT / "etc/need", ROOT / "etc/make-venv"):
        assert run(bash, "-n", path).returncode == 0
        assert os.access(path, os.X_OK)
