"""A daemon with two workers: who dies, who is replaced, who is told, and what is lost."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_life import CONFIG, in_background, running, slow
from tests.daemon.test_reload import CALLER, change, reload, status
from tests.helpers.certificates import Authority
from tests.helpers.daemons import IMAGE, RUNNING, Daemon, Start
from tests.helpers.proof import proven
from tests.helpers.tls_daemons import OwnTls

TWO = "[daemon]\nworkers = 2\n"
__all__ = ["slow"]


@pytest.fixture
def with_slow(start: Start, slow: Path, cst_base: Path) -> Callable[..., Daemon]:
    """Two workers, and a tool that waits in cst's place."""
    (slow.parent / "cst").symlink_to(cst_base / "cst-3.4.1/linux64/bin/cst")

    def make(*, running: int = 2, grace: float = 30, more: str = "") -> Daemon:
        config = CONFIG.format(tool=slow, running=running, grace=grace)
        return start(config.replace("[daemon]\n", TWO).replace("[cst]\n", f"[cst]\n{more}"))

    return make


def workers(daemon: Daemon) -> dict[int, int]:
    """The process id of each worker that runs, by its number."""
    found = {
        int(number): int(pid) for number, pid in re.findall(r"worker (\d+) is ready \(process (\d+)\)", daemon.log())
    }
    return {number: pid for number, pid in found.items() if is_alive(pid)}


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def descendants(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def who_signed(daemon: Daemon) -> set[str]:
    return set(re.findall(r"info  (w\d) \[[\w-]+\] verified", daemon.log()))


def test_both_sign(start: Start, pki: TrialPki) -> None:
    """With 40 requests of 8 clients, each line tells by which worker; the supervisor signs nothing."""
    daemon = start(TWO)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: daemon.post(pki), range(40)))
    for answer in answers:
        proven(pki, IMAGE, answer.content)
    assert who_signed(daemon) == {"w1", "w2"}
    assert len(workers(daemon)) == 2
    assert httpx.get(f"{daemon.url}/readyz").status_code == 200


def test_json_lines_have_the_worker(start: Start, pki: TrialPki) -> None:
    """As a number; lines of the supervisor have none."""
    daemon = start(TWO, form="json")
    assert daemon.post(pki).status_code == 200
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    assert {line["worker"] for line in lines if line["event"] == "verified"} <= {1, 2}
    assert all("worker" in line for line in lines if line["event"] in {"cage", "received", "answered"})
    assert [line for line in lines if line["event"] == "listening" and "worker" not in line]


def test_tls_is_done_by_the_workers(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """With client certificates; a new certificate is used after a reload."""
    daemon = OwnTls(tmp_path, cst_base, pki)
    daemon.config.write_text(daemon.config.read_text().replace("[daemon]\n", TWO))
    daemon.start()
    try:
        assert {daemon.curl(certificate="ci")[0] for _ in range(4)} == {200}
        daemon.put_host(tmp_path)
        daemon.reload()
        assert {daemon.curl(certificate="ci")[0] for _ in range(4)} == {200}
    finally:
        daemon.stop()


def test_a_unix_socket_is_shared(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """A worker that ends does not take its file away; the daemon does at its end."""
    daemon = start(TWO)
    daemon.stop()
    path = tmp_path / "socket"
    change(daemon, "tcp:0:interface=127.0.0.1", f"unix:{path}:mode=660")
    with daemon.logfile.open("ab") as log:
        daemon.process = subprocess.Popen(
            daemon.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.environ, cwd=daemon.folder
        )
    RUNNING.add(daemon)
    daemon.wait_for_log("listening on", 2)
    daemon.url = "http://localhost"
    for turn in range(2):
        assert path.stat().st_mode & 0o777 == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert daemon.post(pki, client=client).status_code == 200
        if not turn:
            ready = daemon.log().count("is ready (process")
            os.kill(workers(daemon)[1], signal.SIGTERM)
            daemon.wait_for_log("is ready (process", ready + 1)
    daemon.stop()
    assert not path.exists()


def test_a_socket_of_systemd_is_shared(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """Workers accept from the socket that the supervisor was given."""
    prefix = tmp_path / "activate"
    prefix.write_text(
        f"#!{sys.executable}\nimport os, socket, sys\nlistens = socket.create_server(('127.0.0.1', 0), backlog=64)\n"
        "os.dup2(listens.fileno(), 3)\nos.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='digsigd', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    prefix.chmod(0o755)
    config = f'[listen]\nendpoint = "systemd:domain=INET:index=0"\nallow_anonymous = true\n{TWO}'
    daemon = start(config, DAEMON_PREFIX=str(prefix))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: daemon.post(pki).status_code, range(16))) == {200}
    os.kill(workers(daemon)[2], signal.SIGKILL)
    daemon.wait_for_log("is ready (process", 3)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: daemon.post(pki).status_code, range(16))) == {200}


def test_an_endpoint_with_tls_of_twisted_is_shared(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """`ssl:` as Twisted knows it, with the key and the certificate that it names."""
    authority = Authority()
    certificate, key = authority.issue("host")
    (tmp_path / "host.pem").write_bytes(certificate + key)
    config = f'[listen]\nendpoint = "ssl:0:interface=127.0.0.1:privateKey={tmp_path}/host.pem"\n{TWO}'
    daemon = start(config)
    with httpx.Client(verify=False) as client:  # noqa: S501
        daemon.url = daemon.url.replace("http:", "https:")
        assert [daemon.post(pki, client=client).status_code for _ in range(4)] == [200] * 4


def test_a_killed_supervisor_leaves_nothing(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Its workers end with it, and so does each cst, though it ignores everything but SIGKILL."""
    daemon = with_slow(running=4)
    calls = [in_background(lambda: daemon.post(pki, cstversion="slow")) for _ in range(4)]
    daemon.wait_for(lambda: len(running(slow)) == 4)
    left = [*descendants(daemon.pid), *running(slow)]
    assert len(set(workers(daemon).values()) & set(left)) == 2
    daemon.kill()
    daemon.wait_for(lambda: not any(map(is_alive, left)), what="the end of all")
    for thread, _ in calls:
        thread.join()
    assert list(daemon.workdir.iterdir()) == []


def test_on_sigterm_nothing_accepted_is_lost(with_slow: Callable[..., Daemon], slow: Path, pki: TrialPki) -> None:
    """Two run and six wait for their turn in both workers; all are signed before the daemon ends."""
    daemon = with_slow(running=2)
    calls = [in_background(lambda: daemon.post(pki, cstversion="slow")) for _ in range(8)]
    daemon.wait_for(lambda: daemon.log_so_far().count("received") == 8 and len(running(slow)) == 2)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for_log("to finish", 2)
    (slow.parent / "go").touch()
    daemon.stop()
    for thread, _ in calls:
        thread.join()
    assert [getattr(results[0], "status_code", results) for _, results in calls] == [200] * 8
    assert daemon.left_behind() == []
    assert "the supervisor has ended" not in daemon.log()


def test_a_reload_reaches_all(start: Start, pki: TrialPki) -> None:
    """A token that is replaced is refused by both afterwards, and the new one accepted; it is told once."""
    daemon = start(CALLER + TWO)
    assert {status(daemon, pki) for _ in range(6)} == {200}
    (daemon.folder / "token").write_text("the-second-token-of-the-team")
    assert reload(daemon).count("reloaded") == 1
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(daemon, pki), range(24))) == {401}
        assert set(pool.map(lambda _: status(daemon, pki, "the-second-token-of-the-team"), range(24))) == {200}
    assert who_signed(daemon) == {"w1", "w2"}


def test_a_bad_configuration_changes_none(start: Start, pki: TrialPki) -> None:
    """Whether the file or what it names is bad: told once, and also a worker that is replaced has what was before."""
    daemon = start(CALLER + TWO)
    change(daemon, 'token_file = "token"', 'token_file = "nowhere"')
    told = reload(daemon)
    assert told.count("not reloaded") == 1
    assert "nowhere" in told
    change(daemon, 'token_file = "nowhere"', "nonsense = 1")
    assert reload(daemon).count("not reloaded") == 1
    os.kill(workers(daemon)[2], signal.SIGKILL)
    daemon.wait_for_log("is ready (process", 3)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(daemon, pki), range(16))) == {200}


def test_a_worker_that_hangs_or_is_away_is_told_by_the_others(start: Start, pki: TrialPki) -> None:
    """/readyz answers for all, whichever worker is asked."""
    daemon = start(TWO)
    assert {httpx.get(f"{daemon.url}/readyz").status_code for _ in range(4)} == {200}
    stopped = workers(daemon)[2]
    os.kill(stopped, signal.SIGSTOP)
    try:
        answers = []
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(httpx.get, f"{daemon.url}/readyz", timeout=40) for _ in range(4)]
            with suppress(httpx.HTTPError):
                answers += [one.result() for one in asking]
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert any(one.status_code == 503 and "worker 2: does not answer" in one.text for one in answers)
    daemon.wait_for(lambda: httpx.get(f"{daemon.url}/readyz").status_code == 200)


def test_what_is_missing_for_all_is_told_once(start: Start, pki: TrialPki) -> None:
    """As one daemon tells it; what only one of them misses, with its number."""
    daemon = start(TWO + 'shutdown_grace = 1\n[cst]\nbase = "/nowhere"\n', DIGSIGSERVER_IMX_CST_BASE="/nowhere")
    lines = httpx.get(f"{daemon.url}/readyz").text.splitlines()
    assert lines == ["no cst: neither in the folder cst.base nor in [cst.versions]"]


def test_a_daemon_whose_workers_cannot_start_ends(start: Start, tmp_path: Path) -> None:
    """With exit code 1 and the reason, told once."""
    daemon = start(TWO)
    daemon.stop()
    change(daemon, f'workdir = "{daemon.workdir}"', 'workdir = "/nowhere"')
    before = len(daemon.log())
    with daemon.logfile.open("ab") as log:
        command = daemon.command()
        done = subprocess.run(command, stdout=log, stderr=log, env=daemon.environ, cwd=daemon.folder, timeout=60)
    assert done.returncode == 1
    assert daemon.log()[before:].count("cannot start: the work directory cannot be used") == 1
    assert "Traceback" not in daemon.log()


def test_workers_that_die_again_and_again_end_the_daemon(start: Start) -> None:
    """A work directory that is gone keeps all new ones from starting: after five the daemon says so and ends."""
    daemon = start(TWO)
    moved = daemon.workdir.rename(daemon.folder / "moved")
    for pid in workers(daemon).values():
        os.kill(pid, signal.SIGKILL)
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1
    RUNNING.discard(daemon)
    assert len(re.findall(r"worker \d ended with exit code 1", daemon.log())) == 4
    assert re.search(r"worker \d cannot start: the work directory cannot be used", daemon.log())
    moved.rename(daemon.workdir)


def test_a_worker_that_cannot_start_does_not_end_another(start: Start, pki: TrialPki) -> None:
    """However often it tries; once it can, it takes its place again."""
    daemon = start(TWO)
    moved = daemon.workdir.rename(daemon.folder / "moved")
    os.kill(workers(daemon)[1], signal.SIGKILL)
    daemon.wait_for_log("worker 1 ended with exit code 1", 5)
    assert httpx.get(f"{daemon.url}/healthz").status_code == 200
    moved.rename(daemon.workdir)
    daemon.wait_for_log("worker 1 is ready", 2)
    assert daemon.post(pki).status_code == 200


def test_a_worker_without_a_process_is_tried_again(start: Start, pki: TrialPki) -> None:
    """While the supervisor has no descriptors for it; SIGTERM then ends the daemon as ever."""
    daemon = start(TWO)
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (4, before[1]))
    os.kill(workers(daemon)[1], signal.SIGKILL)
    daemon.wait_for_log("worker 1 cannot be started: Too many open files", 2)
    assert daemon.post(pki).status_code == 200
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
    daemon.wait_for_log("worker 1 is ready", 2)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (4, before[1]))
    os.kill(workers(daemon)[2], signal.SIGKILL)
    daemon.wait_for_log("worker 2 cannot be started")
    daemon.stop()


def test_a_worker_that_starts_during_a_reload_does_not_keep_what_was(start: Start, pki: TrialPki) -> None:
    """One becomes ready while another still reads the new configuration: afterwards both have it."""
    daemon = start(CALLER + TWO)
    (daemon.folder / "second").write_text("the-second-token-of-the-team")
    change(daemon, 'token_file = "token"', 'token_file = "second"')
    one, two = workers(daemon)[1], workers(daemon)[2]
    os.kill(one, signal.SIGSTOP)
    # Before its successor can be ready, however long a busy machine takes from one line to the next.
    os.kill(daemon.pid, signal.SIGHUP)
    os.kill(two, signal.SIGKILL)
    daemon.wait_for_log("worker 2 is ready", 2)
    os.kill(one, signal.SIGCONT)
    daemon.wait_for_log("worker 2 is ready", 3)
    assert daemon.log().count("reloaded") == 1
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(daemon, pki), range(24))) == {401}
        assert set(pool.map(lambda _: status(daemon, pki, "the-second-token-of-the-team"), range(24))) == {200}


def test_a_worker_that_dies_during_a_reload_does_not_prevent_it(start: Start, pki: TrialPki) -> None:
    """Its successor has the new configuration, as the other has."""
    daemon = start(CALLER + TWO)
    (daemon.folder / "second").write_text("the-second-token-of-the-team")
    change(daemon, 'token_file = "token"', 'token_file = "second"')
    two = workers(daemon)[2]
    os.kill(two, signal.SIGSTOP)
    os.kill(daemon.pid, signal.SIGHUP)
    time.sleep(1)  # it has been asked by then; if not, it is not asked at all
    os.kill(two, signal.SIGKILL)
    daemon.wait_for_log("reloaded")
    assert "not reloaded" not in daemon.log()
    daemon.wait_for_log("worker 2 is ready", 2)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: status(daemon, pki), range(16))) == {401}


def test_what_needs_a_restart_reaches_no_worker(start: Start, pki: TrialPki) -> None:
    """Also one that starts after the reload has what the others have."""
    daemon = start(CALLER + TWO + "[cst]\nmax_running = 2\n")
    change(daemon, "max_running = 2", "max_running = 3")
    change(daemon, "workers = 2", "workers = 3")
    change(daemon, "tcp:0:interface=127.0.0.1", "haproxy:tcp:0:interface=127.0.0.1")
    told = reload(daemon)
    assert all(key in told for key in ("cst.max_running", "daemon.workers", "listen.endpoint")), told
    for turn, pid in enumerate(workers(daemon).values()):
        os.kill(pid, signal.SIGKILL)
        daemon.wait_for_log("is ready (process", 3 + turn)
    assert {status(daemon, pki) for _ in range(6)} == {200}
    assert len(workers(daemon)) == 2
    assert "changed, but needs a restart" in reload(daemon)


def test_a_socket_that_systemd_has_not_passed_is_told(start: Start) -> None:
    """In one line, and so is one that a reload names."""
    daemon = start(TWO)
    change(daemon, "tcp:0:interface=127.0.0.1", "systemd:domain=INET:index=0")
    daemon.config.write_text(daemon.config.read_text().replace("[listen]\n", "[listen]\nallow_anonymous = true\n"))
    told = reload(daemon)
    assert "not reloaded: listen.endpoint: 'systemd:domain=INET:index=0': systemd has not passed this socket" in told
    assert "worker" not in told
    daemon.stop()
    for count in (1, 2):
        change(daemon, "workers = 2", f"workers = {count}")
        done = subprocess.run(
            daemon.command(), capture_output=True, text=True, env=daemon.environ, cwd=daemon.folder, timeout=60
        )
        assert done.returncode == 1
        assert "systemd has not passed this socket" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        change(daemon, f"workers = {count}", "workers = 2")


def test_a_daemon_in_the_background_has_workers_too(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """With twistd's pidfile, log file and directory; SIGTERM to the supervisor ends all."""
    daemon = start(TWO)
    daemon.stop()
    pidfile, logfile = tmp_path / "pid", daemon.folder / "background.log"
    options = [f"--pidfile={pidfile}", "--logfile=background.log", f"--rundir={tmp_path}"]
    command = [daemon.command()[0], *options, *daemon.command()[3:]]
    subprocess.run(command, env=daemon.environ, cwd=daemon.folder, check=True, timeout=60)
    # A whole line: of one that is still being written, the port may be cut.
    daemon.wait_for(lambda: logfile.exists() and re.search(r"listening on .*\n", logfile.read_text()))
    found = re.search(r"listening on (\S+)", logfile.read_text())
    assert found is not None
    daemon.url = f"http://{found[1]}"
    pid = int(pidfile.read_text())
    try:
        assert len(descendants(pid)) == 2
        assert daemon.post(pki).status_code == 200
        daemon.wait_for(lambda: re.search(r" w\d \[\w+\] answered 200", logfile.read_text()), what="a worker's line")
    finally:
        os.kill(pid, signal.SIGTERM)
        daemon.wait_for(lambda: not is_alive(pid))
    assert re.search(r"\bstopped\b", logfile.read_text())
    assert not pidfile.exists()


def test_one_worker_is_the_daemon_itself(start: Start, pki: TrialPki) -> None:
    """No supervisor, and no number in the log."""
    daemon = start("[daemon]\nworkers = 1\n")
    assert daemon.post(pki).status_code == 200
    assert descendants(daemon.pid) == []
    assert not re.search(r" w\d ", daemon.log())
