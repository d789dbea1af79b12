"""A daemon under test: started as operators do, with a log that goes into a pipe, as under systemd."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from etc.benchmarks import processes
from etc.benchmarks.cases import Case
from etc.benchmarks.ground import TOKEN, Ground
from tests.helpers.certificates import Authority
from tests.helpers.hsm import SoftHsm

ROOT = Path(__file__).resolve().parent.parent.parent
_PROBE = Path(__file__).parent / "probe"
_DEADLINE = 60.0
_KEPT_LOG = 1 << 16


class DaemonError(Exception):
    """A daemon that did not start or stop: its log."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of the project, and what its figures are called."""

    name: str
    path: Path

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Return the command that starts its twistd, of its own .venv if it has one, and what the environment needs."""
        own = self.path / ".venv/bin/twistd"
        twistd = own if own.exists() else Path(sys.executable).with_name("twistd")
        return [str(twistd)], {"PYTHONPATH": f"{_PROBE}:{self.path}"}


THIS = Checkout("this", ROOT)


class Running:
    """A daemon that runs: its process and its URL."""

    def __init__(self, process: subprocess.Popen[bytes], stalls: Path) -> None:
        self._process = process
        self._stalls = stalls
        self._log = b""
        self._new = threading.Condition()
        self.url = ""
        self._drain_thread = threading.Thread(target=self._drain, daemon=True)
        self._drain_thread.start()

    @property
    def pid(self) -> int:
        """The number of its first process."""
        return self._process.pid

    def wait_until_it_listens(self, scheme: str) -> None:
        """Set `url`. Raises `DaemonError`."""
        end = time.monotonic() + _DEADLINE
        with self._new:
            while not (found := re.search(rb"listening on ([0-9.]+:\d+)", self._log)):
                if self._process.poll() is not None or not self._new.wait(max(0.0, end - time.monotonic())):
                    raise DaemonError(f"the daemon did not start:\n{self._log.decode(errors='replace')}")
        self.url = f"{scheme}://{found[1].decode()}/sign/imx"

    def log(self) -> str:
        """Return the end of its log."""
        return self._log.decode(errors="replace")

    def watch(self) -> None:
        """Begin to watch for stalls of its reactor."""
        self._signal()

    def longest_stall(self) -> float:
        """End the watch, and return the longest stall in seconds. Raises `DaemonError`."""
        asked = self._signal()
        end = time.monotonic() + _DEADLINE
        worst = 0.0
        for pid in asked:
            path = self._stalls / str(pid)
            while not path.exists():
                if time.monotonic() > end:
                    raise DaemonError(f"process {pid} reports no stall:\n{self.log()}")
                time.sleep(0.005)
            worst = max(worst, float(path.read_text()))
            path.unlink()
        return worst

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise DaemonError(f"the daemon did not stop:\n{self.log()}") from None
        finally:
            self._drain_thread.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _signal(self) -> list[int]:
        listening = [pid for pid in processes.daemons(self.pid) if _catches(pid, signal.SIGUSR2)]
        for pid in listening:
            os.kill(pid, signal.SIGUSR2)
        return listening

    def _drain(self) -> None:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        while data := os.read(file, 1 << 16):
            with self._new:
                self._log = (self._log + data)[-_KEPT_LOG:]
                self._new.notify_all()
        with self._new:
            self._new.notify_all()


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


def settings(ground: Ground, case: Case, folder: Path, *, keys_uri: str, record: str) -> str:
    """Return the configuration of a case. What it does not name is the default; limits are higher for many clients."""
    work = folder / "work"
    work.mkdir()
    lines = ["[listen]", 'endpoint = "tcp:0:interface=127.0.0.1"']
    if case.clients > 500:
        lines.append("max_connections = 4096")
    if case.wire == "tls":
        certificate, key = Authority().issue("host")
        (folder / "host.pem").write_bytes(certificate)
        (folder / "host.key").write_bytes(key)
        (folder / "host.key").chmod(0o600)
        lines += ["[listen.tls]", 'certificate = "host.pem"', 'key = "host.key"']
    lines += ["[daemon]", f'workdir = "{work}"', "[keys]", f'uri = "{keys_uri}"', "[cst]", f'base = "{ground.base}"']
    if case.cage == "off":
        lines.append('cage = "none"')
    if case.clients > 60:
        lines += [f"max_waiting = {2 * case.clients}", "[upload]", f"max_at_once = {2 * case.clients}", "share = 1.0"]
    lines += ["[record]", f'url = "{record}"']
    if case.backend == "pkcs11":
        hsm = ground.token
        provider = ground.base / "pkcs11-provider/pkcs11.so"
        lines += [
            "[pkcs11]",
            f'module = "{SoftHsm.MODULE}"',
            f'paths = ["{hsm.folder}"]',
            f'writable = ["{hsm.folder}"]',
        ]
        lines += [f'provider = "{provider}"'] if provider.exists() and ground.version.startswith("4") else []
        lines += ["[pkcs11.environment]", f'SOFTHSM2_CONF = "{hsm.conf}"']
        lines += [f"[pkcs11.tokens.{TOKEN}]", f'pin_file = "{hsm.folder / "pin"}"', "max_sessions = 16"]
    return "\n".join(lines) + "\n"


@contextmanager
def key_server(folder: Path) -> Iterator[str]:
    """Run the key store on HTTP; yield its URL."""
    command = [sys.executable, "-m", "etc.benchmarks.key_server", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def daemon(
    ground: Ground,
    case: Case,
    checkout: Checkout = THIS,
    *,
    record: str = "",
    options: str = "",
    state: Path | None = None,
) -> Iterator[Running]:
    """Run a daemon for a case.

    `record` is its record's URL, by default as the case says; `options` are more settings; `state` is its state folder,
    by default a new one. Raises `DaemonError`.
    """
    with ExitStack() as stack:
        # On the disk, as a record is: in memory, a commit would cost less.
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digsigd-bench-state-")))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daemon-", dir=ground.folder)))
        (place / "stalls").mkdir()
        uri = stack.enter_context(key_server(ground.keys)) if case.store == "http" else ground.keys.as_uri()
        url = record or (f"sqlite:///{state}/record.sqlite" if case.record == "sqlite" else "none")
        config = place / "digsigd.toml"
        config.write_text(settings(ground, case, place, keys_uri=uri, record=url) + options)
        command, more = checkout.command()
        process = subprocess.Popen(
            [*command, "-n", "--pidfile=", "digsigd", "--config", str(config)],
            env={**os.environ, **more, "STATE_DIRECTORY": str(state), "BENCH_STALLS": str(place / "stalls")},
            cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        running = Running(process, place / "stalls")
        try:
            running.wait_until_it_listens("https" if case.wire == "tls" else "http")
            yield running
        finally:
            running.stop()
