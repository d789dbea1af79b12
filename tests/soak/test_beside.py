"""A good request beside clients that are slow, silent, greedy or gone."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.daemon.test_full_and_late import SMALL
from tests.helpers.daemons import IMAGE, RIGHTS, TOKEN, Daemon, Start
from tests.helpers.proof import proven
from tests.soak.figures import Figures
from tests.soak.nuisances import NUISANCES
from tests.soak.scale import Scale

OTHER = "a-token-of-somebody-else"
CONFIG = """
[listen]
max_connections = 1500
[upload]
idle_timeout = 5
timeout = 6
max_artifact = 5_000_000
"""


# A file system of its own for the work directory.
SMALL_ENOUGH = SMALL.replace("size=8m", "size=64m")


def started(start: Start, folder: Path) -> Daemon:
    """With two callers, a work directory of 64 MiB, and limits that a test can wait for."""
    (folder / "other").write_text(OTHER)
    callers = (
        f'[callers.other]\ntoken_file = "{folder}/other"\n{RIGHTS}[callers.release]\ntoken_file = "token"\n{RIGHTS}'
    )
    return start(CONFIG + callers, DAEMON_PREFIX=SMALL_ENOUGH)


def good_requests(daemon: Daemon, pki: TrialPki, count: int) -> float:
    """Send so many, one after the other, which are all signed. Returns the median of their times, in ms."""
    times = []
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for _ in range(count):
            began = time.monotonic()
            answer = daemon.post(pki, client=client)
            times.append((time.monotonic() - began) * 1000)
            assert answer.status_code == 200, answer.text
            proven(pki, IMAGE, answer.content)
    return median(times)


@pytest.mark.parametrize("name", NUISANCES)
def test_a_good_request_is_signed_beside(
    name: str, scale: Scale, figures: Figures, start: Start, pki: TrialPki, tmp_path: Path
) -> None:
    """Each one, and whoever is slow is dropped at the limits with the reason; then nothing is left of them."""
    daemon = started(start, tmp_path)
    kind, number = NUISANCES[name]
    good_requests(daemon, pki, 5)
    before = len(daemon.descriptors())
    alone = good_requests(daemon, pki, scale.good)
    with kind(daemon, pki, number, b"Authorization: Bearer " + OTHER.encode() + b"\r\n") as others:
        daemon.wait_for(lambda: others.begun >= number, what="them to begin")
        beside = good_requests(daemon, pki, scale.good)
        if kind.dropped:
            daemon.wait_for(lambda: len(others.ended) >= number, what="them to be dropped")
    figures.add(
        "A good request beside others",
        beside=name, requests=2 * scale.good, **{"idle ms": alone, "beside ms": beside, "more ms": beside - alone},
    )  # fmt: skip
    # A connection that was silent is closed without a word; nothing else is.
    assert not kind.dropped or set(others.ended) <= {"408", "503", ""}, set(others.ended)
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.wait_for(lambda: len(daemon.descriptors()) <= before + 2, what="as few descriptors as before")
