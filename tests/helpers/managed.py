"""A daemon that is started as systemd starts it: with a socket that is open already, and one for its notices."""

from __future__ import annotations

import re
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.helpers.daemons import RUNNING, Daemon

# Puts a descriptor where systemd has the first one, and says whose it is: sd_listen_fds(3).
_START = """
import os, sys
place = int(sys.argv[1])
os.dup2(place, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Managed(Daemon):
    """`listener` stays open between its starts; without one, the daemon opens its port itself."""

    def __init__(
        self,
        folder: Path,
        cst_base: Path,
        config: str = "",
        *,
        listener: socket.socket | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.listener = listener
        # An abstract name, for which no path can be too long.
        name = f"digsigd-test-{secrets.token_hex(8)}"
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(f"\0{name}")
        self.notices.setblocking(False)
        self.said: list[str] = []
        passed = {"LISTEN_FDNAMES": "digsigd"} if listener is not None else {}
        super().__init__(folder, cst_base, config, environ={"NOTIFY_SOCKET": f"@{name}", **passed, **(environ or {})})

    def command(self, *options: str) -> list[str]:
        words = super().command(*options)
        if self.listener is None or "--check" in options:
            return words
        return [sys.executable, "-c", _START, str(self.listener.fileno()), *words]

    def start(self) -> Managed:
        """Start it, and wait until it says that it is ready."""
        self.hear()
        self.said.clear()
        with self.logfile.open("ab") as log:
            command = [*shlex.split(self.environ.get("DAEMON_PREFIX", "")), *self.command("--log-format", self.form)]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ, cwd=self.folder,
                pass_fds=() if self.listener is None else (self.listener.fileno(),),
            )  # fmt: skip
        RUNNING.add(self)
        self.wait_for(lambda: self.has_said("READY=1") or self.process_ended(), what="READY=1")
        assert not self.process_ended(), self.log()
        if self.listener is None:
            found = re.findall(r"listening on ([0-9.]+:\d+)\b.*\n", self.log())
            self.url = f"http://{found[-1]}"
        elif self.listener.family != socket.AF_UNIX:
            host, port = self.listener.getsockname()[:2]
            self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    def hear(self) -> list[str]:
        """The notices up to now."""
        try:
            while True:
                self.said.append(self.notices.recv(4096).decode())
        except BlockingIOError:
            return self.said

    def has_said(self, line: str, times: int = 1) -> bool:
        return sum(line in said.split("\n") for said in self.hear()) >= times

    def wait_for_notice(self, line: str, times: int = 1) -> None:
        self.wait_for(lambda: self.has_said(line, times), what=f"the notice {line!r} {times} times in {self.said}")

    def forget(self) -> None:
        """Forget the notices up to now."""
        self.hear()
        self.said.clear()
