"""All machines of a host with the public facts of their keys, for people: read once, kept, and renewed later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from digsigd.errors import DigsigError
from digsigd.keys.source import KeySource
from digsigd.keys.tarball import KeyTarball, read_tarball
from digsigd.signing.machine_keys import read_facts
from digsigd.signing.rules import MachineRules
from digsigd.signing.threads import InThread

# How long the list of names and the facts of a machine are believed, in seconds.
_NAMES_FOR, _FACTS_FOR = 10.0, 60.0
# How long a view waits for the facts that it shows, in seconds. Reading goes on.
_PATIENCE = 3.0
# So many tarballs are read at a time, and the facts of so many machines are kept, at some 500 bytes each.
_AT_ONCE, _KEPT = 2, 20_000
# The pause between two tarballs that nobody waits for, in seconds: signing comes first.
PAUSE = 0.2
# The names of kinds of keys and fuse values that are kept of a machine.
_MOST = 4

Names = Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a machine's keys. `problem` says why nothing is known, in words for callers.

    `expires` is when the first of its certificates ends, `certificate` its subject.
    """

    fuse_values: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    expires: datetime | None = None
    certificate: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Facts with what they were made from: the version of the tarball and the rules. `until`: believed so long."""

    facts: Facts
    version: Any
    rules: MachineRules
    until: float


class MachineList:
    """The machines of a host: those that the settings name, and those that `names` finds in the key store.

    `names` is None for a key store that cannot be listed. Tarballs are not kept: only what `Facts` has.
    """

    log = Logger()

    def __init__(
        self,
        *,
        source: KeySource,
        named: Callable[[], Iterable[str]],
        names: Names | None,
        rules: Callable[[str], MachineRules],
        max_unpacked: int,
        in_thread: InThread,
        clock: IReactorTime,
    ) -> None:
        self.is_complete = names is not None
        self._source = source
        self._named = named
        self._stored = names
        self._rules = rules
        self._max_unpacked = max_unpacked
        self._in_thread = in_thread
        self._clock = clock
        self._names: tuple[str, ...] = ()
        self._names_until = float("-inf")
        self._kept: dict[str, _Kept] = {}
        self._reading: dict[str, Deferred[None]] = {}
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._walking: Deferred[None] | None = None
        self._stopped = False

    async def names(self) -> tuple[str, ...]:
        """Return the names of all machines, in order. Raises `KeyStoreFailed`, `KeyStoreTimeout`."""
        if self._clock.seconds() >= self._names_until:
            stored = await self._stored() if self._stored is not None else ()
            self._names = tuple(sorted({*stored, *self._named()}))
            self._names_until = self._clock.seconds() + _NAMES_FOR
        return self._names

    def known(self, machine: str) -> Facts | None:
        """Return the facts that were read last; None if there are none yet."""
        kept = self._kept.get(machine)
        return kept.facts if kept is not None else None

    async def read(self, machines: Sequence[str]) -> None:
        """Read the facts of a few machines that are not known or too old, and wait for them for a while.

        Then `known` has those that were read meanwhile. Raises nothing.
        """
        old = [machine for machine in machines if self._is_old(machine)]
        reading = DeferredList([self._read(machine) for machine in old], consumeErrors=True)
        reading.addTimeout(_PATIENCE, self._clock)
        with suppress(LateError, CancelledError):
            await reading

    def walk(self) -> None:
        """Begin to read the facts of all machines that are not known yet, one at a time, unless that is going on."""
        if self._walking is None and not self._stopped:
            self._walking = Deferred.fromCoroutine(self._walk()).addErrback(self._walk_failed)
            self._walking.addBoth(self._walked)

    def stop(self) -> None:
        """Stop reading. What is being read in a thread ends by itself."""
        self._stopped = True
        if self._walking is not None:
            self._walking.cancel()

    async def _walk(self) -> None:
        for machine in await self.names():
            if self._stopped:
                return
            if machine not in self._kept:
                await self._read(machine)
                await deferLater(self._clock, PAUSE)

    def _walk_failed(self, failure: Any) -> None:
        failure.trap(CancelledError, DigsigError)

    def _walked(self, _: None) -> None:
        self._walking = None

    def _is_old(self, machine: str) -> bool:
        kept = self._kept.get(machine)
        return kept is None or kept.until <= self._clock.seconds() or kept.rules != self._rules(machine)

    def _read(self, machine: str) -> Deferred[None]:
        """Read the facts of a machine. Whoever waits may go, and reading goes on; who comes meanwhile waits, too."""
        waiting: Deferred[None] = Deferred()
        if self._stopped:
            waiting.callback(None)
            return waiting
        reading = self._reading.get(machine)
        if reading is None:
            reading = self._turns.run(lambda: Deferred.fromCoroutine(self._renew(machine)))
            self._reading[machine] = reading
            reading.addErrback(self._failed, machine).addBoth(self._over, machine)

        def over(result: None) -> None:
            if not waiting.called:
                waiting.callback(None)
            return result

        reading.addBoth(over)
        return waiting

    def _failed(self, failure: Any, machine: str) -> None:
        # Not DigsigError, which `_renew` handles.
        self.log.failure("cannot read the keys of {machine}", failure, machine=machine, event="unexpected")
        self._keep(machine, Facts(problem="internal error: see the host's log"), None, self._rules(machine))

    def _over(self, _: object, machine: str) -> None:
        self._reading.pop(machine, None)

    async def _renew(self, machine: str) -> None:
        rules = self._rules(machine)
        kept = self._kept.get(machine)
        known = kept.version if kept is not None and kept.rules == rules else None
        try:
            fetched = await self._source.fetch(machine, known)
            if fetched.data is None and kept is not None:
                facts = kept.facts
            else:
                facts = await self._in_thread(self._facts_in, fetched.data or b"", machine, rules)
            version = fetched.version
        except DigsigError as error:
            facts, version = Facts(problem=error.for_client()), None
        self._keep(machine, facts, version, rules)

    def _facts_in(self, data: bytes, machine: str, rules: MachineRules) -> Facts:
        """Return the facts of a tarball. It blocks. Raises `BadTarball`."""
        tarball: KeyTarball = read_tarball(data, max_bytes=self._max_unpacked)
        if rules.keys_sha256 is not None and tarball.sha256 != rules.keys_sha256:
            return Facts(problem="the key tarball is not the one that keys_sha256 pins")
        found = read_facts(tarball, machine, rules.fuse_value, soc=rules.soc)
        # As for the metric: one of no SRK, such as the CA's, signs nothing that boards look at.
        mine = [one for one in found.certificates if one.srk is not None] or found.certificates
        first = min(mine, key=lambda one: one.not_after, default=None)
        kinds = found.kinds
        if first is None:
            return Facts(found.fuse_values[:_MOST], kinds[:_MOST])
        return Facts(found.fuse_values[:_MOST], kinds[:_MOST], first.not_after, first.subject)

    def _keep(self, machine: str, facts: Facts, version: Any, rules: MachineRules) -> None:
        self._kept.pop(machine, None)
        self._kept[machine] = _Kept(facts, version, rules, self._clock.seconds() + _FACTS_FOR)
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
