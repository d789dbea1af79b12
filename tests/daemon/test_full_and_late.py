"""A work directory that is full, and a clock that jumps, while a real daemon runs."""

from __future__ import annotations

import os
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialImage, TrialPki
from tests.daemon.test_wire import address
from tests.helpers.daemons import Daemon, Start
from tests.helpers.tools import own_mounts

# The daemon's work directory is a file system of its own, of 8 MiB, which only its mount namespace has.
SMALL = f"{shlex.join(own_mounts())} sh -c 'mount -t tmpfs -o size=8m none work && exec \"$@\"' -"


def inside(daemon: Daemon) -> Path:
    """The work directory as the daemon sees it."""
    return Path(f"/proc/{daemon.pid}/root{daemon.workdir}")


def fill(folder: Path, spare: int = 0) -> Path:
    """Leave so many bytes free, or what the daemon leaves of them: it may write at the same time."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        room = os.statvfs(folder)
        file.write(bytes(room.f_bavail * room.f_frsize - spare))
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


def head(length: int, *more: str) -> bytes:
    """The headers of an upload, to be followed by `length` bytes."""
    lines = ("Host: a", "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {length}", *more)
    return "\r\n".join(("POST /sign/imx HTTP/1.1", *lines, "", "")).encode()


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    connection.settimeout(60)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_body_without_room_is_refused_before_it_is_read(start: Start, pki: TrialPki) -> None:
    """A client that waits for 100 Continue gets 503 with Retry-After instead, and never sends its body."""
    daemon = start(DAEMON_PREFIX=SMALL)
    with socket.create_connection(address(daemon)) as one:
        one.sendall(head(3 << 20, "Expect: 100-continue"))
        answer = answer_of(one)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 30\r\n" in answer
    assert b"no disk space left" in answer
    assert daemon.post(pki).status_code == 200


def test_room_is_reserved_as_long_as_its_request_lasts(start: Start, pki: TrialPki) -> None:
    """What a slow upload has announced is not given to another; a small one has room, and so has anyone afterwards."""
    daemon = start(DAEMON_PREFIX=SMALL)
    with socket.create_connection(address(daemon)) as slow:
        slow.sendall(head(2 << 20) + b"--")
        daemon.wait_for(lambda: daemon.post(pki, data=bytes(3 << 19)).status_code == 503, what="the reservation")
        assert daemon.post(pki).status_code == 200
    image = TrialImage.of_size(3 << 19)
    daemon.wait_for(lambda: daemon.post(pki, image).status_code == 200, what="room")
    assert daemon.left_behind() == []


@pytest.mark.parametrize("length", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
def test_room_that_others_take_meanwhile_is_missed_cleanly(start: Start, length: str) -> None:
    """An upload that runs out of space although it had room is 503 with Retry-After, and leaves nothing behind."""
    daemon = start("[upload]\nkeep_free = 0\n", DAEMON_PREFIX=SMALL)
    part = b'--b\r\nContent-Disposition: form-data; name="artifact"; filename="spl.bin"\r\n\r\n' + bytes(500_000)
    more = bytes(500_000)
    if chunked := length.startswith("Transfer"):
        part, more = (b"%x\r\n%s\r\n" % (len(data), data) for data in (part, more))
    with socket.create_connection(address(daemon)) as one:
        one.sendall(head(2_000_000).replace(b"Content-Length: 2000000", length.encode()) + part)
        daemon.wait_for(lambda: any(inside(daemon).glob("*/*/artifact*")), what="the artifact")
        fill(inside(daemon), 4096)
        one.sendall(more)
        answer = answer_of(one)
    assert answer.startswith(b"HTTP/1.1 503 "), (answer, chunked)
    assert b"\r\nRetry-After: 30\r\n" in answer
    daemon.wait_for(lambda: not any(inside(daemon).glob("*/*/artifact*")), what="an empty directory")


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
    # (That the hour is another one says nothing: it may have ended meanwhile.)
    times = [datetime.fromisoformat(line[:19]) for line in daemon.log().splitlines() if line[10:11] == "T"]
    assert any(abs(after - before) > timedelta(minutes=50) for before, after in pairwise(times)), times
