"""docs/client.md: its examples run as they stand there, and its tables have all there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

import digsigd.client
from digsigd.cli import ping
from digsigd.client._internal import api
from digsigd.client._internal.retries import PASSING_PROBLEMS, Timeouts
from digsigd.client._internal.settings import ENVIRONMENT, ClientSettings, add_server_arguments
from digsigd.http.retry import PASSING
from digsigd.testing import TrialPki
from tests.client.conftest import MakeClient
from tests.client.test_client_signing import check
from tests.helpers import golden
from tests.helpers.daemons import MACHINE, Daemon

TEXT = (Path(__file__).parents[2] / "docs/client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
TABLE = re.findall(r"^\| (`server`.*?)\n\n", TEXT, re.DOTALL | re.MULTILINE)[0].splitlines()


def example(name: str) -> Callable[..., Any]:
    """The function of that name from the one example that defines it."""
    (text,) = [text for text in EXAMPLES if f"def {name}(" in text]
    scope: dict[str, Any] = {}
    exec(compile(text, "docs/client.md", "exec"), scope)  # noqa: S102 - it is our own
    function: Callable[..., Any] = scope[name]
    return function


def program(ending: str) -> str:
    """The one example that ends so: a program."""
    found: list[str] = [text for text in EXAMPLES if text.endswith(ending)]
    (text,) = found
    return text


async def ran(text: str, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the document to its end."""
    command = [sys.executable, "-c", text, *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGSIGN_")}
    return await deferToThread(
        subprocess.run, command, cwd=cwd, env={**inherited, "HOME": str(cwd), **environ},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


async def test_the_example_signs_an_image(daemon: Daemon, pki: TrialPki, tmp_path: Path) -> None:
    """As a program, with its settings from the environment; and the one that verifies finds nothing wrong."""
    daemon.put_keys("imx8mm-evk", pki.tarball())
    (tmp_path / "flash.bin").write_bytes(golden.flash("mp", "nxp-new"))
    done = await ran(program("run(sign)\n"), cwd=tmp_path, DIGSIGN_SERVER=daemon.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"signed for boards with {pki.fuse_value.hex()}\n")
    failures = example("failures")
    assert failures(tmp_path / "signed.bin", pki.fuse_value) == []
    assert failures(tmp_path / "flash.bin", pki.fuse_value)[0] == "SPL: CSF"


async def test_the_example_signs_what_is_described(daemon: Daemon, order: dict[str, Any], pki: TrialPki) -> None:
    """And its error is a text for people."""
    sign = example("sign_described")
    check(await sign(reactor, daemon.url, order["artifact"], order["description"]), pki)
    with pytest.raises(SystemExit, match="not signed: csf: line"):
        await sign(reactor, daemon.url, order["artifact"], order["description"].replace(b"[Unlock]", b"[Write Data]"))


async def test_the_example_looks(daemon: Daemon, client: MakeClient, pki: TrialPki) -> None:
    """At what there is for a machine."""
    told = await example("look")(client(daemon.url), MACHINE)
    assert told == f"{pki.certificate('CSF')} and {pki.certificate('IMG')}, for boards with {pki.fuse_value.hex()}"


async def test_the_example_that_is_a_program(daemon: Daemon, tmp_path: Path) -> None:
    """Runs by itself."""
    done = await ran(program("print(run(ask))\n"), daemon.url, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_examples_use_what_is_public_alone() -> None:
    """And the document names all of it."""
    assert "_internal" not in TEXT
    for name in digsigd.client.__all__:
        assert f"`{name}`" in TEXT, name


def test_every_setting_is_in_the_table() -> None:
    """With its variable and its option, and no more than there are."""
    keys = {name for line in TABLE for name in re.findall(r"`(\w+)`", line.split("|")[0 if line is TABLE[0] else 1])}
    assert keys == {one.name for one in fields(ClientSettings)} - {"token"} | {"token_file"}
    assert set(re.findall(r"DIGSIGN_\w+", "".join(TABLE))) == set(ENVIRONMENT)
    parser = ArgumentParser(add_help=False)
    add_server_arguments(parser)
    options = set(re.findall(r"--[a-z-]+", parser.format_help()))
    assert set(re.findall(r"`(--[a-z-]+)`", "".join(TABLE))) | {"--config"} == options
    for line in TABLE:
        for name, default in re.findall(r"`(timeout|retries|allow_plain_http)` .*; `?(\w+)`? \|$", line):
            assert default == str(getattr(ClientSettings(), name)).removesuffix(".0").lower(), line


def test_the_numbers_are_those() -> None:
    """Of the text on tries and bounds."""
    times = Timeouts()
    assert (times.first_pause, times.longest_pause, times.longest_wish) == (1, 60, 600)
    assert (times.connect, times.idle, api._BLOB_BYTES) == (10, 60, 64 << 10)
    assert set(re.findall(r"\b[45]\d\d\b", TEXT.split("## Trying again")[1].split("##")[0])) == {
        *map(str, PASSING),
        "500",
    }
    for problem in PASSING_PROBLEMS:
        assert f"`{problem}`" in TEXT
    assert "exit code" in TEXT
    assert ping.HELP
