"""The canary: a known image that is signed and verified again and again, so that a host that cannot is not ready."""

from __future__ import annotations

import secrets
import time

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from digsigd.errors import BadTarball, Busy, CstFailed, DigsigError
from digsigd.keys import KeyStore
from digsigd.metrics.cells import Cells
from digsigd.settings import CanarySettings
from digsigd.signing.direct import DirectRequests
from digsigd.signing.machine_keys import MachineKeyReader
from digsigd.signing.threads import InThread
from digsigd.signing.trial import request_for, trials
from digsigd.signing.workroot import WorkRoot

# The caller in log and record.
CALLER = "canary"
# After how many seconds it is tried again at the latest, if it did not work.
_AGAIN = 30.0


class Canary:
    """Signs a trial image with the keys of a machine, through the queue, the keys, cst, verification and the record.

    It begins at `start`, and goes on `every` so many seconds. `cells` are those of the metrics; None: there are none.
    A run that finds no room says nothing about the host: it is neither a success nor a failure.
    """

    log = Logger()

    def __init__(
        self,
        settings: CanarySettings,
        *,
        direct: DirectRequests,
        machines: MachineKeyReader,
        keys: KeyStore,
        root: WorkRoot,
        in_thread: InThread,
        clock: IReactorTime,
        cells: Cells | None,
    ) -> None:
        self._settings = settings
        self._machine = settings.machine or ""
        self._direct = direct
        self._machines = machines
        self._keys = keys
        self._root = root
        self._in_thread = in_thread
        self._clock = clock
        self._cells = cells
        self._why = "has not signed yet"
        self._next: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._stopped = True

    def start(self) -> None:
        """Begin as soon as the reactor runs."""
        self._stopped = False
        self._next = self._clock.callLater(0, self._begin)

    def stop(self) -> None:
        """Stop: end a run, and begin no other."""
        self._stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if self._running is not None:
            self._running.cancel()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no run is under way."""
        if self._running is None:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._running.addBoth(drained.callback)
        return drained

    def missing(self) -> list[str]:
        """Return why the last run failed, in one line; an empty list if it worked."""
        return [f"canary: {self._why}"] if self._why else []

    def _begin(self) -> None:
        self._next = None
        running = self._running = Deferred.fromCoroutine(self._run())
        running.addErrback(self._unexpected).addBoth(self._over)

    def _over(self, _: object) -> None:
        self._running = None
        if not self._stopped:
            seconds = self._settings.every if not self._why else min(self._settings.every, _AGAIN)
            self._next = self._clock.callLater(seconds, self._begin)

    def _unexpected(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("the canary cannot run", failure, event="unexpected")
            self._failed("internal error", 0.0)

    async def _run(self) -> None:
        began = self._clock.seconds()
        try:
            await self._sign()
        except Busy as error:
            self.log.info("canary: not signed: {why}", why=error.for_operator(), event="canary")
        except DigsigError as error:
            self.log.error("canary: cannot sign: {why}", why=error.for_operator(), event="canary")
            self._failed(error.for_client(), self._clock.seconds() - began)
        except OSError as error:
            self.log.error("canary: cannot sign: {why}", why=str(error), event="canary")
            self._failed(error.strerror or "a file cannot be used", self._clock.seconds() - began)
        else:
            self._worked(self._clock.seconds() - began)

    def _worked(self, seconds: float) -> None:
        if self._why:
            self.log.info("canary: signed and verified in {seconds:.3f} s", seconds=seconds, event="canary")
        self._why = ""
        if self._cells is not None:
            self._cells.add("canary_ok")
            self._cells.set_shared("canary_time", time.time())
            self._note(seconds, worked=True)

    def _failed(self, why: str, seconds: float) -> None:
        self._why = why
        if self._cells is not None:
            self._cells.add("canary_failed")
            self._note(seconds, worked=False)

    def _note(self, seconds: float, *, worked: bool) -> None:
        if self._cells is not None:
            self._cells.set_shared("canary_worked", worked)
            self._cells.set_shared("canary_seconds", seconds)

    async def _sign(self) -> None:
        """Sign and verify. Raises the errors of `digsigd.errors`, and `OSError` if the description cannot be read."""
        version = self._settings.cst_version or await self._newest()
        description = await self._description(version)
        workdir = self._root.new(f"y{secrets.token_hex(8)}")
        try:
            request = await self._in_thread(
                request_for, description, self._machine, version, workdir,
                caller=CALLER, name=CALLER, backend=self._settings.backend,
            )  # fmt: skip
            (await self._direct.sign(request, counted=False)).close()
            if self._cells is not None and (expires := request.evidence.token_expires):
                self._cells.token_certificates(self._machine, expires, time.time())
        finally:
            await self._in_thread(workdir.remove)

    async def _description(self, version: str) -> bytes:
        if self._settings.csf is not None:
            return await self._in_thread(self._settings.csf.read_bytes)
        facts = await self._machines.facts(self._machine, caller=CALLER)
        members = (await self._keys.get(self._machine)).tarball.members
        soc = self._machines.soc(self._machine)
        trial = next(trials(facts, members, soc=soc, cst_version=version), None)
        if trial is None:
            raise BadTarball(
                f"the key tarball of machine {self._machine!r} has no SRK with certificates and private keys",
                hint="for keys on a token set canary.csf and canary.backend",
            )
        return trial.text

    async def _newest(self) -> str:
        versions = await self._machines.versions()
        if not versions:
            raise CstFailed("no cst on this signing host")
        return versions[-1]
