"""What a newcomer runs first: the demonstration, and the script that gets a cst."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEADLINE = 120


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip


def test_the_demonstration_signs_and_verifies(cst_base: Path) -> None:
    """With the curl command to copy, the daemon's log, and nothing left running."""
    done = run(sys.executable, ROOT / "etc/demo", DIGSIGSERVER_IMX_CST_BASE=str(cst_base))
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("-F machine=", "fuse value", "answered 200", "Signed and verified"):
        assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_served_demonstration_can_be_tried(cst_base: Path) -> None:
    """The command that it prints works as it stands, until Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, ROOT / "etc/demo", "--serve", "--port", str(port)],
        env={**os.environ, "DIGSIGSERVER_IMX_CST_BASE": str(cst_base), "PYTHONUNBUFFERED": "1"},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if "Serving on" in line:
                break
        found = re.search(r"^ +(curl .*?/sign/imx)$", said, re.DOTALL | re.MULTILINE)
        assert found is not None, said
        done = subprocess.run(["sh", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 0, rest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_cst_that_signs_is_told_from_one_that_does_not(cst_base: Path, tmp_path: Path) -> None:
    """By signing with it."""
    for version in ("3.4.1", "4.0.1"):
        done = run(ROOT / "etc/get-cst", "--check", cst_base / f"cst-{version}/linux64/bin/cst")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "signs" in done.stdout + done.stderr
    (tmp_path / "srktool").symlink_to(cst_base / "cst-3.4.1/linux64/bin/srktool")
    crashing = tmp_path / "cst"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    for tool in (crashing, silent, tmp_path / "missing"):
        done = run(ROOT / "etc/get-cst", "--check", tool)
        assert done.returncode != 0
        assert str(tool) in done.stdout + done.stderr


def test_what_is_there_is_not_fetched_again(cst_base: Path) -> None:
    """A second run is quick: no package manager is asked."""
    began = time.monotonic()
    done = run(
        ROOT / "etc/get-cst",
        "--base",
        cst_base,
        "3.4.1",
        "4.0.1",
        PATH="/usr/bin:/bin",
        http_proxy="http://127.0.0.1:1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < DEADLINE


def test_where_apt_is_missing_it_says_what_to_do(tmp_path: Path) -> None:
    """And leaves nothing half-made."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python3", "env", "sh", "openssl"):
        found = next(Path(folder) / name for folder in os.environ["PATH"].split(":") if (Path(folder) / name).exists())
        (tools / name).symlink_to(sys.executable if name == "python3" else found)
    done = run(ROOT / "etc/get-cst", "--base", tmp_path / "nxp", "3.4.1", PATH=str(tools))
    assert done.returncode != 0
    assert "NXP" in done.stderr
    assert not (tmp_path / "nxp/cst-3.4.1").exists()


def test_a_version_that_is_nowhere_is_told(tmp_path: Path) -> None:
    """With those that there are."""
    done = run(ROOT / "etc/get-cst", "--base", tmp_path, "1.2.3")
    assert done.returncode != 0
    assert "3.4.1" in done.stderr
