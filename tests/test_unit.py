"""The systemd units: systemd itself reads and rates them; and the check that runs as the unit does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from digsigd.admin.main import main
from digsigd.admin.unit import command
from digsigd.cli.console import Trouble
from digsigd.workers.supervisor import _LAST_SECONDS as SUPERVISORS

FOLDER = Path(__file__).parent.parent / "etc/systemd"
SERVICE = (FOLDER / "digsigd.service").read_text()
DIGSIGD = Path(sys.executable).with_name("digsigd")


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_systemd_reads_the_units_without_a_word(tmp_path: Path) -> None:
    """Every setting is known to it, and its value is one."""
    (tmp_path / "digsigd.service").write_text(SERVICE.replace("/opt/digsigd/bin/digsigd", str(DIGSIGD)))
    (tmp_path / "digsigd.socket").write_text((FOLDER / "digsigd.socket").read_text())
    done = analyze("verify", "--man=no", tmp_path / "digsigd.service", tmp_path / "digsigd.socket")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "digsigd" in line]
    assert (done.returncode, said) == (0, [])
    wrong = SERVICE.replace("/opt/digsigd/bin/digsigd", str(DIGSIGD)).replace("PrivateUsers=yes", "PrivateUser=yes")
    (tmp_path / "digsigd.service").write_text(wrong)
    assert "PrivateUser" in analyze("verify", "--man=no", tmp_path / "digsigd.service").stderr


def test_systemd_rates_the_sandbox_below_two() -> None:
    """Of ten, which is no sandbox at all."""
    done = analyze("security", "--offline=true", FOLDER / "digsigd.service")
    found = re.search(r"Overall exposure level for digsigd.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 1.5
    assert analyze("security", "--offline=true", "--threshold=15", FOLDER / "digsigd.service").returncode == 0


def test_the_unit_waits_as_long_as_the_daemon_needs() -> None:
    """With the default grace."""
    from digsigd.settings import DaemonSettings

    found = re.search(r"^TimeoutStopSec=(\d+)$", SERVICE, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > DaemonSettings().shutdown_grace + SUPERVISORS


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["check", "--print", *arguments]) == 0
    return shlex.split(capsys.readouterr().out)


def test_the_check_runs_as_the_unit_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Its user, sandbox and command; not its life, and not the folder of the daemon that runs."""
    words = printed(capsys, "--unit", str(FOLDER / "digsigd.service"), "--machine", "imx8mm-evk")
    assert words[0] == "systemd-run"
    assert words[words.index("--") + 1 :] == [
        "/opt/digsigd/bin/digsigd", "run", "--config", "/etc/digsigd/digsigd.toml",
        "--check", "--machine=imx8mm-evk",
    ]  # fmt: skip
    given = [word.removeprefix("--property=") for word in words if word.startswith("--property=")]
    for line in re.findall(r"^[A-Z]\w*=.*$", SERVICE.partition("[Service]")[2].partition("[Install]")[0], re.MULTILINE):
        name = line.partition("=")[0]
        life = name.startswith(("Type", "Exec", "Watchdog", "Timeout", "Kill", "Restart")) and not name.startswith(
            "Restrict"
        )
        if name == "RuntimeDirectory":
            assert "RuntimeDirectory=digsigd-check" in given
            assert line not in given
        else:
            assert (line in given) is not life, line
    assert {word.partition("=")[0] for word in given} >= {"SystemCallFilter", "User", "DynamicUser", "LimitCORE"}


UNIT = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/twistd -n digsigd\n"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("LoadCredential=a:/x/%%1\n", "--property=LoadCredential=a:/x/%1"),
        ("Environment=A=%d/key\n", "--property=Environment=A=/run/credentials/digsigd-check.service/key"),
        ("BindPaths=%t/x \\\n  # why\n  /y\n", "--property=BindPaths=/run/x    /y"),
        ("DynamicUser=yes\n", "--property=User=digsigd"),
        ("ExecStart=\nExecStart=/bin/digsigd run -c x\n", "/bin/digsigd"),
        ("# a drop-in\n[Service]\nExecStart=\nExecStart=-/bin/twistd digsigd -c 'a b'\n[Install]\nAlias=x\n", "a b"),
    ],
    ids=str,
)
def test_what_a_unit_says_becomes_a_property(more: str, expected: str) -> None:
    """Its specifiers, its continued lines, its drop-ins."""
    assert expected in command(UNIT + more, "digsigd.service", ["--check"])


def test_the_state_of_the_daemon_stays_its_own() -> None:
    """Systemd gives the folders of a unit to the user of the check: it has to be the same one."""
    words = command(UNIT + "DynamicUser=yes\nStateDirectory=digsigd\n", "signing.service", [])
    assert "--property=User=signing" in words
    assert "--unit=signing-check" in words
    assert command(UNIT + "User=x\nDynamicUser=yes\n", "s.service", []).count("--property=User=s") == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[Service]\n", "0 commands in ExecStart="),
        (UNIT + "ExecStart=/bin/true\n", "2 commands in ExecStart="),
        ("[Service]\nExecStart=/bin/true\n", "is not the command of a daemon"),
        ("[Service]\nExecStart=/bin/digsigd token new x\n", "is not the command of a daemon"),
        ("[Service]\nExecStart=digsigd run\n", "is not the command of a daemon"),
        (UNIT + "Environment=A=%b\n", "has %b, which cannot be replaced"),
    ],
    ids=str,
)
def test_a_unit_that_cannot_be_followed_is_told(text: str, reason: str) -> None:
    """Instead of a check of something else."""
    with pytest.raises(Trouble, match=re.escape(reason)):
        command(text, "digsigd.service", [])


def test_a_unit_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With what to do on a host without systemd."""
    assert main(["check", "--unit", str(tmp_path / "x.service")]) == 1
    assert "x.service cannot be read: No such file" in capsys.readouterr().err
    assert main(["check", "--unit", "digsigd-is-not-here"]) == 1
    said = capsys.readouterr().err
    assert "--as USER" in said
    assert "\\n" not in said
    assert main(["check", "--machine", "../x"]) == 2


def test_a_check_that_systemd_cannot_start_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the exit code, and where to read more; the code of a check that ran is passed on."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for code, expected in ((0, 0), (1, 1), (217, 1)):
        (tmp_path / "systemd-run").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "systemd-run").chmod(0o755)
        assert main(["check", "--unit", str(FOLDER / "digsigd.service")]) == expected
    said = capsys.readouterr().err
    assert "exit code 217" in said
    assert "systemd-analyze exit-status 217" in said
    assert "journalctl -u digsigd-check" in said
