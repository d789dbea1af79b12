"""All metrics: their names, kinds, labels and meanings. Nothing else is exported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from digsigd import errors

Kind = Literal["counter", "gauge", "histogram"]

# The stages of a request, in order.
STAGES = ("upload", "keys", "wait", "cst", "verify", "record", "answer")
# Where the labels of machines end: the one of all machines without a label.
OTHER = "other"
# The upper bounds of the buckets of histograms, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_STATES = ("untried", "ready", "failed")


def _problems(kind: type[errors.DigsigError]) -> Iterator[str]:
    yield kind.problem
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from _problems(one)


# How a request can end: with a signature, with a problem of `digsigd.errors`, without a client, or in another way.
OUTCOMES = ("signed", *sorted(set(_problems(errors.DigsigError))), "gone", OTHER)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the endings that Prometheus adds, its kind, its meaning, and its labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> tuple[str, ...]:
        """The names of its samples."""
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"digsigd_{name}", "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"digsigd_{name}", "gauge", text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"digsigd_{name}", "histogram", text, labels)


FAMILIES: dict[str, Family] = {
    one.name.removeprefix("digsigd_"): one
    for one in (
        _gauge("build_info", "1, with the version of digsigd", "version"),
        _gauge("start_timestamp_seconds", "When the daemon started, as Unix time"),
        _counter("requests", "Requests to sign, by how they ended and for which machine", "outcome", "machine"),
        _histogram("request_seconds", "Time of a signed request, from its headers to the end of its answer"),
        _histogram("stage_seconds", "Time of one stage of a request", "stage"),
        _counter("received_bytes", "Bytes of the bodies of requests to sign"),
        _counter("blob_bytes", "Bytes of CSF blobs and, for AHAB, of signed files that were sent"),
        _gauge("active_requests", "Requests to sign that are not over, from headers to answer"),
        _gauge("running", "Slots of cst in use"),
        _gauge("waiting", "Requests that wait for a slot of cst"),
        _gauge("slots", "Slots of cst: how many can run at a time"),
        _gauge("upload_bytes", "Bytes of the work directory that active requests use or have reserved", "use"),
        _gauge("key_cache_tarballs", "Key tarballs in memory"),
        _gauge("key_cache_bytes", "Bytes of key tarballs in memory"),
        _counter("key_fetches", "Uses of the key store: tarballs fetched, or found unchanged", "how"),
        _gauge(
            "certificate_expires_in_seconds",
            "Time until the first certificate of a machine's keys expires; negative afterwards",
            "machine",
        ),
        _gauge(
            "host_certificate_expires_in_seconds", "Time until this host's TLS certificate expires; negative afterwards"
        ),
        _gauge("token_state", "1 for the state of a token's PIN: untried, ready or failed", "token", "state"),
        _gauge("record_entries", "Entries of the record up to its signed head"),
        _gauge("record_last_append_timestamp_seconds", "When the record's head was last moved, as Unix time"),
        _gauge("record_waiting", "Entries that wait to be written"),
        _gauge("record_writable", "1 if the record can be written, else 0"),
        _gauge(
            "reactor_stall_seconds", "The longest time in the last minute that the event loop stood still", "worker"
        ),
        _gauge("workers", "Processes that sign: how many are configured, and how many are ready", "state"),
        _counter("worker_restarts", "Workers that ended and were replaced"),
        _gauge("canary_ok", "1 if the last run of the canary signed and verified its image, else 0"),
        _counter("canary_runs", "Runs of the canary, by whether they worked", "result"),
        _gauge("canary_seconds", "Time of the last run of the canary"),
        _gauge("canary_last_success_timestamp_seconds", "When the canary last worked, as Unix time"),
    )
}
