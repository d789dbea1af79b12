"""Traces through a real daemon, with a collector that speaks OTLP over HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from digsigd.metrics.catalogue import STAGES
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE, Daemon, Start

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
# So that the SDK does not collect for seconds.
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


class Collector:
    """An OTLP receiver. `spans` are what was sent, in order of arrival."""

    def __init__(self) -> None:
        self._spans: list[Any] = []
        self._lock = Lock()
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
                    collector.take(ExportTraceServiceRequest.FromString(body))
                    self.send_response(200)
                else:
                    self.send_response(400)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.resource: dict[str, str] = {}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Collector]:
        """A receiver, until the end of `with`."""
        receiver = cls()
        thread = Thread(target=receiver.server.serve_forever, daemon=True)
        thread.start()
        yield receiver
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()

    def take(self, sent: ExportTraceServiceRequest) -> None:
        with self._lock:
            for resource in sent.resource_spans:
                self.resource = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._spans += scope.spans

    @property
    def spans(self) -> list[Any]:
        with self._lock:
            return list(self._spans)

    def request(self) -> Any:
        return next(span for span in self.spans if span.name == "POST /sign/imx")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector.running() as receiver:
        yield receiver


@pytest.fixture
def traced(start: Start, collector: Collector) -> Callable[..., Daemon]:
    def one(**options: Any) -> Daemon:
        return start(f'[telemetry]\notlp = "{collector.url}"\n', **{**AT_ONCE, **options})

    return one


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def about(daemon: Daemon) -> list[dict[str, Any]]:
    """The lines of the log that are about a request."""
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    return [line for line in lines if "request_id" in line]


def test_a_request_is_a_part_of_the_trace_that_it_names(
    traced: Callable[..., Daemon], collector: Collector, pki: TrialPki
) -> None:
    """A span below the caller's, one below it for each stage, and the trace's id in each line of the log."""
    daemon = traced(form="json")
    assert daemon.post(pki, headers={**TRACED, "X-Request-Id": "build-17"}).status_code == 200
    daemon.wait_for(lambda: len(collector.spans) == len(STAGES) + 1, what="all spans")
    request = collector.request()
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    stages = [span for span in collector.spans if span is not request and span.name != "POST /sign/imx"]
    assert {span.name for span in stages} == set(STAGES)
    assert {(span.trace_id.hex(), span.parent_span_id) for span in stages} == {(TRACE, request.span_id)}
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans)
    ends = {span.name: span.end_time_unix_nano for span in stages}
    assert sorted(STAGES, key=ends.__getitem__) == list(STAGES)
    found = attributes(request)
    assert found["digsigd.outcome"] == "signed"
    assert found["digsigd.machine"] == MACHINE
    assert found["digsigd.request_id"] == "build-17"
    assert found["http.response.status_code"] == 200
    assert collector.resource["service.name"] == "digsigd"
    lines = about(daemon)
    assert {line["event"] for line in lines} >= {"received", "keys", "cst", "verified", "answered"}
    assert {line.get("trace_id") for line in lines} == {TRACE}


@pytest.mark.parametrize(
    "header", [{}, {"traceparent": "00-no-trace-01"}, {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}]
)
def test_a_request_without_a_trace_begins_one(
    traced: Callable[..., Daemon], collector: Collector, pki: TrialPki, header: dict[str, str]
) -> None:
    """Also if what it sends is not a traceparent, of which nothing is in the log."""
    daemon = traced()
    assert daemon.post(pki, headers=header).status_code == 200
    daemon.wait_for(lambda: len(collector.spans) == len(STAGES) + 1, what="all spans")
    assert collector.request().parent_span_id == b""
    assert ", trace " not in daemon.log()


def test_a_refused_request_has_a_span_too(traced: Callable[..., Daemon], collector: Collector, pki: TrialPki) -> None:
    """With the stages that it came to, and the trace at the end of a text line."""
    daemon = traced()
    assert daemon.post(pki, machine="without-keys", headers=TRACED).status_code == 404
    daemon.wait_for(lambda: len(collector.spans) == 2, what="two spans")
    assert {span.name for span in collector.spans} == {"POST /sign/imx", "upload"}
    found = attributes(collector.request())
    assert (found["digsigd.outcome"], found["http.response.status_code"]) == ("no-keys", 404)
    assert f", trace {TRACE})" in next(line for line in daemon.log().splitlines() if "answered 404" in line)


def test_a_trace_that_is_not_sampled_sends_nothing(
    traced: Callable[..., Daemon], collector: Collector, pki: TrialPki
) -> None:
    """The next one does."""
    daemon = traced()
    assert daemon.post(pki, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}).status_code == 200
    assert daemon.post(pki, headers={"traceparent": f"00-{TRACE[::-1]}-{PARENT}-01"}).status_code == 200
    daemon.wait_for(lambda: len(collector.spans) == len(STAGES) + 1, what="the spans of one request")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE[::-1]}


def test_spans_that_wait_are_sent_at_the_end(start: Start, collector: Collector, pki: TrialPki) -> None:
    """A stop loses none."""
    daemon = start(f'[telemetry]\notlp = "{collector.url}"\n', OTEL_BSP_SCHEDULE_DELAY="3600000")
    assert daemon.post(pki).status_code == 200
    daemon.stop()
    assert len(collector.spans) == len(STAGES) + 1


def test_a_collector_that_is_gone_stops_nothing(start: Start, pki: TrialPki) -> None:
    """Requests are signed, the log says that spans are not sent, and the daemon ends."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        daemon = start(f'[telemetry]\notlp = "http://127.0.0.1:{nobody.getsockname()[1]}"\n', **AT_ONCE)
        for _ in range(3):
            assert daemon.post(pki).status_code == 200
        daemon.wait_for_log("spans are not sent")
        daemon.stop()
