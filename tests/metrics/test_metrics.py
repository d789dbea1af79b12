"""Numbers that processes share, and the text that is made of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import prometheus_client
import pytest

from digsigd.metrics import cells as module
from digsigd.metrics.catalogue import BUCKETS, FAMILIES, OTHER, OUTCOMES, STAGES
from digsigd.metrics.cells import MOST_MACHINES, Cells, Layout
from digsigd.metrics.collect import HostCollector, exposition, registry_of
from digsigd.metrics.meter import Meter
from tests.helpers.scrapes import Samples, names, parsed, value
from tests.helpers.work import calls

SECONDS = dict.fromkeys((*STAGES, "total"), 0.01)
LAYOUT = Layout(3, ("backup", "release"))


@pytest.fixture
def shared() -> Iterator[list[Cells]]:
    """The memory as a supervisor and two workers see it."""
    descriptor = Cells.make(LAYOUT)
    views = [Cells(LAYOUT, column, os.dup(descriptor)) for column in range(3)]
    os.close(descriptor)
    for worker in views[1:]:
        worker.set("alive", 1)
    yield views
    for view in views:
        view.close()


def shown(cells: Cells, *, now: float = 1000.0, moment: float = 0.0, canary: bool = False) -> Samples:
    collector = HostCollector(cells, version="1.2", canary=canary, now=lambda: now, moment=lambda: moment)
    text, _ = exposition(registry_of(collector), "")
    return parsed(text.decode())


def test_any_process_shows_what_all_have_counted(shared: list[Cells]) -> None:
    """Also the supervisor, which counts no requests."""
    for worker in shared[1:]:
        Meter(worker).request("signed", "a", SECONDS, received=100, sent=10)
    for view in shared:
        samples = shown(view)
        assert value(samples, "requests_total", outcome="signed", machine="a") == 2
        assert value(samples, "received_bytes_total") == 200
        assert value(samples, "stage_seconds_count", stage="cst") == 2


def test_a_worker_that_ended_leaves_its_counts_and_nothing_else(shared: list[Cells]) -> None:
    """The next one in its column begins at 0, and counters do not go back."""
    supervisor, first, _ = shared
    Meter(first).request("signed", "a", SECONDS)
    first.set("running", 5)
    first.set_token(0, 2)
    before = shown(supervisor)
    assert value(before, "running") == 5
    assert value(before, "token_state", token="backup", state="failed") == 1
    supervisor.fold(1)
    after = shown(supervisor)
    assert value(after, "requests_total", outcome="signed", machine="a") == 1
    assert value(after, "request_seconds_sum") == pytest.approx(0.01)
    assert value(after, "running") == 0
    assert value(after, "token_state", token="backup", state="failed") == 0
    Meter(first).request("signed", "a", SECONDS)
    assert value(shown(supervisor), "requests_total", outcome="signed", machine="a") == 2


def test_nobody_reads_while_counts_are_moved(shared: list[Cells], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader waits for the end of a fold; otherwise a counter could seem to go back."""
    supervisor, first, second = shared
    Meter(first).request("signed", "a", SECONDS)
    waited = []

    def pause(_: float) -> None:
        waited.append(1)
        second._all[module._FOLDS] += 1.0

    supervisor._all[module._FOLDS] += 1.0
    monkeypatch.setattr(time, "sleep", pause)
    assert value(shown(second), "requests_total", outcome="signed", machine="a") == 1
    assert waited == [1]


def test_machines_have_the_same_label_in_all_processes(shared: list[Cells]) -> None:
    """Whoever gives it."""
    shared[1].label(["a", "b"])
    shared[2].label(["c", "a"])
    assert [view.labelled() for view in shared] == [["a", "b", "c"]] * 3
    shared[2].set_expires("b", 4600.0)
    samples = shown(shared[0], now=1000.0)
    assert value(samples, "certificate_expires_in_seconds", machine="b") == 3600
    assert ("digsigd_certificate_expires_in_seconds", (("machine", "a"),)) not in samples


def test_certificates_on_a_token_expire_as_signatures_have_them() -> None:
    """The first to end, of a tarball and of a token. A renewed one shows after a day: the old one may still sign."""
    cells = Cells(Layout(1))
    cells.label(["a"])

    def expires() -> float:
        return cells.read().expires(0)

    cells.token_certificates("not-known", 4000.0, 0.0)
    assert expires() == 0
    cells.token_certificates("a", 5000.0, 1000.0)
    assert expires() == 5000
    cells.token_certificates("a", 4000.0, 1001.0)
    cells.token_certificates("a", 5000.0, 1002.0)
    assert expires() == 4000
    cells.set_expires("a", 3000.0)
    assert expires() == 3000
    cells.set_expires("a", 0.0)
    cells.token_certificates("a", 5000.0, 1001.0 + 86401)
    assert expires() == 5000


def test_only_a_signature_says_what_is_on_a_token() -> None:
    """Not a request that was refused."""
    cells = Cells(Layout(1))
    Meter(cells).request("signed", "a", {})
    Meter(cells).request("verification-failed", "a", {}, token_expires=time.time() + 60)
    assert cells.read().expires(0) == 0
    Meter(cells).request("signed", "a", {}, token_expires=(ends := time.time() + 3600))
    assert cells.read().expires(0) == ends


def test_there_is_an_end_to_labels() -> None:
    """Machines beyond it are others, as those that never signed."""
    cells = Cells(Layout(1))
    meter = Meter(cells)
    for number in range(MOST_MACHINES + 5):
        meter.request("signed", f"m{number}", {})
    meter.request("no-keys", "not-known", {})
    cells.set_expires("not-known", 5.0)
    samples = shown(cells)
    assert value(samples, "requests_total", outcome="signed", machine=OTHER) == 5
    assert value(samples, "requests_total", outcome="no-keys", machine=OTHER) == 1
    labels = {dict(labels)["machine"] for name, labels in samples if name == "digsigd_requests_total"}
    assert len(labels) == MOST_MACHINES + 1
    assert not cells.has_label("not-known")


def test_a_machine_called_other_is_no_other_machine() -> None:
    """Its series would be there twice; Prometheus would refuse all of them."""
    cells = Cells(Layout(1))
    Meter(cells).request("signed", OTHER, {})
    assert value(shown(cells), "requests_total", outcome="signed", machine=OTHER) == 1


def test_the_longest_name_of_a_machine_fits() -> None:
    """64 characters."""
    cells = Cells(Layout(1))
    name = "m" * 64
    Meter(cells).request("signed", name, {})
    Meter(cells).request("signed", "next", {})
    assert cells.labelled() == [name, "next"]


def test_an_outcome_that_is_not_known_is_counted_as_other() -> None:
    """Such as a problem of HTTP alone."""
    cells = Cells(Layout(1))
    Meter(cells).request("method-not-allowed", "a", {})
    assert value(shown(cells), "requests_total", outcome="other", machine=OTHER) == 1


def test_buckets_include_their_bounds() -> None:
    """As Prometheus has it: le is less or equal. Only signed requests have a time in all."""
    cells = Cells(Layout(1))
    meter = Meter(cells)
    for seconds in (BUCKETS[0], BUCKETS[0] * 1.01, 1e6):
        meter.request("signed", "a", {"cst": seconds, "total": seconds})
    meter.request("refused", "a", {"cst": 1.0, "total": 1.0})
    samples = shown(cells)
    assert value(samples, "stage_seconds_bucket", stage="cst", le=str(BUCKETS[0])) == 1
    assert value(samples, "stage_seconds_bucket", stage="cst", le=str(BUCKETS[1])) == 2
    assert value(samples, "stage_seconds_bucket", stage="cst", le=str(BUCKETS[-1])) == 3
    assert value(samples, "stage_seconds_bucket", stage="cst", le="+Inf") == 4
    assert value(samples, "request_seconds_count") == 3


def test_what_stands_still_shows_by_its_silence(shared: list[Cells]) -> None:
    """And what has stood still, for a while."""
    shared[1].set("tick", 100.0)
    shared[2].set("tick", 40.0)
    shared[2].set("stall", 3.0)
    samples = shown(shared[0], moment=100.25)
    assert value(samples, "reactor_stall_seconds", worker="1") == 0
    assert value(samples, "reactor_stall_seconds", worker="2") == 60
    shared[2].set("tick", 100.0)
    assert value(shown(shared[0], moment=100.25), "reactor_stall_seconds", worker="2") == 3


def test_exactly_the_metrics_of_the_catalogue_are_exported(shared: list[Cells]) -> None:
    """When all of them have something to say."""
    worker = shared[1]
    worker.label(["a"])
    worker.set_expires("a", 1.0)
    worker.set_host_expires(1.0)
    worker.add("canary_ok")
    worker.set_shared("canary_time", 1.0)
    assert names(shown(shared[0], canary=True)) == {name for one in FAMILIES.values() for name in one.exported}


def test_a_host_without_a_record_shows_none(shared: list[Cells]) -> None:
    """Nothing that an alert could take for a record that cannot be written."""
    for worker in shared[1:]:
        worker.set("record_writable", -1)
    assert not any(name.startswith("digsigd_record_e") or name.endswith("writable") for name in names(shown(shared[0])))


def test_the_registry_of_the_library_stays_empty() -> None:
    """Two services in one process do not meet there."""
    one, other = Cells(Layout(1)), Cells(Layout(1))
    Meter(one).request("signed", "a", {})
    assert value(shown(one), "requests_total", outcome="signed", machine="a") == 1
    assert value(shown(other), "requests_total", outcome="signed", machine="a") == 0
    assert b"digsigd" not in prometheus_client.generate_latest()


def test_outcomes_are_the_problems_of_errors() -> None:
    """Each once, and what is no error."""
    assert len(set(OUTCOMES)) == len(OUTCOMES)
    assert {"signed", "refused", "rate-limited", "verification-failed", "internal-error", "gone", "other"} < set(
        OUTCOMES
    )


def test_counting_a_request_is_little_work_however_many_machines_there_are() -> None:
    """Some calls for each stage, and no text is made."""
    cells = Cells(Layout(9))
    meter = Meter(cells)
    meter.request("signed", "m0", SECONDS)
    few = calls(lambda: meter.request("signed", "m0", SECONDS, received=100, sent=10))
    cells.label(f"m{number}" for number in range(MOST_MACHINES))
    assert cells.has_label(f"m{MOST_MACHINES - 1}")
    many = calls(lambda: meter.request("signed", f"m{MOST_MACHINES - 1}", SECONDS, received=100, sent=10))
    assert many == few < 80
