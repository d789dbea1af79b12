"""The readiness check: what is missing before requests can be signed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from digsigd.errors import DigsigError, NoKeys, shutting_down
from digsigd.keys import KeyStore
from digsigd.record.recorder import Recorder
from digsigd.signing.pkcs11 import Tokens
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTools
from digsigd.signing.workroot import WorkRoot

T = TypeVar("T")
# Load balancers ask often. The parts are checked at most once in this many seconds.
_KEPT_SECONDS = 2.0
# Free space of the work directory in bytes below which no request is likely to be signed, and how many are written.
_LEAST_SPACE, _TRIED = 4 << 20, 64 << 10


class Readiness:
    """A check of cst, the work directory, tokens, the key store, and the canary. Its result is kept for two seconds."""

    log = Logger()

    def __init__(
        self,
        *,
        tools: CstTools,
        root: WorkRoot,
        tokens: Tokens,
        keys: KeyStore,
        in_thread: InThread,
        clock: IReactorTime,
        recorder: Recorder | None,
        canary: Callable[[], list[str]] = list,
    ) -> None:
        self._canary = canary
        self._recorder = recorder
        self._tools = tools
        self._root = root
        self._tokens = tokens
        self._keys = keys
        self._in_thread = in_thread
        self._clock = clock
        self._running = False
        self._asked: Deferred[list[str]] | None = None
        self._forgetting: IDelayedCall | None = None
        # The last use of the work directory. It never fails.
        self._trying: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Begin to check. Before this, and after `stop`, the service is not ready."""
        self._running = True

    def stop(self) -> None:
        """Stop checking."""
        self._running = False
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.cancel()
        self._forgetting = None

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no check is using the work directory."""
        drained: Deferred[None] = Deferred()
        self._trying.addBoth(_copied_to, drained)
        return drained

    async def missing(self) -> list[str]:
        """Return what is missing before requests can be signed, one line each; an empty list means ready."""
        if not self._running:
            return [shutting_down().what]
        if self._asked is None:
            self._asked = Deferred.fromCoroutine(self._ask())
            self._asked.addBoth(self._forget_later)
        answer: Deferred[list[str]] = Deferred()
        self._asked.addBoth(_copied_to, answer)
        return await answer

    async def warn(self) -> None:
        """Log what is missing, one line each. Raises nothing: an unexpected error is logged, too."""
        try:
            for line in await self.missing():
                self.log.warn("not ready: {missing}", missing=line, event="not-ready")
        except Exception:  # noqa: BLE001
            self.log.failure("cannot check readiness", event="not-ready")

    async def _ask(self) -> list[str]:
        missing = []
        try:
            if not await self._in_thread(self._tools.available):
                missing.append("no cst: neither in the folder cst.base nor in [cst.versions]")
        except DigsigError as error:
            missing.append(error.for_client())
        if not self._running:
            return [shutting_down().what]
        try:
            await self._tried()
        except DigsigError as error:
            self.log.warn("{error}", error=error.for_operator(), event="not-ready")
            missing.append(f"work directory: {error.for_client()}")
        missing += self._tokens.missing()
        if self._recorder is not None:
            missing += self._recorder.missing()
        missing += self._canary()
        try:
            await self._keys.check()
        except NoKeys:
            pass  # the key store has answered
        except DigsigError as error:
            self.log.warn("{error}", error=error.for_operator(), event="not-ready")
            missing.append(f"key store: {error.for_client()}")
        return missing

    def _tried(self) -> Deferred[None]:
        trying = self._in_thread(self._try_workdir)
        self._trying = Deferred()
        trying.addBoth(_done, self._trying)
        return trying

    def _try_workdir(self) -> None:
        workdir = self._root.new(f"t{secrets.token_hex(8)}")
        try:
            workdir.check_space(_LEAST_SPACE)
            workdir.write("t", bytes(_TRIED))
        finally:
            workdir.remove()

    def _forget_later(self, result: T) -> T:
        if self._running:
            self._forgetting = self._clock.callLater(_KEPT_SECONDS, self._forget)
        else:
            self._forget()
        return result

    def _forget(self) -> None:
        self._asked = None


def _copied_to(result: T, waiting: Deferred[T]) -> T:
    """Fire `waiting` with a result, and return the result."""
    waiting.callback(result)
    return result


def _done(result: T, over: Deferred[None]) -> T:
    """Fire `over`, and return the result."""
    over.callback(None)
    return result
