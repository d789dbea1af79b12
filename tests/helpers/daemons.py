"""A real daemon: `twistd -n digsigd` as its own process, on loopback, with keys of its own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from digsigd.signing.marks import is_mark
from digsigd.testing import TrialImage, TrialPki

MACHINE = "imx8mm-evk"
TOKEN = "a-token-of-the-release-team"
DEADLINE = 60.0
# One look is not enough: threads are looked at one after the other, and one may wake the next meanwhile.
QUIET = 4
# What a caller may use: everything, of any machine.
USE = 'backends = ["ssl", "pkcs11"]\ncst_versions = ["*"]\n'
RIGHTS = 'machines = ["*"]\n' + USE
# A whole line: of one that is still being written, the port may be cut.
_LISTENING = re.compile(r"listening on ([0-9.]+:\d+)\b.*\n")


# Those that were started and not stopped: a test that fails leaves its own behind.
RUNNING: set[Daemon] = set()


class Daemon:
    """The process, what it said, and a client for it."""

    def __init__(
        self,
        folder: Path,
        cst_base: Path,
        config: str = "",
        *,
        form: str = "text",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.workdir = folder / "work"
        self.workdir.mkdir(exist_ok=True)
        self.keys = folder / "keys"
        self.keys.mkdir(exist_ok=True)
        self.logfile = folder / "log"
        self.config = folder / "digsigd.toml"
        if "[daemon]" not in config:
            config += "\n[daemon]\n"
        config = config.replace("[daemon]", f'[daemon]\nworkdir = "{self.workdir}"')
        if "[cst.versions]" in config and "cage =" not in config:
            # Stand-ins for cst are scripts, which need an interpreter and other programs.
            if "[cst]" not in config:
                config += "\n[cst]\n"
            config = config.replace("[cst]", '[cst]\ncage = "none"')
        if "[listen]" not in config:
            config += "\n[listen]\n"
        listen = "[listen]\n" if "endpoint = " in config else '[listen]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
        if "allowed_hosts" not in config:
            listen += 'allowed_hosts = ["a"]\n'  # the name in requests that tests write by hand
        config = config.replace("[listen]", listen)
        self.config.write_text(config)
        self.environ = {
            **os.environ,
            "DIGSIGSERVER_KEYFILE_URI": self.keys.as_uri(),
            "DIGSIGSERVER_IMX_CST_BASE": str(cst_base),
            **(environ or {}),
        }
        self.form = form
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def put_keys(self, machine: str, tarball: bytes) -> Path:
        path = self.keys / machine / "imxsign/imx-cst-keys.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tarball)
        return path

    def command(self, *options: str) -> list[str]:
        twistd = Path(sys.executable).with_name("twistd")
        return [str(twistd), "-n", "--pidfile=", "digsigd", "--config", str(self.config), *options]

    def start(self) -> Daemon:
        with self.logfile.open("ab") as log:
            began = log.tell()
            command = self.command("--log-format", self.form)
            command = [*shlex.split(self.environ.get("DAEMON_PREFIX", "")), *command]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ, cwd=self.folder,
            )  # fmt: skip
        RUNNING.add(self)
        self.wait_for(lambda: _LISTENING.search(self.log()[began:]) or self.process_ended())
        if self.process_ended():
            raise AssertionError(f"the daemon did not start: {self.log()}")
        found = _LISTENING.search(self.log()[began:])
        assert found is not None
        self.url = f"http://{found[1]}".replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        return self

    def process_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and give its exit code."""
        assert self.process is not None
        RUNNING.discard(self)
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        if how is signal.SIGTERM:
            # Stopped in order, and no fault on the way that nobody has looked at.
            assert code == -how
            assert re.search(r"\bstopped\W*$", self.log(), re.MULTILINE) or '"stopped"' in self.log(), self.log()
        assert "nhandled" not in self.log()
        assert "critical" not in self.log()
        return code

    def kill(self) -> None:
        """End it at once, without a look at what it logged."""
        RUNNING.discard(self)
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """What it has logged, with what was still being written when an answer came: it waits for no more."""
        quiet, size = 0, -1
        for _ in range(1000):
            if self.process_ended() or quiet == QUIET:
                break
            before, size = size, len(self.log_so_far())
            quiet = quiet + 1 if size == before and not is_busy(self.pid) else 0
            time.sleep(0.003)
        return self.log_so_far()

    def log_so_far(self) -> str:
        return self.logfile.read_text() if self.logfile.exists() else ""

    def wait_for(self, condition: Any, *, what: str = "it") -> None:
        """Wait until something is so; the deadline is only there to end a test that would hang."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}; the log:\n{self.log()}")
            time.sleep(0.02)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        self.wait_for(lambda: self.log_so_far().count(text) >= times, what=f"{text!r} in the log")

    def left_behind(self) -> list[str]:
        """What is in the daemon's own work directories, beside their marks."""
        found = [path for path in self.workdir.glob("*/*") if not is_mark(path.name)]
        return sorted(str(path.relative_to(self.workdir)) for path in found)

    def descriptors(self) -> list[str]:
        """What the process has open, apart from what changes by itself."""
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except FileNotFoundError:
                continue
        return sorted(found)

    def post(
        self,
        pki: TrialPki,
        image: TrialImage | None = None,
        *,
        csf: str | bytes | None = None,
        data: bytes | None = None,
        name: str = "spl.bin",
        client: httpx.Client | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: str | None,
    ) -> httpx.Response:
        """Send a request that would be signed, but for what is given. A field that is None is left out."""
        image = image or IMAGE
        form: dict[str, str | None] = {"machine": MACHINE, "soctype": "mx8m", "cstversion": "3.4.1", **fields}
        text = csf if csf is not None else pki.csf(image.blocks(name))
        files = {
            "csf": ("spl.csf", text, "text/plain"),
            "artifact": (name, image.data if data is None else data, "application/octet-stream"),
        }
        return (client or httpx).post(
            f"{self.url}/sign/imx",
            data={key: value for key, value in form.items() if value is not None},
            files=files,
            headers=headers,
            timeout=DEADLINE,
        )


IMAGE = TrialImage.of_size(0x4000)
# Starts one with this configuration.
Start = Callable[..., Daemon]


def is_busy(pid: int) -> bool:
    """Whether a thread of a daemon or of one of its workers runs, or would if it had a processor."""
    for process in (pid, *workers_of(pid)):
        for task in Path(f"/proc/{process}/task").glob("*/stat"):
            with suppress(OSError):
                if task.read_text().rpartition(")")[2].split()[0] in "RD":
                    return True
    return False


def workers_of(pid: int) -> list[int]:
    """The children of a process that run the same program. A tool is started by another one."""
    found = []
    with suppress(OSError):
        program = Path(f"/proc/{pid}/exe").readlink()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                with suppress(OSError):
                    if Path(f"/proc/{child}/exe").readlink() == program:
                        found.append(int(child))
    return found
