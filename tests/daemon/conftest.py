"""Daemons that several tests share, and throw-away keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, TOKEN, Daemon, Start


@pytest.fixture
def start(tmp_path: Path, cst_base: Path, pki: TrialPki) -> Iterator[Start]:
    """Starts a daemon that has the keys of one machine; stops it after the test."""
    started: list[Daemon] = []

    def one(config: str = "", *, form: str = "text", **environ: str) -> Daemon:
        folder = tmp_path / f"daemon{len(started)}"
        folder.mkdir()
        daemon = Daemon(folder, cst_base, config, form=form, environ=environ)
        started.append(daemon)
        daemon.put_keys(MACHINE, pki.tarball())
        (folder / "token").write_text(TOKEN + "\n")
        return daemon.start()

    yield one
    for daemon in started:
        if not daemon.process_ended():
            daemon.stop()
