"""What a Prometheus would read from a daemon."""

from __future__ import annotations

import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.daemons import DEADLINE, Daemon

# Metrics at an endpoint of their own, on any port.
OWN_PORT = '[listen]\nendpoint = "tcp:0:interface=127.0.0.1"\n[metrics]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def place(daemon: Daemon) -> str:
    """The URL of a daemon's own endpoint for metrics."""
    line = re.compile(r"metrics at ([0-9.]+:\d+)\b.*\n")
    daemon.wait_for(lambda: line.search(daemon.log_so_far()), what="the place of its metrics in the log")
    found = line.findall(daemon.log_so_far())
    return f"http://{found[-1]}/metrics"


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(url: str) -> Samples:
    answer = httpx.get(url, timeout=DEADLINE)
    assert answer.status_code == 200, answer.text
    return parsed(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample; 0 if it is not there."""
    return samples.get((f"digsigd_{name}", tuple(sorted(labels.items()))), 0.0)


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}
