"""`digsigd run`: the daemon without twistd on PATH, a pidfile, or a search for plugins; and the version of it all."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digsigd import __version__
from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, Daemon


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


class Run(Daemon):
    """Started by `digsigd run`."""

    def command(self, *options: str) -> list[str]:
        return [program("digsigd"), "run", "--config", str(self.config), *options]


def ended(command: list[str], daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=daemon.folder, env=daemon.environ, capture_output=True, text=True, check=False, timeout=DEADLINE
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_it_signs_reloads_and_stops_as_under_twistd(
    tmp_path: Path, cst_base: Path, pki: TrialPki, workers: int
) -> None:
    """In the foreground, with the options of the plugin, and no pidfile where it runs."""
    daemon = Run(tmp_path, cst_base, f"[daemon]\nworkers = {workers}\n", form="json")
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    assert daemon.post(pki).status_code == 200
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log('"reloaded"')
    assert not list(tmp_path.glob("*.pid"))
    daemon.stop()
    (line,) = [one for one in map(json.loads, daemon.log().splitlines()) if one["event"] == "listening"]
    assert line["version"] == __version__


def test_its_options_are_those_of_the_plugin(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """The log in a file, another endpoint, the check with its exit code; a mistake is told in one line."""
    daemon = Run(tmp_path, cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    done = ended(daemon.command("--check", "--machine", MACHINE), daemon)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "signs with SRK" in done.stdout
    done = ended(daemon.command("--check", "--machine", "nobody"), daemon)
    assert done.returncode == 1
    assert re.search(r"^FAILED +nobody ", done.stdout, re.MULTILINE)
    logfile = tmp_path / "lines"
    command = daemon.command("--listen", "tcp:0:interface=127.0.0.2", "--logfile", str(logfile))
    process = subprocess.Popen(command, cwd=tmp_path, env=daemon.environ)
    try:
        daemon.wait_for(lambda: logfile.exists() and "listening on 127.0.0.2:" in logfile.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    for options, words, code in (
        (("--listen", "nonsense:1"), "listen.endpoint", 1),
        (("--machine", "a"), "need --check", 1),
        (("--machine", "a/b", "--check"), "is not a machine name", 1),
        (("--log-format", "xml"), "invalid choice", 2),
        (("--no-such-option",), "--no-such-option", 2),
    ):
        done = ended(daemon.command(*options), daemon)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("twistd", "digsigd", "--version"), "digsigd"),
        (("digsigd", "--version"), "digsigd"),
        (("digsign", "--version"), "digsign"),
    ],
)
def test_each_program_tells_the_version_of_digsigd(command: tuple[str, ...], says: str) -> None:
    """Not Twisted's."""
    done = subprocess.run([program(command[0]), *command[1:]], capture_output=True, text=True, check=True)
    assert done.stdout == f"{says} {__version__}\n"
