"""The self-test of each cst of a host: run when somebody asks, once for each program, and kept."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from digsigd.errors import Busy, DigsigError
from digsigd.signing.cst import CstRunner
from digsigd.signing.evidence import form_of
from digsigd.signing.host import Turns
from digsigd.signing.selftest import prove
from digsigd.signing.signer import RunBounds
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool, CstTools
from digsigd.signing.workroot import WorkRoot

# Who waits for a slot of cst, in turns with callers. No caller has this name.
_PARTY = "(self-test)"


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The last self-test of a version of cst. `passed` is None while there is no result; `why` says why it failed."""

    version: str
    passed: bool | None = None
    why: str = ""
    time: datetime | None = None


class SelfTests:
    """Runs the self-tests one at a time, each in a slot of the queue for cst, as requests do."""

    log = Logger()

    def __init__(
        self,
        *,
        tools: CstTools,
        runner: CstRunner,
        queue: Turns,
        root: WorkRoot,
        bounds: RunBounds,
        in_thread: InThread,
    ) -> None:
        self._tools = tools
        self._runner = runner
        self._queue = queue
        self._root = root
        self._bounds = bounds
        self._in_thread = in_thread
        # By version: what the program looked like, and how its test ended.
        self._results: dict[str, tuple[tuple[int, ...], SelfTest]] = {}
        self._testing: Deferred[None] | None = None
        self._stopped = False

    async def all(self) -> list[SelfTest]:
        """Return the self-test of each cst of this host, in the order of versions, and begin those that are missing.

        Raises `DigsigError` if the folder of cst cannot be read.
        """
        tools = await self._in_thread(self._forms)
        found = []
        for tool, form in tools:
            known, result = self._results.get(tool.version, ((), SelfTest(tool.version)))
            found.append(result if known == form else SelfTest(tool.version))
        if any(one.passed is None for one in found) and self._testing is None and not self._stopped:
            self._testing = Deferred.fromCoroutine(self._test(tools))
            self._testing.addErrback(lambda failure: failure.trap(CancelledError)).addBoth(self._tested)
        return found

    def stop(self) -> None:
        """Begin no further test, and cancel the one that runs."""
        self._stopped = True
        if self._testing is not None:
            self._testing.cancel()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no test uses the work directory."""
        if self._testing is None:
            return succeed(None)
        drained: Deferred[None] = Deferred()

        def over(result: None) -> None:
            drained.callback(None)
            return result

        self._testing.addBoth(over)
        return drained

    def _forms(self) -> Sequence[tuple[CstTool, tuple[int, ...]]]:
        return [(tool, form_of(tool.executable, tool.libraries)) for tool in self._tools.available()]

    async def _test(self, tools: Sequence[tuple[CstTool, tuple[int, ...]]]) -> None:
        for tool, form in tools:
            if self._stopped or self._results.get(tool.version, ((),))[0] == form:
                continue
            try:
                async with self._queue.slot(_PARTY):
                    why = await self._proved(tool)
            except Busy:
                return  # the next who asks begins again
            except DigsigError as error:
                why = str(error)
            if why is not None:
                self.log.error(
                    "the self-test of cst {version} failed: {why}", version=tool.version, why=why, event="selftest"
                )
            result = SelfTest(tool.version, why is None, _for_callers(why or "", tool), datetime.now(UTC))
            self._results[tool.version] = (form, result)

    async def _proved(self, tool: CstTool) -> str | None:
        workdir = await self._in_thread(self._root.new, f"s{secrets.token_hex(8)}")
        try:
            return await prove(tool, self._runner, workdir, self._in_thread, self._bounds)
        finally:
            with suppress(DigsigError):  # the end of the daemon removes it
                await self._in_thread(workdir.remove)

    def _tested(self, _: object) -> None:
        self._testing = None


def _for_callers(why: str, tool: CstTool) -> str:
    """Return why a test failed without paths of this host."""
    text = why.replace(tool.executable, f"cst {tool.version}")
    return "see the host's log" if "/" in text else text
