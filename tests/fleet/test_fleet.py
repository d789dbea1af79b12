"""A fleet behind HAProxy signs while hosts die, are replaced, and lose their database. `make fleet` has more of it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from digsigd.testing import TrialPki
from tests.fleet.crowd import Crowd
from tests.fleet.figures import figures_of, keep, markdown
from tests.fleet.fleet import AHAB_MACHINE, FULL, QUICK, Fleet, Size
from tests.helpers.key_servers import MACHINE


@pytest.fixture(
    params=[
        pytest.param("quick", marks=pytest.mark.timeout(600)),
        pytest.param("full", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ]
)
def size(request: pytest.FixtureRequest) -> Size:
    """How much it does: a little in `make test`, more in `make fleet`."""
    return QUICK if request.param == "quick" else FULL


def test_every_client_gets_its_signature_and_each_is_recorded_once(
    tmp_path: Path,
    cst_base: Path,
    pki: TrialPki,
    size: Size,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever happens to one part of the fleet: each blob or AHAB file verifies, and the record knows whose it is."""
    with Fleet(tmp_path, cst_base, pki, size) as fleet:
        with Crowd(fleet.task(), tmp_path, size.seconds) as crowd:
            crowd.wait_for(size.gap)
            with fleet.event("kill -9 of host 1"):
                fleet.kill(1)
            crowd.wait_for_more(size.gap)
            with fleet.event("host 1 starts again"):
                fleet.start(1)
            crowd.wait_for_more(size.gap)
            with fleet.event("host 2 drained, new version"):
                fleet.upgrade(2)
            crowd.wait_for_more(size.gap)
            with fleet.event("PostgreSQL restarts"):
                fleet.restart_database()
            crowd.wait_for_more(size.gap)
            with fleet.event("new certificates"):
                fleet.rotate(size.hosts)
            crowd.wait_for_more(size.gap)
        fleet.count()
        cpu = fleet.cpu()
        entries = fleet.recorded()
        check(size, crowd.results, entries)
        # Hosts that were restarted have lost what they had used before.
        kept = {name: used for name, used in cpu.items() if name in {"HAProxy", "S3 server"}}
        own = [one for one in entries if one["outcome"] == "signed" and one["number"] == size.hosts]
        folder = request.config.getoption("--soak-folder")
        if size.hosts > 2 and folder:
            figures = figures_of(fleet, crowd.results, entries, kept)
            mine = cpu[f"host {size.hosts}"] / len(own) * 1000
            figures["cpu ms of a signature"]["a host, with cst and its health checks"] = round(mine, 2)
            keep(figures, Path(folder))
            with capfd.disabled():
                sys.stdout.write("\n" + markdown(figures))


def check(size: Size, results: list[dict[str, Any]], entries: list[dict[str, Any]]) -> None:
    """Every image was signed; each blob is in the record once, for its image, its caller and the id in its answer."""
    assert [one for one in results if "error" in one] == []
    assert len(results) >= size.images
    assert len({one["artifact"] for one in results}) == len(results)
    signed = [one for one in entries if one["outcome"] == "signed"]
    assert max(Counter(one["blob"]["sha256"] for one in signed).values()) == 1
    by_blob = {one["blob"]["sha256"]: one for one in signed}
    for one in results:
        entry = by_blob[one["blob"]]
        assert [artifact["sha256"] for artifact in entry["artifacts"]] == [one["artifact"]]
        assert (entry["entry"], entry["caller"]) == (one["record"], one["caller"])
    # What was signed and not received was asked for again: its answer was lost with the host.
    assert len(signed) - len(results) <= sum(len(one["retries"]) for one in results)
    # Of HAB and of AHAB.
    assert {entry["machine"] for entry in signed} == {MACHINE, AHAB_MACHINE}
    # All hosts took part.
    assert {one["number"] for one in signed} == set(range(1, size.hosts + 1))
