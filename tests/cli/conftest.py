"""The command as people run it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.ahab_cases import image
from tests.helpers.commands import Run
from tests.helpers.preloaded import PreloadedDigsign


@pytest.fixture(scope="session")
def preloaded() -> Iterator[PreloadedDigsign]:
    """What forks commands that need not load their modules again."""
    made = PreloadedDigsign()
    yield made
    made.stop()


@pytest.fixture
def digsign(tmp_path: Path, preloaded: PreloadedDigsign) -> Run:
    """`digsign` as a process of its own, in an empty folder, with nothing configured."""

    def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGSIGN_")}
        return preloaded.run([*map(str, arguments)], tmp_path, {**inherited, "HOME": str(tmp_path), **environ})

    return run


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    """A flash.bin for SD on i.MX 93, alone in its folder: NXP's container at 0, SPL's at 0x400, U-Boot's at 0x4000."""
    path = tmp_path / "flash.bin"
    path.write_bytes(image("good-93-sd-spl"))
    return path
