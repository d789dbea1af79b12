"""The command as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import Run


@pytest.fixture
def digsign(tmp_path: Path) -> Run:
    """`digsign` as a process of its own, in an empty folder, with nothing configured."""

    def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DIGSIGN_")}
        return subprocess.run(
            [sys.executable, "-m", "digsigd.cli.main", *map(str, arguments)],
            cwd=tmp_path, env={**inherited, "HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8", **environ},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return run
