"""Runs `digsign` inside the test, and reads what it makes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from digsigd.cli.main import main
from digsigd.hab import SrkTable
from digsigd.testing import TrialPki
from digsigd.testing.pki import KeyKind
from tests.helpers.daemons import Daemon

Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Digsign:
    """`digsign(...)` runs a command to its end."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: str | Path) -> Ended:
        self._captured.readouterr()
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        told = self._captured.readouterr()
        return Ended(code, told.out, told.err)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_pki(files: dict[str, bytes], kind: KeyKind, *, fast_auth: bool) -> TrialPki:
    """Keys that a command made, with the help that trial keys give: names, descriptions."""
    table = next(data for name, data in files.items() if name.endswith("_table.bin"))
    assert SrkTable.parse(table)
    return TrialPki(files, kind, fast_auth, table)


def host(daemon: Daemon, machine: str = "p384") -> dict[str, str]:
    """The environment that names a daemon and a machine of it."""
    return {"DIGSIGN_SERVER": daemon.url, "DIGSIGN_MACHINE": machine}
