"""The command as people run it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
