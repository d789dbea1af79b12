"""Spans of requests for OpenTelemetry, sent to a collector over HTTP. Needs the extra `otel`.

Everything of the SDK is ours alone: no global provider is set, and the SDK's thread does all that can wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger

import digsigd
from digsigd.settings import SettingsError

# How long a collector may take to answer, and the end of it all, in seconds.
_TIMEOUT, _LAST_SECONDS = 5.0, 5.0
# How many spans wait for the collector; more are dropped.
_MOST_WAITING = 8192
_NANO = 1_000_000_000


class Spans:
    """The spans of a service, sent to the collector at `url` between `start` and `stop`.

    Raises `SettingsError` if OpenTelemetry is not installed.
    """

    log = Logger()

    def __init__(self, url: str) -> None:
        self._url = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1/traces"
        self._provider: Any = None
        self._tracer: Any = None
        self._complaints = _Complaints(self.log)
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise SettingsError("telemetry.otlp: needs digsigd[otel]") from None
        self._trace = trace
        self._parts = (TracerProvider, Resource, BatchSpanProcessor, OTLPSpanExporter)
        self._context_of = TraceContextTextMapPropagator().extract

    def start(self) -> None:
        """Begin to send. It starts a thread."""
        provider, resource, processor, exporter = self._parts
        logging.getLogger("opentelemetry").addHandler(self._complaints)
        about = {"service.name": "digsigd", "service.version": digsigd.__version__}
        self._provider = provider(resource=resource.create(about), shutdown_on_exit=False)
        sending = exporter(endpoint=self._url, timeout=_TIMEOUT)
        self._provider.add_span_processor(processor(sending, max_queue_size=_MOST_WAITING))
        self._tracer = self._provider.get_tracer("digsigd", digsigd.__version__)

    async def stop(self, reactor: Any) -> None:
        """Send what waits, within a few seconds, and stop."""
        over: Deferred[None] = Deferred()
        if self._end(lambda: IReactorFromThreads(reactor).callFromThread(_fire, over)):
            with suppress(LateError):  # the collector does not answer: what waits is lost
                await over.addTimeout(_LAST_SECONDS, IReactorTime(reactor))
            logging.getLogger("opentelemetry").removeHandler(self._complaints)

    def close(self) -> None:
        """Stop without waiting for what is not sent yet."""
        if self._end(lambda: None):
            logging.getLogger("opentelemetry").removeHandler(self._complaints)

    def _end(self, then: Callable[[], None]) -> bool:
        """Shut down in a thread, and call `then` there. Return whether there was something to shut down."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is None:
            return False

        def shut_down() -> None:
            try:
                provider.shutdown()
            finally:
                then()

        Thread(target=shut_down, name="digsigd-spans", daemon=True).start()
        return True

    def request(
        self,
        traceparent: str,
        attributes: Mapping[str, str | int],
        *,
        seconds: float,
        status: int,
        stages: Mapping[str, tuple[int, float]],
    ) -> None:
        """Send the span of a request that has ended now, after `seconds`, and one of each stage.

        It continues the trace of `traceparent`, if that is valid. `stages` have their ends, as nanoseconds of Unix
        time, and their lengths in seconds. `status` is that of HTTP, 0 if nothing was answered.
        """
        if self._tracer is None:
            return
        trace = self._trace
        ended = time.time_ns()
        parent = self._context_of({"traceparent": traceparent})
        if status:
            attributes = {**attributes, "http.response.status_code": status}
        span = self._tracer.start_span(
            "POST /sign/imx",
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": "POST", "http.route": "/sign/imx", **attributes},
            start_time=ended - int(seconds * _NANO),
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        inside = trace.set_span_in_context(span, parent)
        for stage, (end, length) in stages.items():
            part = self._tracer.start_span(stage, context=inside, start_time=end - int(length * _NANO))
            part.end(end)
        span.end(ended)


class _Complaints(logging.Handler):
    """Puts what the SDK's loggers say into the daemon's log: once, until they say something else."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        if record.msg != self._last:
            self._last = record.msg
            self._log.warn("spans are not sent: {why}", why=record.getMessage(), event="telemetry")


def _fire(over: Deferred[None]) -> None:
    if not over.called:
        over.callback(None)
