"""Sign one request for AHAB: a run of cst for each container, one after the other, and the proof of the whole file."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeAlias

from twisted.logger import Logger

from digsigd.csf.ahab import Description
from digsigd.keys import Keys
from digsigd.signing.ahab_job import AhabJob
from digsigd.signing.cst import CstRun, describe
from digsigd.signing.job_base import BaseJob
from digsigd.signing.pkcs11 import MAX_TRACE, Access, Token, Tokens, Way
from digsigd.signing.private_keys import SlowError
from digsigd.signing.quick import is_quick
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool
from digsigd.signing.workdir import Workdir

# The artifact size in bytes from which threads for digests work, so that other requests need not wait.
LARGE = 1 << 20
# In bytes: what cst writes for a small request is proven at once. A block with keys of RSA-4096 has 5 KiB.
_SMALL_CONTAINER = 16 << 10


# Makes the job of a request: `AhabJob` with all but `at_once`.
NewJob: TypeAlias = Callable[..., AhabJob]


class RunCst(Protocol):
    """A run of cst in a folder of a job's work directory."""

    def __call__(
        self,
        job: BaseJob,
        tool: CstTool,
        *arguments: str,
        more_file: int = 0,
        folder: str = ...,
        description: str = ...,
    ) -> Awaitable[CstRun]:
        """Run cst with `arguments` before the usual ones."""


class AhabSigning:
    """Signs requests for AHAB, once it is known what they need."""

    log = Logger()

    def __init__(
        self,
        *,
        run: RunCst,
        in_thread: InThread,
        in_digest_thread: InThread,
        tokens: Tokens,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._in_thread = in_thread
        self._in_digest_thread = in_digest_thread
        self._tokens = tokens
        self._clock = clock

    async def sign(
        self,
        request: SigningRequest,
        rules: MachineRules,
        keys: Keys,
        description: Description,
        workdir: Workdir,
        tool: CstTool,
        reach: tuple[Way, Access] | None,
    ) -> Signed:
        """Sign in `workdir`, which is gone after success. `reach` is how cst reaches tokens; None: keys are files.

        Raises the errors of `digsigd.errors`.
        """
        # It waits for what is hashed while it arrives.
        in_thread = self._in_digest_thread if request.size >= LARGE else self._in_thread
        new: NewJob = partial(AhabJob, request, rules, keys, description, workdir)
        made: list[AhabJob] = []
        try:
            quick = is_quick(request, keys, workdir) and _prepared_at_once(made, new)
            if not quick:
                await in_thread(self._prepare, made, new, from_token=reach is not None)
            job = made[0]
            if reach is None:
                run = await self._run_all(job, tool)
            else:
                token, began = self._tokens.find(job.token, request.machine), self._clock()
                async with token.session(self._tokens.login_timeout) as pin:
                    request.evidence.took("wait", self._clock() - began)
                    await self._in_thread(job.unlock, *reach, pin)
                    run = await self._run_all(job, tool, (token, reach[0], pin))
            began = self._clock()
            if quick and run.exit_code == 0 and 0 < job.wrote(0) <= _SMALL_CONTAINER:
                signed, proven = job.finish(run, at_once=True)
            else:
                signed, proven = await in_thread(job.finish, run)
            request.evidence.took("verify", self._clock() - began)
        finally:
            for one in made:
                one.close()
        self.log.info(
            "verified: {proven}",
            **request.log_fields, event="verified", proven=proven, notes=list(signed.notes),
        )  # fmt: skip
        return signed

    def _prepare(self, made: list[AhabJob], new: NewJob, *, from_token: bool) -> None:
        """Make and prepare the job. It is in `made` also after an error, and if nobody waits any more. Blocks."""
        job = new()
        made.append(job)
        if from_token:
            self._tokens.find(job.token, job.request.machine)
        job.prepare()

    async def _run_all(self, job: AhabJob, tool: CstTool, used: tuple[Token, Way, str] | None = None) -> CstRun:
        """Run cst for each container, and return the last run. What it wrote is not taken yet.

        `used` are the token, how it is reached, and its PIN.
        """
        evidence = job.request.evidence
        waited = evidence.seconds.get("wait", 0.0)
        seconds = 0.0
        number = 0
        while True:
            folder, description = job.folder(number), job.description_of(number)
            if used is None:
                run = await self._run(job, tool, folder=folder, description=description)
            else:
                backend = ("-b", "pkcs11")
                run = await self._run(job, tool, *backend, more_file=MAX_TRACE, folder=folder, description=description)
                token, way, pin = used
                run = await self._in_thread(job.judge_token, token, way, pin, run, folder)
            self.log.info(
                "cst {version} {ended} after {seconds:.3f} s",
                **job.request.log_fields, event="cst", version=tool.version, ended=describe(run),
                exit=run.exit_code, signal=run.signal, seconds=run.seconds,
            )  # fmt: skip
            waited, seconds = waited + run.waited, seconds + run.seconds
            evidence.took("wait", waited, ago=run.seconds)
            evidence.took("cst", seconds)
            if number == job.runs - 1:
                return run
            await self._in_thread(job.take, number, run)
            number += 1


def _prepared_at_once(made: list[AhabJob], new: NewJob) -> bool:
    """Make and prepare the job of a small request, and return whether it needed no thread. It is in `made` then."""
    with suppress(SlowError):
        job = new(at_once=True)
        if job.is_quick:
            made.append(job)
            job.prepare()
            return True
    return False
