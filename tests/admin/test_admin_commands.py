"""`digsigd token` and `digsigd explain`."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from digsigd.admin.main import main
from digsigd.callers.origins import line_of
from digsigd.settings import load

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `digsigd` inside the test: its exit code, output and errors."""

    def one(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        read = capsys.readouterr()
        return code, read.out, read.err

    return one


def test_a_new_token_comes_with_lines_that_are_a_configuration(run: Run, tmp_path: Path) -> None:
    """The lines hold the hash and the end, and never the token."""
    code, out, err = run("token", "new", "yocto.release", "--days", "30")
    token = out.strip()
    assert (code, token in err) == (0, False)
    assert len(token) == len("digsigd_") + 43  # 32 bytes in base64
    blocks = err.split("\n\n")
    (tmp_path / "digsigd.toml").write_text(blocks[3] + "\n" + blocks[1])
    caller = load(tmp_path / "digsigd.toml", {}).callers["yocto.release"]
    assert caller.tokens[0].sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert caller.tokens[0].not_after is not None
    assert abs(caller.tokens[0].not_after - datetime.now(UTC) - timedelta(days=30)) < timedelta(hours=1)
    assert (caller.machines, caller.backends, caller.cst_versions) == (("MACHINE",), ("ssl",), ("*",))
    assert run("token", "new", "ci")[1] != run("token", "new", "ci")[1]


@pytest.mark.parametrize("arguments", [("new", "a b"), ("new", ""), ("new", "ci", "--days", "0"), ("old", "ci"), ()])
def test_a_wrong_command_line_makes_no_token(run: Run, arguments: tuple[str, ...]) -> None:
    """It ends with 2."""
    code, out, _ = run("token", *arguments)
    assert (code, out) == (2, "")


CONFIG = """\
[policy]
allow = ["unlock-ocotp-scs", "unlock-ocotp-jtag"]

[machines.imx8mm-evk]
allow = ["unlock-snvs-lp-swr"]

# The release builds.
[callers.ci]
machines = [
  "other",
  # a comment
  "imx8mm-*",
]
backends = ["ssl"]
cst_versions = ["3.*"]
csf.allow = ["unlock-ocotp-scs", "unlock-snvs-lp-swr"]
[[callers.ci.tokens]]
sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
[[callers.ci.tokens]]
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
not_after = 2030-01-31T00:00:00Z
[callers.lab]
token_file = "lab"
machines = ["imx8mm-*"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "digsigd.toml"
    path.write_text(CONFIG)
    return path


def test_what_a_caller_may_is_explained_with_the_lines(run: Run, config: Path) -> None:
    """Each right with the line that gives it, and each command that an image could unlock with."""
    code, out, _ = run("explain", "ci", "imx8mm-evk", "--config", config)
    assert code == 0
    policy = "digsigd.toml:2: policy.allow"
    for line in (
        "known by   token 11111111 (digsigd.toml:17: callers.ci.tokens.0)",
        "known by   token 22222222 until 2030-01-31 00:00 UTC (digsigd.toml:19: callers.ci.tokens.1)",
        'allowed    machine imx8mm-evk                "imx8mm-*" in digsigd.toml:9: callers.ci.machines',
        "allowed    backend ssl                       digsigd.toml:14: callers.ci.backends",
        "refused    backend pkcs11                    not in digsigd.toml:14: callers.ci.backends",
        "allowed    cst 3.*                           digsigd.toml:15: callers.ci.cst_versions",
        f"allowed    csf unlock-ocotp-scs              {policy}; digsigd.toml:16: callers.ci.csf.allow",
        f"refused    csf unlock-ocotp-jtag             {policy}; not in digsigd.toml:16: callers.ci.csf.allow",
        "ci may sign for imx8mm-evk",
    ):
        assert line in out.splitlines()
    snvs = next(line for line in out.splitlines() if "unlock-snvs-lp-swr" in line)
    assert snvs.startswith("allowed")
    assert "digsigd.toml:5: machines.imx8mm-evk.allow" in snvs
    assert "1" * 64 not in out


def test_what_a_caller_may_not_is_explained_as_well(run: Run, config: Path) -> None:
    """With what is missing, and exit code 1."""
    code, out, _ = run("explain", "ci", "imx8mp-evk", "--config", config)
    assert code == 1
    assert "no pattern matches in digsigd.toml:9: callers.ci.machines" in out
    code, out, _ = run("explain", "lab", "imx8mm-evk", "--config", config)
    assert code == 1
    assert "refused    backend ssl                       callers.lab.backends is not set" in out
    assert "; callers.lab.csf.allow is not set" in out
    assert "lab may not sign for imx8mm-evk" in out


def test_who_may_read_the_metrics_is_explained(run: Run, config: Path) -> None:
    """Where the daemon's own port serves them."""
    assert "metrics" not in run("explain", "ci", "imx8mm-evk", "--config", config)[1]
    config.write_text(CONFIG.replace("[callers.ci]\n", "[callers.ci]\nmetrics = true\n") + "[metrics]\npath = true\n")
    out = run("explain", "ci", "imx8mm-evk", "--config", config)[1]
    assert "allowed    metrics                           digsigd.toml:9: callers.ci.metrics" in out
    out = run("explain", "lab", "imx8mm-evk", "--config", config)[1]
    assert "refused    metrics                           callers.lab.metrics is not set" in out


def test_without_callers_everybody_may(run: Run, config: Path) -> None:
    """What the policy allows, whoever it is."""
    config.write_text('[policy]\nallow = ["unlock-ocotp-scs"]\n')
    code, out, _ = run("explain", "anybody", "imx8mm-evk", "--config", config)
    assert code == 0
    assert "authentication is off" in out
    assert "allowed    csf unlock-ocotp-scs              digsigd.toml:1: policy.allow" not in out
    assert "allowed    csf unlock-ocotp-scs              digsigd.toml:2: policy.allow" in out


def test_who_is_not_there_is_not_explained(run: Run, config: Path) -> None:
    """The error names those who are; a mistake in the configuration is told as at a start."""
    code, _, err = run("explain", "nobody", "imx8mm-evk", "--config", config)
    assert (code, "callers are: ci, lab" in err) == (1, True)
    assert run("explain", "ci", "../x", "--config", config)[0] == 2
    config.write_text("[callers.ci]\n")
    code, _, err = run("explain", "ci", "imx8mm-evk", "--config", config)
    assert (code, "callers.ci: has nothing to prove who it is" in err) == (1, True)


def test_the_line_of_every_key_of_the_file_that_is_shipped() -> None:
    """A line is right if the file up to there, and not before, has the key."""
    text = "".join(
        line.removeprefix("#") if line.startswith(("#[", '#"')) or (" = " in line and line[1] != " ") else line
        for line in Path("etc/digsigd.toml").read_text().splitlines(keepends=True)
    )
    raw = tomllib.loads(text)
    found = {
        (section, key): line_of(text, (section, key))
        for section, table in raw.items()
        for key in table
        if not isinstance(table[key], dict)
    }
    lines = text.splitlines()
    assert len(found) > 20
    for (section, key), line in found.items():
        assert line is not None
        assert lines[line - 1].startswith(f"{key} = "), (section, key)
    assert line_of(text, ("listen", "none")) is None
    assert line_of(text, ("callers", "yocto-release", "tokens", "1")) is None
