"""Requests that the embedding program makes without HTTP."""

from __future__ import annotations

import secrets
import time

from twisted.internet.defer import CancelledError, Deferred, succeed

from digsigd.errors import DigsigError, shutting_down
from digsigd.metrics.meter import Meter
from digsigd.signing.decisions import RecordedSigner
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.threads import InThread
from digsigd.signing.workroot import WorkRoot


class DirectRequests:
    """Signs requests of the program that embeds the service, each in a separate work directory."""

    def __init__(
        self, *, signer: RecordedSigner, root: WorkRoot, in_thread: InThread, meter: Meter | None = None
    ) -> None:
        self._meter = meter
        self._signer = signer
        self._root = root
        self._in_thread = in_thread
        self._signing: set[Deferred[Signed]] = set()
        self._stopped = False
        self._when_drained: list[Deferred[None]] = []

    @property
    def active(self) -> int:
        """The number of requests in progress."""
        return len(self._signing)

    async def sign(self, request: SigningRequest, *, counted: bool = True) -> Signed:
        """Sign one request, which metrics count unless `counted` is false.

        Raises the errors of `digsigd.errors`: after `stop`, `Busy`.
        """
        if self._stopped:
            raise shutting_down()
        signing = Deferred.fromCoroutine(self._counted(request) if counted else self._sign(request))
        self._signing.add(signing)
        try:
            return await signing
        except CancelledError:
            if self._stopped:
                raise shutting_down() from None
            raise
        finally:
            self._signing.discard(signing)
            if not self._signing:
                drained, self._when_drained = self._when_drained, []
                for deferred in drained:
                    deferred.callback(None)

    def start(self) -> None:
        """Accept new requests, as initially."""
        self._stopped = False

    def stop(self) -> None:
        """Refuse new requests. Those in progress continue."""
        self._stopped = True

    def end(self) -> None:
        """Cancel the requests in progress."""
        for signing in list(self._signing):
            signing.cancel()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no requests are in progress."""
        if not self._signing:
            return succeed(None)
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        return drained

    async def _counted(self, request: SigningRequest) -> Signed:
        began, outcome, sent = time.monotonic(), "other", 0
        try:
            signed = await self._sign(request)
            outcome, sent = "signed", signed.size
        except DigsigError as error:
            outcome = error.problem
            raise
        except CancelledError:
            outcome = "gone"
            raise
        finally:
            if self._meter is not None:
                times = {**request.evidence.seconds, "total": time.monotonic() - began}
                expires = request.evidence.token_expires
                self._meter.request(outcome, request.machine, times, sent=sent, token_expires=expires)
        return signed

    async def _sign(self, request: SigningRequest) -> Signed:
        request.evidence.proof = request.evidence.proof or "program"
        workdir = self._root.new(f"d{secrets.token_hex(8)}")
        try:
            return await self._signer.sign(request, workdir)
        finally:
            await self._in_thread(workdir.remove)
