"""What a signing service shows in the metrics of its host, read from its parts while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

import digsigd
from digsigd.errors import BadTarball, DigsigError, NoKeys
from digsigd.keys import KeyStore, KeyTarball
from digsigd.metrics.cells import Cells, Layout
from digsigd.metrics.collect import TICK, HostCollector, exposition, registry_of
from digsigd.metrics.meter import Meter
from digsigd.record.recorder import DatabaseRecorder
from digsigd.settings import Settings
from digsigd.signing.direct import DirectRequests
from digsigd.signing.host import Turns
from digsigd.signing.machine_keys import MachineKeyReader, read_facts
from digsigd.signing.pkcs11 import Tokens
from digsigd.signing.rules import CurrentRules
from digsigd.signing.threads import InThread
from digsigd.signing.workroot import WorkRoot
from digsigd.web.room import Room
from digsigd.web.tls import CurrentTls
from digsigd.web.uploads import Uploads

# The stall that is shown is the longest of this window and the one before, in seconds.
_WINDOW = 30.0
# Gauges are written once in so many ticks, and the keys of machines looked at so often, in seconds.
_SHOWN_EVERY = 4
_SURVEY_EVERY = 3600.0
# So many tarballs are known whose certificates were looked at.
_REMEMBERED = 1024


class Measured(Protocol):
    """The parts that are observed."""

    uploads: Uploads
    keys: KeyStore
    tokens: Tokens
    rules: CurrentRules
    tls: CurrentTls
    recorder: DatabaseRecorder | None
    direct: DirectRequests
    machines: MachineKeyReader
    root: WorkRoot


def layout_of(settings: Settings, workers: int = 0) -> Layout:
    """Return the layout of the metrics: a column for the supervisor and each of `workers`, or one for one process."""
    return Layout(workers + 1, tuple(sorted(settings.pkcs11.tokens)))


class Measuring:
    """Shows what the parts of a service do, between `start` and `stop`.

    `cells` are those of the host. `number` is that of the worker, 0 for a process that is alone. One process of a host
    looks at the keys of all machines that have a label, once an hour, so that certificates show before they expire.
    """

    log = Logger()

    def __init__(
        self, cells: Cells, number: int, *, settings: Settings, clock: IReactorTime, in_thread: InThread
    ) -> None:
        self._queue: Turns | None = None
        self._room: Room | None = None
        self.meter = Meter(cells)
        self._cells = cells
        self._number = number
        self._clock = clock
        self._in_thread = in_thread
        self._registry = registry_of(
            HostCollector(cells, version=digsigd.__version__, canary=settings.canary.machine is not None)
        )
        self._parts: Measured | None = None
        self._due = self._window = self._worst = self._before = 0.0
        self._ticks = 0
        self._next: IDelayedCall | None = None
        self._surveying: Deferred[None] | None = None
        self._surveyed, self._next_survey = 0, 0.0
        self._seen: dict[tuple[str, str], None] = {}
        cells.label(settings.machines)

    def start(self, parts: Measured, queue: Turns, room: Room) -> None:
        """Begin to show what `parts`, the queue for cst and the room for uploads do."""
        self._parts, self._queue, self._room = parts, queue, room
        parts.keys.on_fetched = self._fetched
        self._cells.set("alive", 1)
        if not self._number:
            self._cells.set_started(time.time())
            self._cells.set("workers_configured", 1)
            self._cells.set("workers_ready", 1)
        now = self._clock.seconds()
        self._window = now
        self._next_survey = now + _SURVEY_EVERY
        self._due = now + TICK
        self._next = self._clock.callLater(TICK, self._tick)
        self._show(parts)

    def stop(self) -> None:
        """Stop showing. What was counted stays."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if self._surveying is not None:
            self._surveying.cancel()
        if self._parts is not None:
            self._parts.keys.on_fetched = None
        self._parts = None
        self._cells.set("alive", 0)

    def label(self, machines: Iterable[str]) -> None:
        """Give machines of the settings a label."""
        self._cells.label(machines)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of the host as text, and its media type, for an Accept header."""
        if self._parts is not None:
            self._show(self._parts)
        return await self._in_thread(exposition, self._registry, accept)

    def _tick(self) -> None:
        parts = self._parts
        if parts is None:
            return
        now = self._clock.seconds()
        self._note_stall(now, now - self._due)
        self._due = now + TICK
        self._next = self._clock.callLater(TICK, self._tick)
        self._ticks += 1
        if not self._ticks % _SHOWN_EVERY:
            self._show(parts)
            self._look_for_machines(parts, now)

    def _note_stall(self, now: float, late: float) -> None:
        if now - self._window >= _WINDOW:
            self._window, self._before, self._worst = now, self._worst, 0.0
        self._worst = max(self._worst, late)
        self._cells.set("stall", max(self._worst, self._before))
        # Of the clock that all processes of a host share.
        self._cells.set("tick", time.monotonic())

    def _show(self, parts: Measured) -> None:
        put = self._cells.set
        put("active", sum(not upload.is_of_page for upload in parts.uploads.under_way()))
        if self._queue is not None and self._room is not None:
            put("running", self._queue.running)
            put("waiting", self._queue.waiting)
            put("slots", self._queue.slots)
            for name, value in zip(("reserved", "stored", "copies"), self._room.held, strict=True):
                put(name, value)
        for name, value in zip(("tarballs", "tarball_bytes"), parts.keys.kept, strict=True):
            put(name, value)
        put("keys_fetched", parts.keys.fetched)
        put("keys_revalidated", parts.keys.revalidated)
        recorder = parts.recorder
        put("record_writable", -1 if recorder is None else not recorder.missing())
        if recorder is not None:
            put("record_entries", recorder.entries)
            put("record_time", recorder.appended)
            put("record_waiting", recorder.waiting)
        for token in parts.tokens:
            self.meter.token(
                self._cells.layout.tokens.index(token.name), proven=token.proven, failed=bool(token.failed)
            )
        tls = parts.tls.value
        self._cells.set_host_expires(tls.certificate.not_valid_after_utc.timestamp() if tls is not None else 0)

    # Certificates of machines.

    def _look_for_machines(self, parts: Measured, now: float) -> None:
        if self._number > 1 or self._surveying is not None:
            return
        names = self._cells.labelled()
        if now >= self._next_survey:
            self._next_survey, self._surveyed = now + _SURVEY_EVERY, 0
        if self._surveyed < len(names):
            new, self._surveyed = names[self._surveyed :], len(names)
            self._surveying = Deferred.fromCoroutine(self._survey(parts, new)).addErrback(self._failed)
            self._surveying.addBoth(self._is_surveyed)

    def _is_surveyed(self, _: object) -> None:
        self._surveying = None

    def _failed(self, failure: object) -> None:
        if self._parts is not None:
            self.log.failure("cannot look at the keys of machines", failure, event="unexpected")  # type: ignore[arg-type]

    async def _survey(self, parts: Measured, machines: Iterable[str]) -> None:
        for machine in machines:
            try:
                keys = await parts.keys.get(machine, sha256=parts.rules.of(machine).keys_sha256)
                await self._read(machine, keys.tarball)
            except NoKeys:
                self._forget(machine)
                self._cells.set_expires(machine, 0)
            except DigsigError:
                continue  # readiness and the next request say so

    def _fetched(self, machine: str, tarball: KeyTarball) -> None:
        """Look at the certificates of a tarball that was fetched for a request, for a machine with a label."""
        if self._cells.has_label(machine):
            Deferred.fromCoroutine(self._read(machine, tarball)).addErrback(self._failed)

    def _forget(self, machine: str) -> None:
        for one in [one for one in self._seen if one[0] == machine]:
            del self._seen[one]

    async def _read(self, machine: str, tarball: KeyTarball) -> None:
        seen = (machine, tarball.sha256)
        if seen in self._seen:
            return
        while len(self._seen) >= _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._forget(machine)
        self._seen[seen] = None
        self._cells.set_expires(machine, await self._in_thread(_first_expiry, tarball, machine))


def _first_expiry(tarball: KeyTarball, machine: str) -> float:
    """Return when the first certificate that belongs to an SRK of a tarball expires, as Unix time; 0 if none is known.

    Blocks, usually for milliseconds.
    """
    try:
        facts = read_facts(tarball, machine, None)
    except BadTarball:
        return 0.0
    return min((one.not_after.timestamp() for one in facts.certificates if one.srk is not None), default=0.0)
