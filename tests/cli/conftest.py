"""The command as people run it, and the real cst for what it looks at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hab.blobs import Signing

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def signing(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Signing:
    """The real cst, both versions, and keys of every kind."""
    return Signing(cst_base, lambda: tmp_path_factory.mktemp("signing"))


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
