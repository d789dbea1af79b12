"""What a host shows of AHAB requests in its metrics and traces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digsigd.metrics.catalogue import STAGES
from tests.daemon.test_scraped_metrics import counts
from tests.daemon.test_spans import AT_ONCE, TRACE, TRACED, Collector, attributes
from tests.helpers.ahab_cases import description, image
from tests.helpers.ahab_daemons import ahab_daemon, post_ahab
from tests.helpers.daemons import Daemon
from tests.helpers.scrapes import OWN_PORT, place, scraped, value

GOOD = "good-93-sd-spl"


@pytest.fixture
def started(tmp_path: Path, cst_base: Path) -> Iterator[Any]:
    """Starts a daemon with AHAB keys."""
    daemons: list[Daemon] = []

    def one(config: str, **environ: str) -> Daemon:
        daemon = ahab_daemon(tmp_path / "daemon", cst_base, OWN_PORT + config, **environ)
        daemons.append(daemon)
        return daemon.start()

    yield one
    for daemon in daemons:
        if not daemon.process_ended():
            daemon.stop()


def test_ahab_requests_are_counted(started: Any) -> None:
    """With all stages; outcomes and machines are those labels alone, whatever `soctype` a client sends."""
    daemon = started('[machines.ahab-p384]\nsoc = "mx93"\n')
    url = place(daemon)
    assert post_ahab(daemon, soctype="mx93").status_code == 200
    assert post_ahab(daemon, soctype="mx95").status_code == 422
    assert post_ahab(daemon, soctype="mx93-of-a-client").status_code == 400
    daemon.wait_for(lambda: sum(counts(scraped(url)).values()) == 3, what="three counted requests")
    samples = scraped(url)
    refused = next(outcome for (outcome, _), number in counts(samples).items() if number and outcome != "signed")
    assert counts(samples)["signed", "ahab-p384"] == 1
    assert refused in {"refused", "bad-request"}
    assert not any("of-a-client" in str(key) or "mx9" in str(key) for key in samples)
    for stage in STAGES:
        assert value(samples, "stage_seconds_count", stage=stage) >= 1, stage
    assert value(samples, "request_seconds_count") == 1
    assert value(samples, "blob_bytes_total") == len(image(GOOD))
    daemon.wait_for(
        lambda: value(scraped(url), "certificate_expires_in_seconds", machine="ahab-p384") > 3600,
        what="the certificates of a machine with AHAB",
    )


def test_an_ahab_request_is_a_part_of_a_trace(started: Any) -> None:
    """A span for each stage, as of HAB, also where several containers are signed."""
    with Collector.running() as collector:
        daemon = started(
            f'[telemetry]\notlp = "{collector.url}"\n[policy]\nallow = ["ahab-several-containers"]\n', **AT_ONCE
        )
        text = description("bad-two-authenticate-data")
        answer = post_ahab(daemon, text=text, data=image("bad-two-authenticate-data"), headers=TRACED)
        assert answer.status_code == 200, answer.text
        daemon.wait_for(lambda: len(collector.spans) == len(STAGES) + 1, what="all spans")
        stages = [span for span in collector.spans if span.name != "POST /sign/imx"]
        assert sorted(span.name for span in stages) == sorted(STAGES)
        assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
        found = attributes(collector.request())
        assert (found["digsigd.outcome"], found["digsigd.machine"]) == ("signed", "ahab-p384")
