"""Metrics of a real daemon, as a Prometheus reads them: at an endpoint of their own, and on the port of callers."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from digsigd.metrics.catalogue import STAGES
from digsigd.testing import TrialPki
from tests.daemon.test_workers import workers
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, RIGHTS, TOKEN, Daemon, Start
from tests.helpers.scrapes import OWN_PORT, names, parsed, place, scraped, value

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_requests_are_counted_by_how_they_ended_and_by_machine(start: Start, pki: TrialPki) -> None:
    """A machine has its own label once it has signed, or if it is configured; no text of a client is a label."""
    daemon = start(OWN_PORT + "[machines.configured]\n")
    url = place(daemon)
    before = scraped(url)
    assert ("digsigd_requests_total", (("machine", "configured"), ("outcome", "signed"))) in before
    assert value(before, "requests_total", machine=MACHINE, outcome="signed") == 0
    assert daemon.post(pki).status_code == 200
    assert daemon.post(pki).status_code == 200
    assert daemon.post(pki, machine="from-a-client").status_code == 404
    assert daemon.post(pki, machine="configured").status_code == 404
    assert daemon.post(pki, machine="not a name").status_code == 400
    assert daemon.post(pki, csf="[Header]\nVersion = 4.3\n[Install Secret Key]\n").status_code in {400, 422}
    daemon.wait_for(lambda: sum(counts(scraped(url)).values()) == 6, what="six counted requests")
    after = scraped(url)
    assert counts(after) == {
        ("signed", MACHINE): 2, ("no-keys", "other"): 1, ("no-keys", "configured"): 1, ("bad-request", "other"): 1,
        (refused(after), MACHINE): 1,
    }  # fmt: skip
    assert not any("from-a-client" in str(key) for key in after)
    for stage in STAGES:
        assert value(after, "stage_seconds_count", stage=stage) >= 2, stage
    assert value(after, "request_seconds_count") == 2
    assert value(after, "request_seconds_sum") >= value(after, "stage_seconds_sum", stage="cst") > 0
    assert value(after, "received_bytes_total") > 2 * len(IMAGE.data)
    assert value(after, "blob_bytes_total") > 2000
    assert value(after, "key_fetches_total", how="fetched") == 1
    assert value(after, "key_cache_tarballs") == 1


def counts(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> dict[tuple[str, str], float]:
    """The requests, by outcome and machine."""
    found = {}
    for (name, labels), count in samples.items():
        if name == "digsigd_requests_total" and count:
            by = dict(labels)
            found[by["outcome"], by["machine"]] = count
    return found


def refused(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> str:
    return next(outcome for outcome, machine in counts(samples) if machine == MACHINE and outcome != "signed")


def test_an_image_that_is_verified_on_the_page_is_no_request_to_sign(start: Start, pki: TrialPki) -> None:
    """Neither one that gets its report, nor one that is refused."""
    daemon = start(OWN_PORT + "[page]\nenabled = true\n")
    url, page = place(daemon), f"{daemon.url}/page/verify"
    assert httpx.post(page, files={"artifact": ("flash.bin", IMAGE.data)}, timeout=DEADLINE).status_code == 200
    assert httpx.post(page, files={"artifact": ("flash.bin", b"")}, timeout=DEADLINE).status_code == 400
    assert daemon.post(pki).status_code == 200
    daemon.wait_for(lambda: bool(counts(scraped(url))), what="a counted request")
    samples = scraped(url)
    assert counts(samples) == {("signed", MACHINE): 1}
    assert len(IMAGE.data) < value(samples, "received_bytes_total") < 2 * len(IMAGE.data)
    assert value(samples, "stage_seconds_count", stage="upload") == 1


def test_the_state_of_the_host_is_shown(start: Start, pki: TrialPki) -> None:
    """Slots, the record, the processes, and when certificates expire."""
    daemon = start(OWN_PORT + f"[cst]\nmax_running = 3\n[machines.{MACHINE}]\n")
    url = place(daemon)
    entries = value(scraped(url), "record_entries")
    assert daemon.post(pki).status_code == 200
    # At least: daemons of other tests append to the same record.
    assert value(scraped(url), "record_entries") >= entries + 1
    daemon.wait_for(
        lambda: ("digsigd_certificate_expires_in_seconds", (("machine", MACHINE),)) in scraped(url),
        what="the certificates of a configured machine",
    )
    samples = scraped(url)
    assert value(samples, "slots") == 3
    assert value(samples, "record_writable") == 1
    assert value(samples, "record_last_append_timestamp_seconds") > 1e9
    assert value(samples, "workers", state="configured") == value(samples, "workers", state="ready") == 1
    assert value(samples, "running") == value(samples, "waiting") == value(samples, "active_requests") == 0
    assert value(samples, "certificate_expires_in_seconds", machine=MACHINE) > 3600
    assert value(samples, "start_timestamp_seconds") > 1e9
    assert any(name == "digsigd_build_info" for name in names(samples))


def test_both_forms_of_prometheus_are_served(start: Start) -> None:
    """Its own text, and OpenMetrics if the scraper asks for it."""
    url = place(start(OWN_PORT))
    plain = httpx.get(url)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    asked = httpx.get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert {one.name for one in openmetrics(asked.text)} == {
        name.removesuffix("_total").removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for name in names(parsed(plain.text))
    }
    assert httpx.head(url).headers["content-length"]


def test_the_endpoint_of_metrics_answers_nothing_else(start: Start) -> None:
    """No other path, no other method, no web page, no name that points here; a body is not kept."""
    url = place(start(OWN_PORT))
    assert httpx.get(url.replace("/metrics", "/readyz")).status_code == 404
    assert httpx.post(url, content=bytes(1 << 20)).status_code == 405
    assert httpx.get(url, headers={"Origin": "https://page.example"}).status_code == 403
    assert httpx.get(url, headers={"Host": "page.example"}).status_code == 403


def test_on_the_port_of_callers_a_right_is_needed(start: Start, pki: TrialPki) -> None:
    """Without it 403, without credentials 401; a scraper needs no other right."""
    caller = '[callers.{}]\ntoken_file = "{}"\n'
    config = "[metrics]\npath = true\n" + caller.format("team", "token") + RIGHTS
    daemon = start(config + caller.format("prometheus", "token2") + "metrics = true\n", DAEMON_PREFIX=SECOND_TOKEN)
    url = f"{daemon.url}/metrics"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers=BEARER).status_code == 403
    scraper = {"Authorization": f"Bearer {TOKEN}-2"}
    answer = httpx.get(url, headers=scraper)
    assert answer.status_code == 200
    assert value(parsed(answer.text), "slots") > 0
    assert httpx.head(url, headers=scraper).status_code == 200
    assert daemon.post(pki, headers=scraper).status_code == 403


# Writes the token of a second caller before the daemon starts.
SECOND_TOKEN = f"sh -c 'echo {TOKEN}-2 > token2; exec \"$@\"' sh"


def test_metrics_are_off_unless_they_are_turned_on(start: Start, pki: TrialPki) -> None:
    """404, and nothing is counted."""
    daemon = start()
    assert daemon.post(pki).status_code == 200
    answer = httpx.get(f"{daemon.url}/metrics")
    assert answer.status_code == 404
    assert "metrics.path" in answer.text


def test_everybody_may_read_them_if_that_is_allowed(start: Start) -> None:
    """With allow_anonymous no credentials are needed, but web pages are still refused."""
    config = '[metrics]\npath = true\nallow_anonymous = true\n[callers.team]\ntoken_file = "token"\n' + RIGHTS
    daemon = start(config)
    assert httpx.get(f"{daemon.url}/metrics").status_code == 200
    assert httpx.get(f"{daemon.url}/metrics", headers={"Origin": "https://page.example"}).status_code == 403


def test_a_client_that_goes_away_is_counted(start: Start) -> None:
    """As gone, once, with what it had sent."""
    daemon = start(OWN_PORT)
    url = place(daemon)
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 5000\r\n\r\n--b\r\n"
        )
        daemon.wait_for(lambda: value(scraped(url), "active_requests") == 1, what="an active request")
        assert value(scraped(url), "upload_bytes", use="reserved") > 0
    daemon.wait_for(lambda: counts(scraped(url)) == {("gone", "other"): 1}, what="a client that is gone")
    assert value(scraped(url), "active_requests") == 0


@pytest.fixture
def two(start: Start) -> Daemon:
    return start(OWN_PORT + "path = true\n" + "[daemon]\nworkers = 2\n")


def test_one_scrape_tells_of_all_workers(two: Daemon, pki: TrialPki) -> None:
    """From the supervisor's endpoint, and from the path of any worker."""
    url = place(two)
    for _ in range(6):
        assert two.post(pki).status_code == 200
    for where in (url, f"{two.url}/metrics", f"{two.url}/metrics"):
        two.wait_for(
            lambda where=where: value(scraped(where), "requests_total", machine=MACHINE, outcome="signed") == 6,
            what=f"six requests at {where}",
        )
    samples = scraped(url)
    assert value(samples, "workers", state="configured") == value(samples, "workers", state="ready") == 2
    assert {dict(labels)["worker"] for name, labels in samples if name == "digsigd_reactor_stall_seconds"} == {"1", "2"}


def test_nothing_that_was_counted_is_lost_with_a_worker(two: Daemon, pki: TrialPki) -> None:
    """Counters go on after a kill -9, and the restart is counted."""
    url = place(two)
    for _ in range(4):
        assert two.post(pki).status_code == 200
    two.wait_for(signed(url, 4), what="four requests")
    for pid in workers(two).values():
        os.kill(pid, signal.SIGKILL)
    two.wait_for(lambda: value(scraped(url), "worker_restarts_total") == 2, what="two restarts")
    two.wait_for(lambda: value(scraped(url), "workers", state="ready") == 2, what="new workers")
    assert signed(url, 4)()
    assert two.post(pki).status_code == 200
    two.wait_for(signed(url, 5), what="a fifth request")


def signed(url: str, count: int) -> Callable[[], bool]:
    return lambda: value(scraped(url), "requests_total", machine=MACHINE, outcome="signed") == count


def test_a_worker_that_stands_still_shows(two: Daemon) -> None:
    """It cannot say so itself: the supervisor sees when it last did."""
    url = place(two)
    pid = workers(two)[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        two.wait_for(lambda: value(scraped(url), "reactor_stall_seconds", worker="1") > 1, what="a stall")
    finally:
        os.kill(pid, signal.SIGCONT)
