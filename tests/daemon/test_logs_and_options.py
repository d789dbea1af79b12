"""What the daemon says: its log, which holds no secret, and what it tells of its configuration."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_attacks import ATTACKS, attacked
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, RIGHTS, TOKEN, Daemon, Start

CALLERS = f'[callers.release]\ntoken_file = "token"\n{RIGHTS}'


def test_each_event_is_a_line_of_json(start: Start, pki: TrialPki) -> None:
    """Received, keys, cst, verified and answered, each with the request's id and with its numbers."""
    daemon = start(form="json")
    assert daemon.post(pki, headers={"X-Request-Id": "build-17"}).status_code == 200
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    mine = {line["event"]: line for line in lines if line.get("request_id") == "build-17"}
    assert list(mine) == ["received", "keys", "cst", "verified", "answered"]
    assert (mine["received"]["machine"], mine["received"]["size"]) == (MACHINE, len(IMAGE.data))
    assert mine["keys"]["origin"] == daemon.keys.as_uri()
    assert mine["keys"]["seconds"] >= 0
    assert (mine["cst"]["version"], mine["cst"]["exit"]) == ("3.4.1", 0)
    assert mine["cst"]["seconds"] > 0
    assert pki.fuse_value.hex() in mine["verified"]["proven"]
    assert mine["answered"]["status"] == 200
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", line["time"]) for line in lines)


def test_each_event_is_a_line_of_text(start: Start, pki: TrialPki) -> None:
    """For people: time, level, the request's id, and what happened."""
    daemon = start()
    assert daemon.post(pki, headers={"X-Request-Id": "build-17"}).status_code == 200
    mine = [line.split("[build-17] ")[1] for line in daemon.log().splitlines() if "[build-17]" in line]
    assert [line.split()[0].rstrip(":") for line in mine] == ["received", "keys", "cst", "verified", "answered"]


def test_no_secret_is_in_the_log_of_a_full_run(
    start: Start, pki: TrialPki, other_pki: TrialPki, tmp_path: Path, cst_base: Path
) -> None:
    """Nor in an answer: private keys, the pass phrase and tokens, over good requests, bad ones and a chatty cst."""
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\ncat k1/* k2/* description.csf; env; exit 1\n")
    chatty.chmod(0o755)
    config = CALLERS + f'[cst.versions]\nchatty = "{chatty}"\n'
    daemon = start(config, DIGSIGD_TEST_SECRET="secret-of-the-environment")
    daemon.put_keys("bad", b"\x1f\x8b" + b"".join(pki.files.values()))
    answers = []
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}, {}):
        for changes in ({}, {"machine": "bad"}, {"machine": "unheard-of"}, {"cstversion": "chatty"}):
            answers.append(daemon.post(pki, headers=headers, **changes))  # type: ignore[arg-type]
    for name in list(ATTACKS)[::5]:
        text = attacked(pki, other_pki, tmp_path / "canary", name)
        answers.append(daemon.post(pki, csf=text, headers={"Authorization": f"Bearer {TOKEN}"}))
    daemon.stop()
    said = daemon.log() + "".join(answer.text + str(answer.headers) for answer in answers)
    assert daemon.log().count("answered") == len(answers)
    secrets = [TOKEN, pki.pass_phrase, "secret-of-the-environment", base64.b64encode(TOKEN.encode()).decode()]
    for name, content in pki.files.items():
        if "_key." in name:
            lines = content.decode().split("\n")
            secrets += [line for line in lines if len(line) > 20 and "-----" not in line and ":" not in line]
    assert len(secrets) > 10
    for secret in secrets:
        assert secret not in said


def check(daemon: Daemon, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command("--check", *options),
        env=daemon.environ, cwd=daemon.folder, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip


def test_a_good_configuration_is_explained(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """What it listens on, the store, each cst proven by signing, each machine's keys; nothing listens."""
    fuses = pki.fuse_value.hex()
    daemon = Daemon(tmp_path, cst_base, f'{CALLERS}[machines.{MACHINE}]\nfuses = "{fuses}"\n')
    (tmp_path / "token").write_text(TOKEN)
    daemon.put_keys(MACHINE, pki.tarball())
    done = check(daemon)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "callers: release", str(daemon.workdir), daemon.keys.as_uri(), "cst 3.4.1", "cst 4.0.1", "signs", fuses,
    ):  # fmt: skip
        assert words in done.stdout
    assert TOKEN not in done.stdout
    assert list(daemon.workdir.iterdir()) == []


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, pki: TrialPki) -> None:
    """A store, a cst, keys that do not match their pins: a line each, and exit code 1."""
    crashing = tmp_path / "crashing"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    config = (
        f'[cst.versions]\n"3.3.1" = "{crashing}"\n'
        f'[machines.one]\nkeys_sha256 = "{"0" * 64}"\n[machines.two]\nfuses = "{"1" * 64}"\n[machines.three]\n'
    )
    daemon = Daemon(tmp_path, tmp_path / "no-cst", config)
    for machine in ("one", "two"):
        daemon.put_keys(machine, pki.tarball())
    done = check(daemon)
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 4
    for words in ("killed by SIGSEGV while signing", "0" * 64, "1" * 64, "no keys for machine 'three'"):
        assert any(words in line for line in failed), done.stdout


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("[cst]\ntimout = 3\n", (), ["digsigd.toml", "cst.timout", "did you mean 'timeout'"]),
        ("[cst]\ntimeout = 'long'\n", (), ["cst.timeout", "expected a number"]),
        ("[keys\n", (), ["is not TOML"]),
        ("", ("--listen", "tcp:1:interface=0.0.0.0"), ["not loopback", "callers", "allow_anonymous"]),
        ("", ("--listen", "nonsense:interface=127.0.0.1"), ["nonsense"]),
        ("[callers.a]\ntoken_file = 'none'\n", (), ["callers.a.token_file", "cannot be read"]),
        ("[policy]\nallow = ['everything']\n", (), ["policy.allow", "everything", "unlock-ocotp-scs"]),
    ],
)
def test_a_mistake_ends_the_start_with_one_text(
    tmp_path: Path, cst_base: Path, config: str, options: tuple[str, ...], words: list[str]
) -> None:
    """The file or option, the key, and what was expected; no traceback, and nothing listens."""
    daemon = Daemon(tmp_path, cst_base, config)
    done = subprocess.run(
        daemon.command(*options),
        env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stdout + done.stderr


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path, cst_base: Path) -> None:
    """With one line, and without a directory left."""
    daemon = Daemon(tmp_path, cst_base)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run(
            daemon.command("--listen", f"tcp:{port}:interface=127.0.0.1"),
            env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode == 1
    assert "in use" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(daemon.workdir.iterdir()) == []


def test_environment_variables_are_enough(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """As with the existing servers: no file at all."""
    daemon = Daemon(tmp_path, cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    command = daemon.command("--check")
    at = command.index("--config")
    del command[at : at + 2]
    done = subprocess.run(
        command, env={**daemon.environ, "RUNTIME_DIRECTORY": str(daemon.workdir)}, cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(daemon.workdir) in done.stdout


def test_help_says_what_there_is(tmp_path: Path, cst_base: Path) -> None:
    """All options, and the variables."""
    daemon = Daemon(tmp_path, cst_base)
    done = subprocess.run(
        [*daemon.command()[:4], "--help"], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert done.returncode == 0
    for word in ("--config", "--listen", "--log-format", "--check", "DIGSIGSERVER_KEYFILE_URI"):
        assert word in done.stdout


def test_a_check_may_run_beside_its_daemon(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """It stays in the foreground without -n, neither minds nor writes twistd's pidfile, and writes no log."""
    daemon = Daemon(tmp_path, cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    pidfile = tmp_path / "twistd.pid"
    pidfile.write_text(str(os.getpid()))
    command = [one for one in daemon.command("--check") if one not in {"-n", "--pidfile="}]
    there = sorted(tmp_path.iterdir())
    for code in (0, 1):
        done = subprocess.run(
            command, env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        assert done.returncode == code, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        assert all(re.match(r"(ok|warn|FAILED) +\w", line) for line in lines), lines
        assert (lines[-1].startswith("FAILED"), done.stderr) == (bool(code), "")
        assert pidfile.read_text() == str(os.getpid())
        assert sorted(tmp_path.iterdir()) == there
        daemon.config.write_text(daemon.config.read_text() + "[machines.two]\n")


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """With its pipe full for good, a daemon still signs, and still ends when it is told to."""
    daemon = Daemon(tmp_path, cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    with subprocess.Popen(
        daemon.command(), env=daemon.environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        said = b""
        while not (found := re.search(rb"listening on (\S+) .*\n", said)):
            said += os.read(process.stdout.fileno(), 1 << 16)
        daemon.url = f"http://{found[1].decode()}"
        for _ in range(30):
            assert daemon.post(pki).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_every_line_of_a_request_names_its_caller_and_both_ids(start: Start, pki: TrialPki) -> None:
    """Two requests with the same id of the client are told apart by the host's own, which the answer has, too."""
    daemon = start(CALLERS, form="json")
    bearer = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "build-17"}
    answers = [daemon.post(pki, headers=bearer) for _ in range(2)]
    answers.append(httpx.get(f"{daemon.url}/machines/{MACHINE}", headers=bearer))
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    for answer, events in zip(answers, (5, 5, 3), strict=True):
        own = answer.headers["X-Digsigd-Request"]
        assert re.fullmatch("[0-9a-f]{16}", own)
        mine = [line for line in lines if line.get("own_id") == own]
        assert len(mine) == events
        assert {(line["request_id"], line["caller"]) for line in mine} == {("build-17", "release")}


def test_who_is_refused_is_logged_with_the_address(start: Start, pki: TrialPki) -> None:
    """401 without a caller, 403 with one, each with where it came from, also in text."""
    config = CALLERS.replace('machines = ["*"]', 'machines = ["other"]')
    daemon = start(config, form="json")
    wrong, right = ({"Authorization": f"Bearer {token}"} for token in (TOKEN + "x", TOKEN))
    assert daemon.post(pki, headers=wrong).status_code == 401
    assert daemon.post(pki, headers=right).status_code == 403
    assert httpx.get(f"{daemon.url}/machines/{MACHINE}", headers=right).status_code == 403
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    answered = [(one["status"], one["caller"], one["address"]) for one in lines if one["event"] == "answered"]
    assert answered == [(401, "-", "127.0.0.1"), (403, "release", "127.0.0.1"), (403, "release", "127.0.0.1")]
    text = start(config)
    own = text.post(pki, headers=wrong).headers["X-Digsigd-Request"]
    text.wait_for_log(f"(- at 127.0.0.1, {own})")
