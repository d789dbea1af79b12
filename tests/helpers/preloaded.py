"""`digsign` in processes of its own, forked from one that has loaded what commands load: most of their time is that.

Whoever wants to see what a command loads, or needs other signals than the usual ones, starts an interpreter of its own.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_TIMEOUT = 120


class PreloadedDigsign:
    """Runs `digsign`, one command after the other; each has arguments, a folder and an environment of its own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.preloaded"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def run(self, arguments: list[str], cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as `subprocess.run` does. Its standard input is empty."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            order = {"arguments": arguments, "cwd": str(cwd), "environ": dict(environ), "files": [str(out), str(err)]}
            self._server.stdin.write(json.dumps(order) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            if code == -signal.SIGALRM:
                raise subprocess.TimeoutExpired(arguments, _TIMEOUT)
            return subprocess.CompletedProcess(arguments, code, _text(out), _text(err))

    def stop(self) -> None:
        self._server.communicate()


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _serve(orders: IO[str], answers: IO[str]) -> None:
    import digsigd.cli.sign
    import digsigd.cli.verify
    import digsigd.client._internal.api  # noqa: F401

    # Every process has to make its own.
    assert "twisted.internet.reactor" not in sys.modules
    for line in orders:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def _run(order: Any) -> None:
    from digsigd.cli.main import main

    code: Any = 1
    try:
        signal.alarm(_TIMEOUT)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environ"])
        for descriptor, name in enumerate([os.devnull, *order["files"]]):
            file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
            assert isinstance(stream, io.TextIOWrapper)
            stream.reconfigure(encoding=encoding, errors=errors)
        sys.argv = ["digsign", *order["arguments"]]
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(sys.stdin, sys.stdout)
