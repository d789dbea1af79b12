"""The supervisor's part in the metrics of a host: the memory, the endpoint, and what workers that ended had counted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

import digsigd
from digsigd._measuring import layout_of
from digsigd.metrics.cells import Cells
from digsigd.metrics.collect import HostCollector, exposition, registry_of
from digsigd.metrics_port import MetricsPort
from digsigd.reactor import SigningReactor
from digsigd.settings import Settings


class HostMetrics:
    """The metrics of a host with `count` workers. `descriptor` is that of their memory, for the workers.

    The supervisor serves the endpoint, so that it answers while a worker hangs. Raises `OSError`.
    """

    def __init__(self, settings: Settings, count: int, *, reactor: SigningReactor) -> None:
        layout = layout_of(settings, count)
        self.descriptor = Cells.make(layout)
        self._cells = Cells(layout, 0, os.dup(self.descriptor))
        self._reactor = reactor
        canary = settings.canary.machine is not None
        self._registry = registry_of(HostCollector(self._cells, version=digsigd.__version__, canary=canary))
        self._port = MetricsPort(settings, self.scrape, reactor=reactor)
        self._cells.set("workers_configured", count)
        self._cells.set_started(time.time())

    def start(self) -> None:
        """Listen, if there is an endpoint. Raises `SettingsError` and `CannotListenError`."""
        self._port.start()

    def stop(self) -> Deferred[None]:
        """Stop listening."""
        return Deferred.fromCoroutine(self._port.stop())

    def show_ready(self, count: int) -> None:
        """Show how many workers are ready."""
        self._cells.set("workers_ready", count)

    def ended(self, number: int, *, replaced: bool) -> None:
        """Keep what a worker had counted, which has ended, and count that it is replaced."""
        self._cells.fold(number)
        if replaced:
            self._cells.add("worker_restarts")

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of the host as text, and its media type, for an Accept header."""
        render: Callable[..., tuple[bytes, str]] = exposition
        pool = self._reactor.getThreadPool()
        return await deferToThreadPool(self._reactor, pool, render, self._registry, accept)
