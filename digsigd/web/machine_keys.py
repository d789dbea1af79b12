"""Requests for a machine's public keys: authentication, how many at a time, and the answer as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from digsigd import names
from digsigd.callers.access import Asking, CurrentAccess
from digsigd.callers.model import Caller
from digsigd.errors import BadRequest, shutting_down
from digsigd.signing.machine_keys import MachineKeyReader, MachineKeys
from digsigd.signing.queue import Queue
from digsigd.web.shares import Shares

# How many are answered at a time, and how many wait. A client that asks in a loop must not flood the key store, nor
# take the threads that signing needs.
_AT_ONCE, _WAITING = 4, 128
# The part of those that wait that one caller may have.
_SHARE = 0.5


class MachineKeyRequests:
    """The answers to `GET /machines/{machine}`, for callers who may sign for the machine."""

    log = Logger()

    def __init__(
        self, *, machines: MachineKeyReader, access: CurrentAccess, clock: IReactorTime, shares: Shares
    ) -> None:
        self._machines = machines
        self._access = access
        self._shares = shares
        self._queue = Queue(_AT_ONCE, _WAITING, clock=clock, share=_SHARE, limited=shares.is_limited)
        self._asking: set[Deferred[bytes]] = set()
        self._stopped = False

    @property
    def active(self) -> int:
        """The number of requests that are being answered or wait."""
        return self._queue.running + self._queue.waiting

    async def answer(self, machine: str, asking: Asking, who: dict[str, str]) -> bytes:
        """Return the body of an answer: one line of JSON.

        `machine` is the client's text, unchecked. `who` are the log fields of the request; the caller is added.

        Raises `Busy`, `NotAuthenticated`, `RateLimited`, `BadRequest`, `NotAllowed`, and what `MachineKeyReader.facts`
        raises.
        """
        # The caller comes first, since each has a share of the room.
        if self._stopped:
            raise shutting_down()
        caller = self._access.identify(asking)
        who["caller"] = caller.name
        party = self._shares.party(caller.name, who["address"])
        self._queue.check_room(party)
        self._shares.ask(party)
        if not names.MACHINE.fullmatch(machine):
            raise BadRequest(f"the machine name must be {names.MACHINE_FORM}")
        caller.check_machine(machine)
        self.log.info(
            "keys of {machine} requested by {caller} at {address}",
            event="machine", machine=machine, **who,
        )  # fmt: skip
        async with self._queue.slot(party):
            answering = Deferred.fromCoroutine(self._ask(machine, caller, who))
            self._asking.add(answering)
            try:
                return await answering
            finally:
                self._asking.discard(answering)

    def start(self) -> None:
        """Accept new requests. A new object accepts them already."""
        self._stopped = False

    def stop(self) -> None:
        """Refuse new requests with `Busy`. Requests under way continue."""
        self._stopped = True

    def end(self) -> None:
        """Cancel the requests under way."""
        self._queue.stop()
        for asking in list(self._asking):
            asking.cancel()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no request is under way."""
        return self._queue.drained()

    async def _ask(self, machine: str, caller: Caller, who: dict[str, str]) -> bytes:
        facts = await self._machines.facts(machine, **who)
        versions = caller.cst_versions_of(await self._machines.versions())
        allowed = caller.backends
        backends = [one for one in self._machines.backends(machine) if allowed is None or one in allowed]
        return _as_json(machine, facts, versions, backends)


def _as_json(machine: str, facts: MachineKeys, versions: Sequence[str], backends: Sequence[str]) -> bytes:
    answer = {
        "machine": machine,
        "tarball_sha256": facts.sha256,
        "srk_tables": [
            {
                "name": one.name,
                "fuse_value": one.table.fuse_value.hex(),
                "data": base64.b64encode(one.table.data).decode(),
            }
            for one in facts.tables
        ],
        "ahab_tables": [
            {
                "name": one.name,
                "version": one.version,
                "sha256": one.table.hash("sha256").hex(),
                "sha512": one.table.hash("sha512").hex(),
                "keys": list(one.keys),
                "data": base64.b64encode(one.table.raw).decode(),
            }
            for one in facts.ahab_tables
        ],
        "certificates": [
            {
                "name": one.name,
                "sha256": one.sha256.hex(),
                "subject": one.subject,
                "key": one.key,
                "srk": one.srk,
                "is_srk": one.is_srk,
                "tables": list(one.tables),
                "not_after": one.not_after.isoformat().replace("+00:00", "Z"),
            }
            for one in facts.certificates
        ],
        "versions": list(versions),
        "backends": list(backends),
    }
    return json.dumps(answer).encode() + b"\n"
