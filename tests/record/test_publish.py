"""Checkpoints leave the host, and --check shows the key that they are verified with."""

from __future__ import annotations

import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater

from digsigd.admin.main import main
from digsigd.record.checkpoint import open_checkpoint
from digsigd.record.note import VerifierKey
from digsigd.record.publish import Publisher
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon

reactor: Any = installed


class Witness(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    posted: list[str]

    def do_POST(self) -> None:
        self.posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


# With the long one, the last checkpoint leaves when the daemon stops.
@pytest.mark.parametrize("interval", [0.05, 3600])
def test_checkpoints_are_appended_to_a_file_and_posted(
    interval: float, tmp_path: Path, cst_base: Path, pki: TrialPki, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is signed, and `digsigd record verify` compares the record with those of the file."""
    Witness.posted = []
    server = HTTPServer(("127.0.0.1", 0), Witness)
    Thread(target=server.serve_forever, daemon=True).start()
    config = (
        f'[record]\ncheckpoint_interval = {interval}\ncheckpoints = ["file://{tmp_path}/elsewhere",'
        f' "http://127.0.0.1:{server.server_port}/add", "file:///nowhere/at/all"]\n'
    )
    state = tmp_path / "state"
    daemon = Daemon(tmp_path, cst_base, config, environ={"STATE_DIRECTORY": str(state)})
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    for _ in range(3):
        assert daemon.post(pki).status_code == 200
    daemon.stop()
    server.shutdown()
    server.server_close()
    assert "cannot publish a checkpoint to file:///nowhere/at/all" in daemon.log()
    done = subprocess.run(daemon.command("--check"), env=daemon.environ, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if " record " in line)
    key = VerifierKey.parse(line.split()[-1])
    assert open_checkpoint(Witness.posted[-1], key).size == 3
    verify = ["record", "verify", "--folder", str(state), "--checkpoints", str(tmp_path / "elsewhere")]
    assert main(verify) == 0
    kept = (tmp_path / "elsewhere").read_text().count(f"{key.name}\n")
    assert f"against {kept + 1} checkpoints kept elsewhere" in capsys.readouterr().out
    (state / "record.sqlite").unlink()
    daemon.start()
    # A record that is gone is not begun anew with the same key.
    assert daemon.post(pki).status_code == 503
    daemon.stop()


class SlowWitness(Witness):
    """Keeps what is posted, and answers only when it may."""

    may_answer: Event

    def do_POST(self) -> None:
        self.may_answer.wait(60)
        super().do_POST()


@pytest.mark.parametrize(("notes", "posted"), [(["one"], ["one"]), (["one", "two", "three"], ["one", "three"])])
async def test_checkpoints_are_published_one_after_the_other(notes: list[str], posted: list[str]) -> None:
    """Also where one takes longer than the interval: none overtakes another, and a stop waits for the last."""
    SlowWitness.posted, SlowWitness.may_answer = [], Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowWitness)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/add"
    publisher = Publisher([url], interval=0.01, reactor=reactor, pool=reactor.getThreadPool())
    for note in notes:
        publisher.offer(note)
        await deferLater(reactor, 0.05)
    stopping = publisher.stop()
    assert not stopping.called
    SlowWitness.may_answer.set()
    await stopping
    server.shutdown()
    server.server_close()
    assert SlowWitness.posted == posted
