"""Faults while clients are answered: each is told, nothing wrong is answered, all is recorded, and it passes."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.record.database import sqlite_url
from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, Daemon
from tests.record.clients import Clients
from tests.record.test_daemons import check_all_recorded, daemon_in
from tests.soak.faults import FAULTS, Fault
from tests.soak.figures import Figures
from tests.soak.scale import Scale


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that users without rights can reach."""
    made = Path(tempfile.mkdtemp(prefix="digsigd-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def children_of(daemon: Daemon) -> list[str]:
    return Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_and_passes(
    name: str, scale: Scale, figures: Figures, public: Path, cst_base: Path, pki: TrialPki, other_pki: TrialPki
) -> None:
    """Under load: with the right status, each 200 verifies and is recorded once, and it signs again without a start."""
    if name == "process table full" and os.geteuid() != 0:
        return  # only root can start a process as another user
    fault = FAULTS[name](public, cst_base, pki, other_pki)
    try:
        daemon = fault.daemon.start()
        with Clients(daemon, pki, headers=fault.headers, **fault.fields) as clients:
            daemon.wait_for(lambda: clients.count(200) > 4, what=f"some that are signed: {told(clients)}")
            fault.begin()
            began = time.monotonic()
            daemon.wait_for(
                lambda: time.monotonic() > began + scale.seconds and (shown(fault, clients) or not fault.shows),
                what="the fault to show",
            )
            fault.end()
            ended = time.monotonic()
            daemon.wait_for(lambda: clients.signs_since(ended) is not None, what="one that is signed")
            recovered = clients.signs_since(ended)
            signed = clients.count(200)
            daemon.wait_for(lambda: clients.count(200) > signed + 4)
        daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
        daemon.wait_for(lambda: children_of(daemon) == [], what="no process")
        figures.faults(name, clients, recovered)
        stop(daemon)
        assert set(clients.statuses) <= {200, *fault.statuses}, told(clients)
        assert clients.wrong == []
        assert clients.reset == 0
        check_all_recorded(clients, sqlite_url(public / "state/record.sqlite"), public / "state")
    finally:
        fault.daemon.kill()
        fault.close()


def stop(daemon: Daemon) -> None:
    """Stop it without looking at the log for faults: they were caused."""
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(DEADLINE) == -signal.SIGTERM
    found = re.search(r"nhandled|Traceback", daemon.log())
    assert found is None, daemon.log()[max(0, found.start() - 500) : found.start() + 4000]


def shown(fault: Fault, clients: Clients) -> bool:
    return any(status in fault.statuses for status in set(clients.statuses))


def told(clients: Clients) -> list[str]:
    """What clients were told that were not signed, each once."""
    return sorted({re.sub(r" \[request .*", "", f"{status}: {text}") for status, text in clients.answers.values()})


def test_nothing_accepted_is_lost_by_a_stop(
    scale: Scale, figures: Figures, tmp_path: Path, cst_base: Path, pki: TrialPki
) -> None:
    """SIGTERM at random moments under load: whatever the daemon has received, its client has the answer of."""
    daemon = daemon_in(tmp_path, cst_base, pki)
    state = tmp_path / "state"
    chance = random.Random(scale.seed)
    again = []
    daemon.start()
    with Clients(daemon, pki, 8) as clients:
        for _ in range(scale.stops):
            signed = clients.count(200)
            daemon.wait_for(lambda n=signed: clients.count(200) > n)
            time.sleep(chance.random() * 0.2)
            daemon.stop()
            ended = time.monotonic()
            daemon.start()
            daemon.wait_for(lambda at=ended: clients.signs_since(at) is not None)
            again.append(clients.signs_since(ended) or 0.0)
    daemon.stop()
    figures.faults(f"SIGTERM, {scale.stops} times", clients, sum(again) / len(again))
    received = set(re.findall(r"\[(client-\d+)[^\]]*\].* received", daemon.log()))
    assert len(received) > 10
    assert received <= set(clients.answers), f"seed {scale.seed}"
    assert set(clients.statuses) <= {200, 503}, told(clients)
    assert clients.wrong == []
    check_all_recorded(clients, sqlite_url(state / "record.sqlite"), state)
