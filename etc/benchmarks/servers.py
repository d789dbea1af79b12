"""Another signing server with the same API, to compare with: started by a command, in the same run."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from etc.benchmarks.daemon import DaemonError, Running
from etc.benchmarks.ground import Ground

NAME = "server"
_DEADLINE = 60.0


@contextmanager
def server(ground: Ground, command: str) -> Iterator[Running]:
    """Run a server; `{port}` in its command is a free port of 127.0.0.1. Raises `DaemonError`.

    It gets the key store, the folder with cst, and a folder in memory for its files as DIGSIGSERVER_KEYFILE_URI,
    DIGSIGSERVER_IMX_CST_BASE and TMPDIR.
    """
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    temporary = ground.folder / "server"
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [part.replace("{port}", str(port)) for part in shlex.split(command)],
        env={
            **os.environ,
            "DIGSIGSERVER_KEYFILE_URI": ground.keys.as_uri(),
            "DIGSIGSERVER_IMX_CST_BASE": str(ground.base),
            "TMPDIR": str(temporary),
        },
        cwd=temporary, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    running = Running(process, temporary)
    try:
        end = time.monotonic() + _DEADLINE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise DaemonError(f"{command} does not listen on port {port}:\n{running.log()}")
            time.sleep(0.05)
        running.url = f"http://127.0.0.1:{port}/sign/imx"
        yield running
    finally:
        running.stop()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
