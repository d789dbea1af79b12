"""Limits of a daemon with two workers: they hold for the host, whichever worker a request arrives at."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_fairness import CALLERS, OTHER, bearer
from tests.daemon.test_hsm import PIN, MakeDaemon, hsm, make, post
from tests.daemon.test_life import in_background, running, slow
from tests.daemon.test_wire import address
from tests.daemon.test_workers import TWO, is_alive, who_signed, with_slow, workers
from tests.helpers.daemons import IMAGE, RIGHTS, TOKEN, Daemon, Start
from tests.helpers.hsm import SoftHsm
from tests.helpers.slow_uploads import slow_uploads

__all__ = ["hsm", "make", "slow", "with_slow"]


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_csts_run_at_once(start: Start, tmp_path: Path, cst_base: Path, pki: TrialPki, most: int) -> None:
    """Counted by a tool in cst's place, with 16 clients of both workers; all are signed."""
    tool = tmp_path / "tool"
    cst = cst_base / "cst-3.4.1/linux64/bin/cst"
    tool.write_text(
        f'#!/bin/sh\ntouch "{tmp_path}/run.$$"\nls "{tmp_path}" | grep -c "^run" >> "{tmp_path}/counts"\n'
        f'sleep 0.1\nrm "{tmp_path}/run.$$"\nexec "{cst}" "$@"\n'
    )
    tool.chmod(0o755)
    daemon = start(f'{TWO}[cst]\nmax_running = {most}\n[cst.versions]\ntool = "{tool}"\n')
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: daemon.post(pki, cstversion="tool").status_code, range(48)))
    assert set(answers) == {200}
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 48
    assert max(counts) == most
    assert who_signed(daemon) == {"w1", "w2"}


def test_so_many_wait(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Two run and three wait on the host; all others are 503 with Retry-After, by both workers."""
    daemon = with_slow(running=2, more="max_waiting = 3\n")
    calls = [in_background(lambda: daemon.post(pki, cstversion="slow")) for _ in range(12)]
    daemon.wait_for(lambda: sum(bool(results) for _, results in calls) == 7)
    refused = [results[0] for _, results in calls if results]
    assert [getattr(one, "status_code", one) for one in refused] == [503] * 7
    assert all(isinstance(one, httpx.Response) and int(one.headers["Retry-After"]) > 0 for one in refused)
    # A slot is given before the tool in it says that it runs.
    daemon.wait_for(lambda: len(running(slow)) == 2)
    (slow.parent / "go").touch()
    for thread, _ in calls:
        thread.join()
    assert sorted(getattr(results[0], "status_code", 0) for _, results in calls) == [200] * 5 + [503] * 7


def test_the_slots_of_a_killed_worker_are_free(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Its requests are lost; those that wait in the other one have their turn then."""
    daemon = with_slow(running=1)
    first, _ = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for(lambda: len(running(slow)) == 1)
    found = re.search(r"w(\d) \[\w+\] received", daemon.log())
    assert found is not None
    holds = int(found[1])
    waiting: list[tuple[threading.Thread, list[object]]] = []

    def received_by(worker: str) -> int:
        return len(re.findall(rf"w{worker} \[\w+\] received", daemon.log_so_far()))

    # The kernel says which worker accepts a connection: a few more until the other one has some, too.
    while len(waiting) < 8 or (not received_by(str(3 - holds)) and len(waiting) < 30):
        waiting.append(in_background(lambda: daemon.post(pki, cstversion="slow")))
        daemon.wait_for(lambda: received_by("[12]") == len(waiting) + 1, what="a request more")
    others = received_by(str(3 - holds))
    assert others > 0
    left = running(slow)
    os.kill(workers(daemon)[holds], signal.SIGKILL)
    first.join()
    # Without a cage nothing ends the tool of a worker that was killed.
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (slow.parent / "go").touch()
    for thread, _ in waiting:
        thread.join()
    signed = [results[0] for _, results in waiting if getattr(results[0], "status_code", 0) == 200]
    assert len(signed) == others
    assert all(not is_alive(pid) for pid in left)
    assert daemon.post(pki, cstversion="slow").status_code == 200


def test_uploads_are_counted_for_the_host(start: Start, pki: TrialPki) -> None:
    """With 128 that send nothing more, shared by both workers, each further one is 503; when they end, all is free."""
    daemon = start(TWO)
    head = (
        "POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 100000\r\n\r\n-"
    )
    with contextlib.ExitStack() as held:
        for _ in range(140):
            held.enter_context(socket.create_connection(address(daemon))).sendall(head.encode())
        daemon.wait_for_log("answered 503", 12)
        assert [daemon.post(pki).status_code for _ in range(4)] == [503] * 4
        assert daemon.log().count("answered 503") == 16
        assert set(re.findall(r"(w\d) \[\w+\] answered 503", daemon.log())) <= {"w1", "w2"}
    daemon.wait_for(lambda: daemon.post(pki).status_code == 200)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: daemon.post(pki).status_code, range(16))) == {200}


def test_the_uploads_of_a_killed_worker_are_not_counted_any_more(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """Though they were all that their caller may have."""
    (tmp_path / "other").write_text(OTHER)
    config = CALLERS.format(folder=tmp_path, more="", rights=RIGHTS)
    daemon = start(f"{config}{TWO}[upload]\nmax_at_once = 6\n")
    with slow_uploads(daemon, OTHER, 5):
        daemon.wait_for_log("answered 503", 2)
        assert daemon.post(pki, headers=bearer(OTHER)).status_code == 503
        for turn, pid in enumerate(workers(daemon).values()):
            os.kill(pid, signal.SIGKILL)
            daemon.wait_for_log("is ready (process", 3 + turn)
        assert [daemon.post(pki, headers=bearer(OTHER)).status_code for _ in range(6)] == [200] * 6


def test_a_caller_has_its_share_of_the_host(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """Half of the uploads, counted over both workers; another caller is signed meanwhile."""
    (tmp_path / "other").write_text(OTHER)
    daemon = start(CALLERS.format(folder=tmp_path, more="", rights=RIGHTS) + TWO)
    with slow_uploads(daemon, OTHER, 80):
        daemon.wait_for_log("answered 503", 80 - 64)
        assert [daemon.post(pki, headers=bearer(TOKEN)).status_code for _ in range(4)] == [200] * 4
        refused = [daemon.post(pki, headers=bearer(OTHER)) for _ in range(4)]
        assert {one.status_code for one in refused} == {503}
        assert "too many requests of caller 'greedy'" in refused[0].text
        assert daemon.log().count("answered 503") == 20


def test_a_rate_is_one_for_the_host(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """Six requests a minute, asked by eight at once of both workers: six are signed, the others 429."""
    (tmp_path / "other").write_text(OTHER)
    daemon = start(CALLERS.format(folder=tmp_path, more="rate = 6\n", rights=RIGHTS) + TWO)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: daemon.post(pki, headers=bearer(OTHER)).status_code, range(16)))
    # One more for each 10 s that a busy machine takes.
    more = int((time.monotonic() - began) // 10)
    assert set(told) == {200, 429}
    assert 6 <= told.count(200) <= 6 + more
    assert daemon.post(pki, headers=bearer(TOKEN)).status_code == 200


def test_a_wrong_pin_is_tried_once_on_the_host(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, tmp_path: Path) -> None:
    """However many ask both workers at once, and after a worker was replaced; a reload tries the new PIN."""
    daemon = make("wrong-1234", more="max_sessions = 4\n" + TWO)
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(daemon, pki, text, "3.4.1"), range(24)))
    assert {answer.status_code for answer in answers} == {500}
    assert all("the PIN is wrong" in answer.text for answer in answers)
    assert daemon.log().count("is not used until the daemon reloads") == 1
    assert set(re.findall(r"(w\d) \[\w+\] answered 500", daemon.log())) == {"w1", "w2"}
    daemon.wait_for(lambda: "token release: the PIN is wrong" in httpx.get(f"{daemon.url}/readyz").text)
    for turn, pid in enumerate(workers(daemon).values()):
        os.kill(pid, signal.SIGKILL)
        daemon.wait_for_log("is ready (process", 3 + turn)
    assert "the PIN is wrong" in post(daemon, pki, text, "3.4.1").text
    assert daemon.log().count("is not used until the daemon reloads") == 1
    (tmp_path / "pin").write_text("wrong-1234-too")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("reloaded")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(daemon, pki, text, "3.4.1"), range(16)))
    assert daemon.log().count("is not used until the daemon reloads") == 2
    (tmp_path / "pin").write_text(PIN)
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("reloaded", 2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(daemon, pki, text, "3.4.1"), range(16)))
    assert {answer.status_code for answer in answers} == {200}
