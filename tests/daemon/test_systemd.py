"""A daemon below systemd: what it reports, its watchdog, and a socket that stays open while it restarts."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_life import in_background, running, slow
from tests.daemon.test_workers import workers
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE
from tests.helpers.managed import Managed
from tests.helpers.proof import proven

__all__ = ["slow"]
Make = Callable[..., Managed]
WORKERS = pytest.mark.parametrize("count", [1, 2], ids=["one process", "two workers"])
ADOPTS = '[listen]\nendpoint = "systemd:name=digsigd"\nallow_anonymous = true\n'


def with_workers(count: int, more: str = "") -> str:
    return f"[daemon]\nworkers = {count}\n{more}"


def idle(count: int) -> str:
    return "0 running, 0 waiting" + (f", {count} of {count} workers" if count > 1 else "")


@pytest.fixture
def make(tmp_path: Path, cst_base: Path, pki: TrialPki) -> Iterator[Make]:
    """Makes daemons, not started; ends them after the test."""
    made: list[Managed] = []

    def one(config: str = "", *, listener: socket.socket | None = None, **environ: str) -> Managed:
        daemon = Managed(tmp_path, cst_base, config, listener=listener, environ=environ)
        made.append(daemon)
        daemon.put_keys(MACHINE, pki.tarball())
        return daemon

    yield one
    for daemon in made:
        if not daemon.process_ended():
            daemon.stop()
        daemon.notices.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port as a socket unit opens it."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server


@WORKERS
def test_it_is_ready_when_it_listens(make: Make, count: int) -> None:
    """Then with its status, and not before."""
    daemon = make(with_workers(count)).start()
    assert httpx.get(f"{daemon.url}/healthz", timeout=DEADLINE).status_code == 200
    assert daemon.hear()[0] == f"READY=1\nSTATUS={idle(count)}"


@WORKERS
def test_a_reload_is_reported_with_its_time(make: Make, count: int) -> None:
    """One that is refused is in the status until another succeeds."""
    daemon = make(with_workers(count)).start()
    good = daemon.config.read_text()
    daemon.forget()
    for text, lines in (
        (
            good + "\n[machines.x]\nfuses = 'abc'\n",
            ["READY=1", f"STATUS={idle(count)}; the last reload was refused, see the log"],
        ),
        (good, ["READY=1", f"STATUS={idle(count)}"]),
    ):
        daemon.config.write_text(text)
        before = time.monotonic_ns() // 1000
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_notice("READY=1")
        began, over = daemon.hear()[:2]
        found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", began)
        assert found is not None
        assert before <= int(found[1]) <= time.monotonic_ns() // 1000
        assert over.split("\n") == lines
        daemon.forget()


@WORKERS
def test_a_stop_is_reported_with_the_time_that_it_may_take(make: Make, count: int) -> None:
    """However long the unit would wait."""
    daemon = make(with_workers(count, "shutdown_grace = 600\n")).start()
    daemon.forget()
    daemon.stop()
    assert daemon.hear()[0] == f"STOPPING=1\nEXTEND_TIMEOUT_USEC=615000000\nSTATUS=stopping: {idle(count)}"
    assert not daemon.has_said("READY=1")


@WORKERS
def test_the_status_says_what_runs_and_what_waits(
    make: Make, slow: Path, cst_base: Path, pki: TrialPki, count: int
) -> None:
    """Of all workers together, and once for each change."""
    (slow.parent / "cst").symlink_to(cst_base / "cst-3.4.1/linux64/bin/cst")
    config = f'[cst]\nmax_running = 1\n[cst.versions]\nslow = "{slow}"\n{with_workers(count)}'
    daemon = make(config).start()
    signings = [in_background(lambda: daemon.post(pki, cstversion="slow")) for _ in range(2)]
    daemon.wait_for(lambda: running(slow), what="a run")
    busy = idle(count).replace("0 running, 0", "1 running, 1")
    daemon.wait_for_notice(f"STATUS={busy}")
    (slow.parent / "go").touch()
    for thread, answers in signings:
        thread.join()
        (answer,) = answers
        assert isinstance(answer, httpx.Response)
        assert answer.status_code == 200
    daemon.wait_for(lambda: daemon.hear()[-1] == f"STATUS={idle(count)}", what="the status of an idle daemon")
    assert not daemon.has_said("WATCHDOG=1")


def test_its_reactor_feeds_the_watchdog(make: Make) -> None:
    """Again and again, as the unit wants it."""
    daemon = make(WATCHDOG_USEC="300000").start()
    daemon.wait_for_notice("WATCHDOG=1", 5)


def test_the_supervisor_feeds_the_watchdog_for_its_workers(make: Make) -> None:
    """One that hangs is its matter, and not a reason to end the daemon; no worker sends notices."""
    daemon = make(with_workers(2), WATCHDOG_USEC="300000").start()
    stopped = workers(daemon)[2]
    os.kill(stopped, signal.SIGSTOP)
    try:
        daemon.forget()
        daemon.wait_for_notice("WATCHDOG=1", 5)
    finally:
        os.kill(stopped, signal.SIGCONT)
    for pid in workers(daemon).values():
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in environ
        assert b"WATCHDOG" not in environ
        assert b"LISTEN_FD" not in environ


@WORKERS
def test_no_connection_is_lost_over_a_restart(make: Make, listener: socket.socket, pki: TrialPki, count: int) -> None:
    """Clients that try again after a 503, as curl --retry does, get a verified blob for each request."""
    daemon = make(ADOPTS + with_workers(count), listener=listener).start()
    over = threading.Event()
    signed: list[int] = []
    lost: list[str] = []

    def sign() -> None:
        tries = 0
        while not over.is_set() or tries:
            tries += 1
            try:
                answer = daemon.post(pki)
            except httpx.HTTPError as error:
                lost.append(repr(error))
                return
            if answer.status_code == 503 and "Retry-After" in answer.headers and tries < 100:
                continue
            if answer.status_code != 200:
                lost.append(f"{answer.status_code} {answer.text}")
                return
            proven(pki, IMAGE, answer.content)
            signed.append(tries)
            tries = 0

    clients = [threading.Thread(target=sign) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            before = len(signed)
            daemon.wait_for(lambda before=before: len(signed) >= before + 8 or lost, what="signatures")
            daemon.stop()
            # Nobody accepts: what comes now waits.
            daemon.start()
    finally:
        over.set()
        for client in clients:
            client.join()
    assert lost == []


def test_what_connects_while_it_is_down_is_answered_later(make: Make, listener: socket.socket, pki: TrialPki) -> None:
    """The socket stays open, at the same address."""
    daemon = make(ADOPTS, listener=listener).start()
    daemon.stop()
    thread, answers = in_background(lambda: daemon.post(pki))
    daemon.start()
    thread.join()
    (answer,) = answers
    assert isinstance(answer, httpx.Response)
    proven(pki, IMAGE, answer.content)


@WORKERS
def test_a_unix_socket_of_systemd_stays_as_it_is(make: Make, count: int) -> None:
    """Its file, its mode and its queue, over a restart."""
    # A path of at most 108 bytes.
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory(prefix="digsigd-test-") as folder:
        path = Path(folder, "socket")
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(16)
        daemon = make(ADOPTS + with_workers(count), listener=listener)
        for _ in range(2):
            daemon.start()
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://localhost/healthz", timeout=DEADLINE).status_code == 200
            daemon.stop()
            assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("systemd:name=other", "systemd has not passed this socket"),
        ("systemd:index=1", "systemd has not passed this socket"),
        ("systemd:", "expected name= or index="),
    ],
)
def test_a_socket_that_was_not_passed_is_named(make: Make, listener: socket.socket, endpoint: str, reason: str) -> None:
    """And the start fails with one line."""
    daemon = make(ADOPTS.replace("systemd:name=digsigd", endpoint), listener=listener)
    assert reason in failed_start(daemon)


def test_a_socket_that_does_not_listen_is_refused(make: Make) -> None:
    """As one of a socket unit with Accept=yes, or of another kind."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        assert "ListenStream= and Accept=no" in failed_start(make(ADOPTS, listener=other))


def failed_start(daemon: Managed) -> str:
    with pytest.raises(AssertionError):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(DEADLINE) == 1
    assert "Traceback" not in daemon.log()
    assert daemon.hear() == []
    return daemon.log()
