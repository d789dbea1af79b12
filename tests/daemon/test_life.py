"""From start to end of a daemon's life, with nothing left behind: disconnects, signals, crashes, many requests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialImage, TrialPki
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, Daemon, Start
from tests.helpers.scrapes import place, scraped, value

CONFIG = """
[cst]
max_running = {running}
kill_after = 1
[cst.versions]
slow = "{tool}"
[daemon]
shutdown_grace = {grace}
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A tool in cst's place that says who it is, and waits to be told to go on as the real one."""
    path = tmp_path / "slow"
    cst = "$DIGSIGD_TEST_CST"
    path.write_text(
        f'#!/bin/sh\ntouch "{tmp_path}/running.$$"\nwhile [ ! -e "{tmp_path}/go" ]; do sleep 0.05; done\n'
        f'rm "{tmp_path}/running.$$"\nexec {cst} "$@"\n'.replace(cst, str(tmp_path / "cst"))
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def with_slow(start: Start, slow: Path, cst_base: Path) -> Callable[..., Daemon]:
    (slow.parent / "cst").symlink_to(cst_base / "cst-3.4.1/linux64/bin/cst")

    def make(*, running: int = 2, grace: float = 30, more: str = "") -> Daemon:
        return start(CONFIG.format(tool=slow, running=running, grace=grace) + more)

    return make


def running(slow: Path) -> list[int]:
    """The process ids of tools that run. That of one that was killed may be another program's by now."""
    found = []
    for path in slow.parent.glob("running.*"):
        with contextlib.suppress(OSError):
            if bytes(slow) in Path(f"/proc/{path.suffix[1:]}/cmdline").read_bytes():
                found.append(int(path.suffix[1:]))
    return found


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except httpx.HTTPError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def body_of(pki: TrialPki, version: str, image: TrialImage = IMAGE, *blocks: str) -> bytes:
    """A whole request as bytes, to send as one likes; with `blocks` instead of the image's own."""
    request = httpx.Request(
        "POST",
        "http://a/sign/imx",
        data={"machine": MACHINE, "cstversion": version},
        files={
            "csf": ("a.csf", pki.csf(*blocks or (image.blocks("spl.bin"),)), "text/plain"),
            "artifact": ("spl.bin", image.data),
        },
    )
    head = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
    return f"POST /sign/imx HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def connected(daemon: Daemon) -> socket.socket:
    host, port = daemon.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), DEADLINE)


def test_a_client_that_goes_away_stops_its_cst(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Its process is gone, so is its directory, and the next one gets its place."""
    daemon = with_slow(running=1)
    with connected(daemon) as connection:
        connection.sendall(body_of(pki, "slow"))
        daemon.wait_for(lambda: running(slow))
    daemon.wait_for(lambda: not running(slow), what="the end of cst")
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.wait_for_log("the client disconnected")
    assert daemon.post(pki).status_code == 200


def test_a_client_that_goes_away_within_its_upload_leaves_nothing(start: Start, pki: TrialPki) -> None:
    """At whatever byte of it."""
    daemon = start()
    whole = body_of(pki, "3.4.1")
    descriptors = daemon.descriptors()
    for cut in (1, 30, 200, 450, 1000, 3000, len(whole) // 2, len(whole) - 1):
        with connected(daemon) as connection:
            connection.sendall(whole[:cut])
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    assert daemon.post(pki).status_code == 200
    daemon.wait_for(lambda: len(daemon.descriptors()) <= len(descriptors) + 1, what="as few descriptors as before")


def test_a_client_that_goes_away_in_line_leaves_the_line(
    with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki
) -> None:
    """Those behind it move up."""
    daemon = with_slow(running=1)
    first, _ = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for(lambda: running(slow))
    with connected(daemon) as connection:
        connection.sendall(body_of(pki, "slow"))
        daemon.wait_for_log("received", 2)
    last, results = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for_log("the client disconnected")
    (slow.parent / "go").touch()
    first.join()
    last.join()
    assert isinstance(results[0], httpx.Response)
    assert results[0].status_code == 200


def test_requests_are_served_in_order_of_arrival(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """With one cst at a time, the answers come in the order of the requests."""
    daemon = with_slow(running=1, more='[metrics]\nendpoint = "tcp:0:interface=127.0.0.1"\n')
    url, threads = place(daemon), []

    def in_line() -> float:
        samples = scraped(url)
        return value(samples, "running") + value(samples, "waiting")

    for number in range(5):
        thread, _ = in_background(
            lambda number=number: daemon.post(pki, cstversion="slow", headers={"X-Request-Id": f"n{number}"})  # type: ignore[misc]
        )
        threads.append(thread)
        # Not only received: of two that are prepared in threads, either may be the first in the line.
        daemon.wait_for(lambda number=number: in_line() == number + 1, what="the request in the line")
    (slow.parent / "go").touch()
    for thread in threads:
        thread.join()
    answered = [line.split("[")[1][:2] for line in daemon.log().splitlines() if "answered 200" in line]
    assert answered == ["n0", "n1", "n2", "n3", "n4"]


def test_on_sigterm_what_runs_finishes(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Nothing new is accepted meanwhile; then it ends as twistd does, by that signal, and leaves no directory."""
    daemon = with_slow()
    thread, results = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for(lambda: running(slow))
    with httpx.Client() as kept:
        assert kept.get(f"{daemon.url}/healthz").status_code == 200
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_for_log("to finish")
        with pytest.raises(httpx.ConnectError):
            daemon.post(pki)
        # A connection from before lives on, but takes no new work.
        assert daemon.post(pki, client=kept).status_code == 503
        assert "shutting down" in kept.get(f"{daemon.url}/readyz").text
    # Whoever asks again neither breaks the stop nor cuts it short.
    for again in (signal.SIGTERM, signal.SIGINT):
        os.kill(daemon.pid, again)
        daemon.wait_for_log(f"received {again.name}, already shutting down")
    (slow.parent / "go").touch()
    thread.join()
    assert isinstance(results[0], httpx.Response)
    assert results[0].status_code == 200
    assert daemon.stop() == -signal.SIGTERM
    assert list(daemon.workdir.iterdir()) == []


def test_connections_that_idle_are_closed_at_the_end(start: Start) -> None:
    """They neither hold up the end, nor are they left to find out."""
    daemon = start()
    with connected(daemon) as idle, connected(daemon) as kept:
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert daemon.stop() == -signal.SIGTERM
        assert (idle.recv(1), kept.recv(1)) == (b"", b"")


def test_whoever_waits_for_keys_is_told_at_the_end(start: Start, pki: TrialPki) -> None:
    """A key store that does not answer holds up the end no longer than the grace."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        daemon = start("[daemon]\nshutdown_grace = 0.2\n[keys]\nidle_timeout = 50\n", DIGSIGSERVER_KEYFILE_URI=uri)
        thread, results = in_background(lambda: daemon.post(pki))
        daemon.wait_for_log("received")
        daemon.stop()
        thread.join()
    assert isinstance(results[0], httpx.Response)
    assert (results[0].status_code, "shutting down" in results[0].text) == (503, True)


def test_a_client_that_goes_away_while_its_artifact_is_read_is_no_fault(
    start: Start, tmp_path: Path, pki: TrialPki
) -> None:
    """Neither where cst has refused it meanwhile: an error for nobody is none."""
    tool = tmp_path / "refuses"
    tool.write_text("#!/bin/sh\necho no\nexit 1\n")
    tool.chmod(0o755)
    daemon = start(f'[cst.versions]\nrefuses = "{tool}"\n')
    image = TrialImage.of_size(64 << 20)
    # A first block that begins inside the file is read again for its digest.
    half = image.signed_size // 2
    blocks = [f'{image.address + at:#x} {at:#x} {half:#x} "spl.bin"' for at in (half, 0)]
    whole = body_of(pki, "refuses", image, *blocks)
    for times in range(1, 4):
        with connected(daemon) as connection:
            connection.sendall(whole)
            daemon.wait_for_log("ended with exit code 1", times)
        daemon.wait_for_log("the client disconnected", times)
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")


def test_a_work_directory_that_is_gone_is_made_again(start: Start, pki: TrialPki) -> None:
    """Somebody cleans up where they should not."""
    daemon = start()
    (own,) = daemon.workdir.iterdir()
    shutil.rmtree(own)
    assert daemon.post(pki).status_code == 200
    daemon.workdir.rename(daemon.folder / "elsewhere")
    # Readiness is looked at anew every two seconds.
    daemon.wait_for(lambda: "work directory" in httpx.get(f"{daemon.url}/readyz").text, what="readiness to tell")
    assert daemon.post(pki).status_code == 500
    (daemon.folder / "elsewhere").rename(daemon.workdir)
    assert daemon.post(pki).status_code == 200


def test_what_does_not_finish_within_the_grace_is_killed(
    with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki
) -> None:
    """The client is told, or its connection closed; no process and no file is left."""
    daemon = with_slow(grace=0.5)
    thread, results = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for(lambda: running(slow))
    assert daemon.stop() == -signal.SIGTERM
    thread.join()
    assert isinstance(results[0], httpx.Response)
    assert results[0].status_code == 503
    assert running(slow) == []
    assert list(daemon.workdir.iterdir()) == []


def test_what_a_crash_leaves_is_removed_by_the_next_start(
    with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki
) -> None:
    """Of the daemon that was killed, not of one that lives beside it."""
    neighbour, daemon = with_slow(), with_slow()
    neighbour_own = [path.name for path in neighbour.workdir.iterdir()]
    moved = neighbour.workdir
    thread, _ = in_background(lambda: daemon.post(pki, cstversion="slow"))
    daemon.wait_for(lambda: running(slow))
    assert daemon.left_behind() != []
    (orphan,) = running(slow)
    daemon.stop(signal.SIGKILL)
    thread.join()
    (slow.parent / "go").touch()
    # It writes into what is removed. (One that nobody reaps has no program any more.)
    daemon.wait_for(lambda: not Path(f"/proc/{orphan}/exe").exists(), what="the end of the orphan")
    left = {path.name for path in daemon.workdir.iterdir()}
    assert left
    daemon.start()
    assert not left & {path.name for path in daemon.workdir.iterdir()}
    assert daemon.left_behind() == []
    assert [path.name for path in moved.iterdir()] == neighbour_own
    assert daemon.post(pki).status_code == 200


def test_two_daemons_share_a_work_directory(start: Start, pki: TrialPki) -> None:
    """Each in a directory of its own that the other's start leaves alone."""
    one = start()
    other = start()
    other.stop()
    text = other.config.read_text().replace(str(other.workdir), str(one.workdir))
    other.config.write_text(text)
    other.start()
    assert len(list(one.workdir.iterdir())) == 2
    assert one.post(pki).status_code == 200
    assert other.post(pki).status_code == 200


def test_after_many_requests_nothing_is_left(start: Start, pki: TrialPki) -> None:
    """After 1,000 good and 1,000 failing requests: no file, no descriptor, no process, and hardly more memory."""
    daemon = start("[cst]\nmax_waiting = 64\n")
    assert daemon.post(pki).status_code == 200
    descriptors = daemon.descriptors()
    bad = [
        {"csf": pki.csf(IMAGE.blocks("spl.bin")).replace("Source index = 0", "Source index = 1")},
        {"machine": "unheard-of"},
        {"machine": "broken"},
        {"csf": "[Header"},
        {"cstversion": "1.0"},
        {"data": b""},
    ]
    daemon.put_keys("broken", b"no tarball at all")
    good_status, bad_status = [], []
    with httpx.Client() as client, ThreadPoolExecutor(8) as pool:

        def one(number: int) -> None:
            if number % 2:
                good_status.append(daemon.post(pki, client=client).status_code)
            else:
                bad_status.append(daemon.post(pki, client=client, **bad[number // 2 % len(bad)]).status_code)  # type: ignore[arg-type]

        list(pool.map(one, range(2000)))
    assert good_status == [200] * 1000
    assert len(bad_status) == 1000
    assert set(bad_status) == {400, 404, 422, 500}
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.wait_for(lambda: len(daemon.descriptors()) <= len(descriptors), what="as few descriptors as before")
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    assert children == []


# Between the start of a daemon and the moment when its reactor runs there is a while, as on a busy machine.
SLOW_START = """
import time
from twisted.application.app import ApplicationRunner

start = ApplicationRunner.startReactor

def later(*arguments):
    time.sleep(1)
    start(*arguments)

ApplicationRunner.startReactor = later
"""


def test_a_daemon_that_says_it_listens_can_be_stopped(start: Start, tmp_path: Path) -> None:
    """Signals are in order by then: one that comes at once neither ends it where it stands nor leaves anything."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    daemon = start(PYTHONPATH=str(tmp_path))
    daemon.stop()
    assert list(daemon.workdir.iterdir()) == []
