"""Metrics of a host in the forms of Prometheus, made with its own client library and a registry that is ours alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from digsigd.metrics.catalogue import BUCKETS, FAMILIES, OTHER, OUTCOMES, STAGES, TOKEN_STATES, Family
from digsigd.metrics.cells import HISTOGRAMS, MOST_MACHINES, Cells, Reading

# The metrics that are one number of a process: their families with the labels, by the names of the cells.
_SUMS = (
    ("active", "active_requests", ()),
    ("reserved", "upload_bytes", ("reserved",)),
    ("stored", "upload_bytes", ("stored",)),
    ("copies", "upload_bytes", ("copies",)),
    ("tarballs", "key_cache_tarballs", ()),
    ("tarball_bytes", "key_cache_bytes", ()),
    ("record_waiting", "record_waiting", ()),
    ("running", "running", ()),
    ("waiting", "waiting", ()),
)  # fmt: skip
_COUNTS = (
    ("received_bytes", "received_bytes", ()),
    ("blob_bytes", "blob_bytes", ()),
    ("keys_fetched", "key_fetches", ("fetched",)),
    ("keys_revalidated", "key_fetches", ("revalidated",)),
    ("worker_restarts", "worker_restarts", ()),
)  # fmt: skip


class HostCollector(Collector):
    """The metrics of a host, read from its cells each time.

    `canary` says whether there is one. `now` is the time of day, and `moment` the monotonic time, in seconds.
    """

    def __init__(
        self,
        cells: Cells,
        *,
        version: str,
        canary: bool = False,
        now: Callable[[], float] = time.time,
        moment: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cells = cells
        self._version = version
        self._canary = canary
        self._now = now
        self._moment = moment

    def collect(self) -> Iterable[Metric]:
        """Implement `Collector.collect`. It may be called in any thread."""
        reading = self._cells.read()
        families = _Families()
        families.add("build_info", (self._version,), 1)
        families.add("start_timestamp_seconds", (), reading.started)
        self._requests(reading, families)
        for cell, family, labels in _COUNTS:
            families.add(family, labels, reading.counter(cell))
        for cell, family, labels in _SUMS:
            families.add(family, labels, sum(reading.alive(cell)))
        families.add("slots", (), max(reading.alive("slots"), default=0))
        self._expiries(reading, families)
        self._tokens(reading, families)
        self._record(reading, families)
        self._processes(reading, families)
        if self._canary:
            _canary(reading, families)
        return families.all()

    def describe(self) -> Iterable[Metric]:
        """Return the families without values: prometheus_client would collect to find their names."""
        return [_empty(one) for one in FAMILIES.values()]

    def _requests(self, reading: Reading, families: _Families) -> None:
        for number, machine in (*enumerate(reading.machines), (MOST_MACHINES, OTHER)):
            for outcome, count in zip(OUTCOMES, reading.requests(number), strict=True):
                # The first series is always there, so that its first request shows as an increase.
                if count or outcome == OUTCOMES[0]:
                    families.add("requests", (outcome, machine), count)
        for number, name in enumerate(HISTOGRAMS):
            if name in STAGES:
                families.observe("stage_seconds", (name,), reading.histogram(number))
            else:
                families.observe("request_seconds", (), reading.histogram(number))

    def _expiries(self, reading: Reading, families: _Families) -> None:
        now = self._now()
        for number, machine in enumerate(reading.machines):
            if when := reading.expires(number):
                families.add("certificate_expires_in_seconds", (machine,), when - now)
        if reading.host_expires:
            families.add("host_certificate_expires_in_seconds", (), reading.host_expires - now)

    def _tokens(self, reading: Reading, families: _Families) -> None:
        for number, token in enumerate(self._cells.layout.tokens):
            known = max(reading.token_states(number), default=0)
            for state, name in enumerate(TOKEN_STATES):
                families.add("token_state", (token, name), float(state == known))

    def _record(self, reading: Reading, families: _Families) -> None:
        writable = reading.alive("record_writable")
        if any(one < 0 for one in writable):
            return  # there is no record, or that of an embedding program
        families.add("record_entries", (), max(reading.alive("record_entries"), default=0))
        families.add("record_last_append_timestamp_seconds", (), max(reading.alive("record_time"), default=0))
        families.add("record_writable", (), min(writable, default=0))

    def _processes(self, reading: Reading, families: _Families) -> None:
        families.add("workers", ("configured",), sum(reading.each("workers_configured")))
        families.add("workers", ("ready",), sum(reading.each("workers_ready")))
        moment = self._moment()
        ticks, stalls = reading.each("tick"), reading.each("stall")
        for number, alive in enumerate(reading.each("alive")):
            if alive:
                # One that stands still now cannot say so itself.
                silent = moment - ticks[number] - TICK
                families.add("reactor_stall_seconds", (str(max(number, 1)),), max(stalls[number], silent, 0.0))


# How often a process says that its event loop runs, in seconds.
TICK = 0.25


def _canary(reading: Reading, families: _Families) -> None:
    families.add("canary_runs", ("ok",), reading.counter("canary_ok"))
    families.add("canary_runs", ("failed",), reading.counter("canary_failed"))
    if reading.counter("canary_ok") + reading.counter("canary_failed"):
        families.add("canary_ok", (), reading.shared("canary_worked"))
        families.add("canary_seconds", (), reading.shared("canary_seconds"))
    if when := reading.shared("canary_time"):
        families.add("canary_last_success_timestamp_seconds", (), when)


class _Families:
    """Metric families that are being filled."""

    def __init__(self) -> None:
        self._made: dict[str, Metric] = {}

    def add(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Add a sample to a counter or a gauge."""
        metric = self._family(name)
        metric.add_metric(labels, value)  # type: ignore[attr-defined]

    def observe(self, name: str, labels: tuple[str, ...], cells: Iterable[float]) -> None:
        """Add a histogram: `cells` are a count for each bucket, one for more, and the sum."""
        *counts, total = cells
        self._family(name).add_metric(labels, list(_buckets(counts)), total)  # type: ignore[attr-defined]

    def all(self) -> list[Metric]:
        """Return them in the order of the catalogue."""
        return [self._made[name] for name in FAMILIES if name in self._made]

    def _family(self, name: str) -> Metric:
        if name not in self._made:
            self._made[name] = _empty(FAMILIES[name])
        return self._made[name]


def _buckets(counts: Iterable[float]) -> Iterator[tuple[str, float]]:
    so_far = 0.0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        so_far += count
        yield bound, so_far


def _empty(family: Family) -> Metric:
    kind = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}[family.kind]
    made: Metric = kind(family.name, family.help, labels=family.labels)
    return made


def registry_of(collector: HostCollector) -> CollectorRegistry:
    """Return a registry with nothing but these metrics. The library's global one is not used."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text and its media type, for an Accept header. Takes milliseconds: call it in a thread."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
