"""What tells operators about a service: metrics, the canary and spans, each only if the settings ask for it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from digsigd._canary import Canary
from digsigd._measuring import Measured, Measuring, layout_of
from digsigd.callers.access import CurrentAccess
from digsigd.metrics.cells import Cells
from digsigd.metrics.meter import Meter
from digsigd.reactor import SigningReactor
from digsigd.settings import Settings
from digsigd.signing.host import Turns
from digsigd.signing.threads import InThread
from digsigd.spans import Spans
from digsigd.web.outcomes import Outcomes
from digsigd.web.room import Room
from digsigd.web.scrape import CheckedScrape


class Observing:
    """The metrics, the canary and the spans of one start and one stop.

    `number` is that of the worker, 0 for a process alone.
    `cells` are those of a host with several processes; None: its own. Only one process of a host has a canary.
    """

    def __init__(
        self, settings: Settings, cells: Cells | None, number: int, *, clock: IReactorTime, in_thread: InThread
    ) -> None:
        self._settings = settings
        self._number = number
        self._clock = clock
        self._in_thread = in_thread
        self._parts: tuple[Measured, Turns, Room] | None = None
        self._canary: Canary | None = None
        self.measuring: Measuring | None = None
        self.meter: Meter | None = None
        if settings.metrics.are_on:
            cells = Cells(layout_of(settings)) if cells is None else cells
            self.measuring = Measuring(cells, number, settings=settings, clock=clock, in_thread=in_thread)
            self.meter = self.measuring.meter
        otlp = settings.telemetry.otlp
        self._spans = Spans(otlp) if otlp is not None else None
        observed = self.meter is not None or self._spans is not None
        # What is called for each request; None if there is nothing to do.
        self.outcomes = Outcomes(self.meter, self._spans) if observed else None

    def connect(self, parts: Measured, queue: Turns, room: Room) -> None:
        """Take the parts that are observed, the queue for cst, and the room for uploads, once."""
        self._parts = (parts, queue, room)
        if self._settings.canary.machine is not None and self._number <= 1:
            self._canary = Canary(
                self._settings.canary,
                direct=parts.direct,
                machines=parts.machines,
                keys=parts.keys,
                root=parts.root,
                in_thread=self._in_thread,
                clock=self._clock,
                cells=self.meter.cells if self.meter is not None else None,
            )

    def scrape_for(self, access: CurrentAccess) -> CheckedScrape | None:
        """Return what serves `GET /metrics` on the port of callers; None if it is off."""
        metrics = self._settings.metrics
        if self.measuring is None or not metrics.path:
            return None
        return CheckedScrape(self.measuring.scrape, access, allow_anonymous=metrics.allow_anonymous)

    def start(self) -> None:
        """Begin to show what the parts do."""
        if self._spans is not None:
            self._spans.start()
        if self.measuring is not None and self._parts is not None:
            self.measuring.start(*self._parts)

    def start_canary(self) -> None:
        """Begin to sign the image of the canary. Call it after `start`, but not for a check."""
        if self._canary is not None:
            self._canary.start()

    def refuse_new(self) -> None:
        """End the canary."""
        if self._canary is not None:
            self._canary.stop()

    async def last(self, reactor: SigningReactor) -> None:
        """Send the spans that wait. Call it when no request is under way any more."""
        if self._spans is not None:
            await self._spans.stop(reactor)

    def stop(self) -> None:
        """Stop showing anything."""
        if self.measuring is not None:
            self.measuring.stop()
        if self._spans is not None:
            self._spans.close()

    def label(self, machines: Iterable[str]) -> None:
        """Give machines of new settings a label."""
        if self.measuring is not None:
            self.measuring.label(machines)

    def missing(self) -> list[str]:
        """Return why the canary does not sign, in one line; an empty list if it does, or there is none here."""
        return self._canary.missing() if self._canary is not None else []

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when the canary does not sign at the moment."""
        return self._canary.drained() if self._canary is not None else succeed(None)
