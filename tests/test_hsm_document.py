"""The commands of docs/hsm.md's SoftHSM2 section, run in order as they stand there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from digsigd.testing import TrialImage
from tests.helpers.hsm import SoftHsm, provider
from tests.helpers.keys import trial_keys
from tests.helpers.ports import own_ports
from tests.helpers.proof import proven

DOCUMENT = Path(__file__).parent.parent / "docs/hsm.md"
SECTION = DOCUMENT.read_text().partition("## SoftHSM2, step by step")[2].partition("\n## ")[0]
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL))
IMAGE = TrialImage.of_size(0x30000)
DEADLINE = 120


def commands(version: str, port: int) -> str:
    """The commands, for a port that is free, this version of cst, and the module where this host has it."""
    text = COMMANDS
    for old, new in (
        ("9999", str(port)),
        ("cstversion=3.4.1", f"cstversion={version}"),
        ("/usr/lib/softhsm/libsofthsm2.so", SoftHsm.MODULE),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_the_steps_lead_to_a_verified_blob(tmp_path: Path, cst_base: Path, version: str) -> None:
    """With files as NXP's scripts name them, and a PIN that only its file knows."""
    assert provider(cst_base)
    pki = trial_keys("rsa2048")
    for name, content in pki.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "spl.bin").write_bytes(IMAGE.data)
    assert IMAGE.blocks("spl.bin") in COMMANDS
    (port,) = own_ports(1)
    with (tmp_path / "log").open("wb") as log:
        shell = subprocess.Popen(
            ["sh", "-eu", "-c", commands(version, port)],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "DIGSIGSERVER_IMX_CST_BASE": str(cst_base),
            },
        )  # fmt: skip
        try:
            code = shell.wait(DEADLINE)
        finally:
            # The daemon that it started in the background.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    proven(pki, IMAGE, (tmp_path / "spl.csf.bin").read_bytes())
    pin = tmp_path / "hsm/release.pin"
    assert stat.S_IMODE(pin.stat().st_mode) == 0o600
    assert pin.read_text().strip() not in said
