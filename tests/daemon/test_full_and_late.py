"""A work directory that is full, and a clock that jumps, while a real daemon runs."""

from __future__ import annotations

import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import Daemon, Start
from tests.helpers.tools import own_mounts

# The daemon's work directory is a file system of its own, of 8 MiB, which only its mount namespace has.
SMALL = f"{shlex.join(own_mounts())} sh -c 'mount -t tmpfs -o size=8m none work && exec \"$@\"' -"


def inside(daemon: Daemon) -> Path:
    """The work directory as the daemon sees it."""
    return Path(f"/proc/{daemon.pid}/root{daemon.workdir}")


def fill(folder: Path, spare: int = 0) -> Path:
    """Leave so many bytes free."""
    room = os.statvfs(folder)
    path = folder / "filling"
    path.write_bytes(bytes(room.f_bavail * room.f_frsize - spare))
    return path


@pytest.mark.parametrize("spare", [0, 8 << 10, 40 << 10])
def test_a_full_work_directory_is_told_to_come_again(start: Start, pki: TrialPki, spare: int) -> None:
    """Wherever the space runs out, the request is 503 with Retry-After, and so is /readyz; with room it is signed."""
    daemon = start(DAEMON_PREFIX=SMALL)
    assert daemon.post(pki).status_code == 200
    filling = fill(inside(daemon), spare)
    answer = daemon.post(pki, headers={"Accept": "application/json"})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["type"] == "urn:digsigd:problem:no-space"
    daemon.wait_for(lambda: httpx.get(f"{daemon.url}/readyz").status_code == 503, what="not ready")
    assert "work directory: this signing host has no disk space left" in httpx.get(f"{daemon.url}/readyz").text
    filling.unlink()
    assert daemon.post(pki).status_code == 200
    daemon.wait_for(lambda: httpx.get(f"{daemon.url}/readyz").status_code == 200, what="ready")


def test_cst_that_runs_out_of_space_has_refused_nothing(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """It fails as for a wrong description, but a later try can succeed: 503, not 422."""
    tool = tmp_path / "filling"
    tool.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 1000000 /dev/zero > $i; done; exit 1\n")
    tool.chmod(0o755)
    daemon = start(f'[cst.versions]\nfilling = "{tool}"\n', DAEMON_PREFIX=SMALL)
    answer = daemon.post(pki, cstversion="filling")
    assert answer.status_code == 503, answer.text
    assert "no disk space left" in answer.text
    assert daemon.post(pki).status_code == 200


@pytest.mark.parametrize("jump", ["+3600", "-3600"])
def test_no_deadline_follows_the_time_of_day(
    start: Start, pki: TrialPki, cst_base: Path, tmp_path: Path, jump: str
) -> None:
    """A clock that is set an hour forward or back while cst runs neither ends the request nor holds up later ones."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    real = cst_base / "cst-3.4.1/linux64/bin/cst"
    running, go_on = tmp_path / "running", tmp_path / "go-on"
    tool = tmp_path / "patient"
    tool.write_text(
        f'#!/bin/sh\ntouch {running}\nwhile [ ! -e {go_on} ]; do sleep 0.05; done\nexec {shlex.quote(str(real))} "$@"\n'
    )
    tool.chmod(0o755)
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    daemon = start(
        f'[cst.versions]\npatient = "{tool}"\n[cst]\ntimeout = 100\n',
        LD_PRELOAD=str(library), FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1", DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    with ThreadPoolExecutor(1) as threads:
        signing = threads.submit(daemon.post, pki, cstversion="patient")
        daemon.wait_for(running.exists)
        offset.write_text(f"{jump}\n")
        for _ in range(5):
            # Each is a turn of the reactor, in which what is late by the clock would end; one signs.
            assert httpx.get(f"{daemon.url}/healthz").status_code == 200
        assert daemon.post(pki, headers={"X-Request-Id": "after-the-jump"}).status_code == 200
        go_on.touch()
        assert signing.result().status_code == 200
    hours = {line[11:13] for line in daemon.log().splitlines() if line[10:11] == "T"}
    assert len(hours) == 2, hours
