"""Whether a cst is told apart from one that only looks like it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from digsigd.signing.cst import CstRunner
from digsigd.signing.selftest import prove
from digsigd.signing.signer import RunBounds
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool, CstTools
from digsigd.signing.workdir import Workdir
from tests.helpers.tools import ToolFolder


@pytest.fixture
def ask(tool_folder: ToolFolder, runner: CstRunner, in_thread: InThread) -> Callable[[str], object]:
    folder = tool_folder.folder / "workdir"
    folder.mkdir()
    return lambda tool: prove(CstTool("1", tool), runner, Workdir(folder), in_thread, RunBounds())


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
async def test_a_real_cst_is_proven(cst_base: Path, ask: Callable, version: str) -> None:  # type: ignore[type-arg]
    """It signs a trial image, and the signature holds."""
    assert await ask(CstTools(cst_base, {}).find(version).executable) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("exit 0", "wrote no CSF blob"),
        ("exit 3", "exit code 3"),
        ("head -c 2000 /dev/urandom > csf.bin", "wrong signature"),
    ],
)
async def test_what_does_not_sign_is_told(tool_folder: ToolFolder, ask: Callable, text: str, problem: str) -> None:  # type: ignore[type-arg]
    """A crash, silence, an error, and an answer that is no signature."""
    told = await ask(tool_folder.shell(text))
    assert told is not None
    assert problem in told


async def test_what_cannot_run_is_told(tool_folder: ToolFolder, ask: Callable) -> None:  # type: ignore[type-arg]
    """A program for another machine, with the system's own words."""
    foreign = bytearray(Path(sys.executable).resolve().read_bytes())
    struct.pack_into("<H", foreign, 18, 0xFEED)  # e_machine, ELF specification
    path = tool_folder.folder / "foreign"
    path.write_bytes(foreign)
    path.chmod(0o755)
    assert "Exec format error" in str(await ask(str(path)))
