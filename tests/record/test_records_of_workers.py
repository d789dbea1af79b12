"""The record of a daemon with two workers, one of whom is killed again and again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from digsigd.record.database import sqlite_url
from digsigd.testing import TrialPki
from tests.daemon.test_workers import TWO, who_signed, workers
from tests.helpers.postgres import Postgres
from tests.record.clients import Clients
from tests.record.test_daemons import check_all_recorded, daemon_in, postgres

__all__ = ["postgres"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_worker_that_is_killed_has_recorded_what_it_answered(
    kind: str, postgres: Postgres, tmp_path: Path, cst_base: Path, pki: TrialPki
) -> None:
    """Others are signed, it is replaced, its slots and directories are free again, and nothing is there twice."""
    state = tmp_path / "state"
    url = postgres.url if kind == "postgresql" else sqlite_url(state / "record.sqlite")
    daemon = daemon_in(tmp_path, cst_base, pki, f'{TWO}[cst]\nmax_running = 1\n[record]\nurl = "{url}"\n').start()
    with Clients(daemon, pki, 6) as clients:
        for turn in range(4):
            answered = clients.count(200)
            daemon.wait_for(lambda n=answered: clients.count(200) > n + 5)
            os.kill(workers(daemon)[1 + turn % 2], signal.SIGKILL)
            daemon.wait_for_log("is ready (process", 3 + turn)
        # By then each of those whose connection has ended has noticed.
        again = clients.count(200)
        daemon.wait_for(lambda: clients.count(200) > again + 20)
        reset, answered = clients.reset, clients.count(200)
        daemon.wait_for(lambda: clients.count(200) > answered + 20)
        assert clients.reset == reset
    assert set(clients.statuses) == {200}
    assert clients.reset <= 4 * 6
    assert daemon.log().count("was killed by SIGKILL; another one starts") == 4
    assert who_signed(daemon) == {"w1", "w2"}
    daemon.wait_for(lambda: daemon.left_behind() == [])
    assert len(list(daemon.workdir.iterdir())) == 2
    daemon.stop()
    assert list(daemon.workdir.iterdir()) == []
    check_all_recorded(clients, url, state)
