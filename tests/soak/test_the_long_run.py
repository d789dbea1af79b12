"""Many requests in a row, after all else in `make soak`: nothing grows. What was sampled is kept, and plotted."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from statistics import median

from digsigd.testing import TrialPki
from tests.helpers.daemons import Daemon, Start
from tests.record.clients import Clients
from tests.soak.figures import Figures
from tests.soak.plots import plot_samples
from tests.soak.scale import Scale

COLUMNS = ("requests", "seconds", "memory_mib", "descriptors", "threads", "files")
# How many samples are needed, however late it is.
_AT_LEAST = 40


def sample(daemon: Daemon, requests: int, seconds: float) -> dict[str, float]:
    """What the daemon has: resident memory, open descriptors, threads, files in its work directory."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    values = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    found = (
        requests,
        round(seconds, 2),
        round(int(values["VmRSS"][0]) / 1024, 2),
        len(daemon.descriptors()),
        int(values["Threads"][0]),
        len(daemon.left_behind()),
    )
    return dict(zip(COLUMNS, found, strict=True))


def test_nothing_grows_with_requests(scale: Scale, figures: Figures, start: Start, pki: TrialPki) -> None:
    """Not memory, descriptors, threads or files: the last tenth has no more than the second had, but for a margin."""
    daemon = start("[record]\nurl = 'none'\n")
    samples: list[dict[str, float]] = []
    began = time.monotonic()
    with Clients(daemon, pki) as clients:
        while (done := len(clients.statuses)) < scale.requests and (
            time.monotonic() < scale.ends or len(samples) < _AT_LEAST
        ):
            samples.append(sample(daemon, done, time.monotonic() - began))
            time.sleep(0.02 if not scale.is_soak else 0.5)
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    after = sample(daemon, len(clients.statuses), time.monotonic() - began)
    samples.append(after)
    assert set(clients.statuses) == {200}
    assert clients.wrong == []
    assert clients.reset == 0
    tenth = max(len(samples) // 10, 1)
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    for name in COLUMNS[2:]:
        first, last = median(one[name] for one in early), median(one[name] for one in late)
        figures.add(
            "Requests in a row",
            what=name, requests=after["requests"], early=first, late=last, peak=max(one[name] for one in samples),
        )  # fmt: skip
        # In the quick form, caches of the first requests still fill.
        margin = {"memory_mib": 4.0 if scale.is_soak else 12.0, "threads": 12, "descriptors": 16, "files": 16}[name]
        assert last <= first + margin, (name, samples[:: len(samples) // 10 or 1])
    if figures.folder is not None:
        figures.folder.mkdir(parents=True, exist_ok=True)
        with (figures.folder / "requests-in-a-row.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(samples)
        plot_samples(samples, figures.folder)
