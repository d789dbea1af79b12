"""SIGHUP replaces everything about who may sign what, at once or not at all; requests under way keep what they had."""

from __future__ import annotations

import hashlib
import http.client
import signal

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, TOKEN, Daemon, Start

FIRST, SECOND = TOKEN, "the-second-token-of-the-team"
RIGHTS = 'machines = ["*"]\nbackends = ["ssl"]\ncst_versions = ["*"]\n'
CALLER = f'[callers.release]\ntoken_file = "token"\n{RIGHTS}'
UNSAFE = "\n[Unlock]\n    Engine = OCOTP\n    Features = JTAG\n    UID = 0, 0, 0, 0, 0, 0, 0, 0\n"


def change(daemon: Daemon, old: str, new: str) -> None:
    text = daemon.config.read_text()
    assert old in text
    daemon.config.write_text(text.replace(old, new))


def reload(daemon: Daemon) -> str:
    """Send SIGHUP, wait until it is done or refused, and return what is logged of it."""
    assert daemon.process is not None
    before = len(daemon.log())
    times = daemon.log().count("reloaded")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("reloaded", times + 1)
    return daemon.log()[before:]


def status(daemon: Daemon, pki: TrialPki, token: str = FIRST, *, csf: str | None = None) -> int:
    code: int = daemon.post(pki, headers={"Authorization": f"Bearer {token}"}, csf=csf).status_code
    return code


@pytest.fixture
def daemon(start: Start) -> Daemon:
    return start(CALLER)


def test_a_revoked_token_signs_nothing_after_a_reload(daemon: Daemon, pki: TrialPki) -> None:
    """And the new one does; neither before the signal."""
    assert status(daemon, pki) == 200
    (daemon.folder / "token").write_text(SECOND)
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (200, 401)
    reload(daemon)
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (401, 200)


def test_callers_and_rights_follow_the_file(daemon: Daemon, pki: TrialPki) -> None:
    """A caller that is added, one that loses a machine, one that is removed."""
    (daemon.folder / "other").write_text(SECOND)
    (daemon.folder / "other").chmod(0o600)
    daemon.config.write_text(f'{daemon.config.read_text()}\n[callers.lab]\ntoken_file = "other"\n{RIGHTS}')
    reload(daemon)
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (200, 200)
    change(daemon, f'[callers.release]\ntoken_file = "token"\n{RIGHTS}', CALLER.replace('["*"]', '["board-*"]', 1))
    reload(daemon)
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (403, 200)
    change(daemon, f'[callers.lab]\ntoken_file = "other"\n{RIGHTS}', "")
    reload(daemon)
    assert status(daemon, pki, SECOND) == 401


def test_pins_of_machines_follow_the_file(daemon: Daemon, pki: TrialPki) -> None:
    """The hash of the tarball, also of one that is kept in memory, and the fuse value."""
    assert status(daemon, pki) == 200
    right = hashlib.sha256((daemon.keys / MACHINE / "imxsign/imx-cst-keys.tar.gz").read_bytes()).hexdigest()
    text = daemon.config.read_text()
    for table, code in (
        (f'keys_sha256 = "{"0" * 64}"', 500),
        (f'keys_sha256 = "{right.upper()}"', 200),
        (f'fuses = "{"1" * 64}"', 500),
        (f'fuses = "{pki.fuse_value.hex()}"', 200),
    ):
        daemon.config.write_text(f"{text}\n[machines.{MACHINE}]\n{table}\n")
        reload(daemon)
        assert status(daemon, pki) == code, table


def test_policy_follows_the_file(daemon: Daemon, pki: TrialPki) -> None:
    """What a description may have, in general and for a machine, and whether an IVT must be signed."""
    text = daemon.config.read_text()
    description = pki.csf(IMAGE.blocks("spl.bin")).replace("[Unlock]", UNSAFE.strip() + "\n\n[Unlock]", 1)
    allowing = text.replace(RIGHTS, f'{RIGHTS}csf.allow = ["unlock-ocotp-jtag"]\n')
    assert status(daemon, pki, csf=description) == 422
    for extra, code in (
        ('[policy]\nallow = ["unlock-ocotp-jtag"]\n', 200),
        (f'[machines.{MACHINE}]\nallow = ["unlock-ocotp-jtag"]\n', 200),
        ('[machines.other]\nallow = ["unlock-ocotp-jtag"]\n', 422),
    ):
        daemon.config.write_text(f"{allowing}\n{extra}")
        reload(daemon)
        assert status(daemon, pki, csf=description) == code, extra


@pytest.mark.parametrize(
    ("change_to", "words"),
    [
        ("[callers", "is not TOML"),
        ('[machines.x]\nfuses = "1"\n', "expected 64 hexadecimal digits"),
        ('[policy]\nallow = ["everything"]\n', "policy.allow"),
        ('[callers.lab]\ntoken_file = "none"\n', "callers.lab.token_file"),
        ('[pkcs11.tokens.new]\npin_file = "token"\n', "cannot add or remove tokens"),
        ("another endpoint", "listen.endpoint: 'tcp:http:interface=127.0.0.1'"),
    ],
)
def test_a_mistake_keeps_everything(daemon: Daemon, pki: TrialPki, change_to: str, words: str) -> None:
    """Also what is right in the same file: the old token holds, and the log says why."""
    (daemon.folder / "token").write_text(SECOND)
    text = daemon.config.read_text()
    if change_to == "another endpoint":
        change(daemon, "tcp:0", "tcp:http")
    else:
        daemon.config.write_text(f"{text}\n{change_to}")
    said = reload(daemon)
    assert "not reloaded: " in said
    assert words in said
    assert "everything is as before" in said
    assert "Traceback" not in said
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (200, 401)
    daemon.config.write_text(text)
    assert "not reloaded" not in reload(daemon)
    assert (status(daemon, pki), status(daemon, pki, SECOND)) == (401, 200)


def test_no_reload_opens_a_port_to_everybody(start: Start, pki: TrialPki) -> None:
    """Without callers, and on loopback from the next start on: the port that is open now would be open to all."""
    daemon = start(f'[listen]\nendpoint = "tcp:0"\n{CALLER}')
    change(daemon, CALLER, "")
    change(daemon, '"tcp:0"', '"tcp:0:interface=127.0.0.1"')
    assert status(daemon, pki) == 200
    said = reload(daemon)
    assert "not reloaded: " in said
    assert "is not loopback, and authentication is off" in said
    assert daemon.post(pki).status_code == 401


def test_rates_follow_the_file(daemon: Daemon, pki: TrialPki) -> None:
    """A caller has a rate from the reload on, and asking for keys counts, too."""
    change(daemon, RIGHTS, f"rate = 2\n{RIGHTS}")
    reload(daemon)
    assert status(daemon, pki) == 200
    asked = [
        httpx.get(f"{daemon.url}/machines/{MACHINE}", headers={"Authorization": f"Bearer {FIRST}"}) for _ in range(2)
    ]
    assert [one.status_code for one in asked] == [200, 429]
    assert 0 < int(asked[1].headers["Retry-After"]) <= 30
    assert status(daemon, pki) == 429


def test_what_needs_a_restart_is_named(daemon: Daemon, pki: TrialPki) -> None:
    """Each time, as long as it is not what the daemon runs with; what can be replaced is replaced."""
    (daemon.folder / "token").write_text(SECOND)
    change(daemon, "[daemon]", "[cst]\nmax_waiting = 3\n\n[daemon]\nshutdown_grace = 7")
    for _ in range(2):
        assert "changed, but needs a restart: cst.max_waiting, daemon.shutdown_grace" in reload(daemon)
    assert status(daemon, pki, SECOND) == 200
    change(daemon, "max_waiting = 3", "")
    assert "needs a restart: daemon.shutdown_grace" in reload(daemon)


def test_a_request_under_way_keeps_what_it_began_with(daemon: Daemon, pki: TrialPki) -> None:
    """Its caller is gone and its machine has another pin before its body has ended: it is signed as it began."""
    boundary = "x" * 20
    parts = {"machine": MACHINE, "soctype": "mx8m", "cstversion": "3.4.1"}
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in parts.items()
    )
    for name, file, data in (
        ("csf", "spl.csf", pki.csf(IMAGE.blocks("spl.bin")).encode()),
        ("artifact", "spl.bin", IMAGE.data),
    ):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    host, port = daemon.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/sign/imx")
    connection.putheader("Authorization", f"Bearer {FIRST}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    daemon.wait_for(daemon.left_behind, what="the directory of the upload")
    (daemon.folder / "token").write_text(SECOND)
    daemon.config.write_text(f'{daemon.config.read_text()}\n[machines.{MACHINE}]\nfuses = "{"1" * 64}"\n')
    reload(daemon)
    connection.send(body[len(body) // 2 :])
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:1]) == (200, b"\xd4")
    connection.close()
    assert status(daemon, pki, SECOND) == 500


def test_the_log_level_follows_the_file(daemon: Daemon, pki: TrialPki) -> None:
    """With "error" a good request leaves no line, and with "info" it does again."""
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("[daemon]", '[daemon]\nlog_level = "error"', 1))
    reload(daemon)
    # The reload itself is the last line of the old level; what else is logged then comes from other threads.
    before = daemon.log().count("answered 200")
    assert status(daemon, pki) == 200
    daemon.config.write_text(text)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: status(daemon, pki) == 200 and "answered 200" in daemon.log()[-4000:], what="a line")
    lines = [line for line in daemon.log().splitlines() if "answered 200" in line]
    assert before == 0
    assert lines
