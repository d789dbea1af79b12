"""Sign one request: from its CSF description to a verified CSF blob."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from digsigd import csf
from digsigd.csf import ahab
from digsigd.csf.cst_files import BLOB, DESCRIPTION, RUN
from digsigd.errors import Refused
from digsigd.keys import Keys, KeyStore
from digsigd.signing.ahab_keys import check_hab_chip
from digsigd.signing.ahab_signing import AhabSigning
from digsigd.signing.cst import CstRun, CstRunner, Limits, describe
from digsigd.signing.evidence import ProgramSums
from digsigd.signing.host import Turns
from digsigd.signing.job import Job
from digsigd.signing.job_base import MAX_BLOB, BaseJob, csf_errors
from digsigd.signing.libraries import for_modules
from digsigd.signing.pkcs11 import MAX_TRACE, Access, Token, Tokens, Way
from digsigd.signing.private_keys import SlowError
from digsigd.signing.quick import LONG_TEXT, is_quick
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool, CstTools
from digsigd.signing.workdir import Workdir

# The artifact size in bytes from which the digest is computed in parallel to cst, not after it.
LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class RunBounds:
    """Limits of one cst run. `memory` is in bytes, in addition to what cst needs for the signed data."""

    cpu_seconds: int = 120
    memory: int = 256 << 20
    open_files: int = 64

    def limits(self, size: int) -> Limits:
        """Return the limits for a run in which one command signs `size` bytes. cst also writes a full copy of them."""
        return Limits(
            cpu_seconds=self.cpu_seconds,
            # cst doubles its buffer as it grows.
            memory=self.memory + 3 * size,
            file_size=size + MAX_BLOB,
            open_files=self.open_files,
        )


class Signer:
    """Signs requests with the keys of their machines, and returns only verified CSF blobs."""

    log = Logger()

    def __init__(
        self,
        *,
        tools: CstTools,
        runner: CstRunner,
        queue: Turns,
        keys: KeyStore,
        rules: Callable[[str], MachineRules],
        bounds: RunBounds,
        in_thread: InThread,
        in_digest_thread: InThread,
        tokens: Tokens,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._tools = tools
        self._runner = runner
        self._queue = queue
        self._keys = keys
        self._rules = rules
        self._bounds = bounds
        self._in_thread = in_thread
        self._in_digest_thread = in_digest_thread
        self._tokens = tokens
        self._sums = ProgramSums()
        self._ahab = AhabSigning(
            run=self._run, in_thread=in_thread, in_digest_thread=in_digest_thread, tokens=tokens, clock=clock
        )

    async def sign(self, request: SigningRequest, workdir: Workdir) -> Signed:
        """Sign one request in `workdir`, which the caller must remove afterwards. After success it is gone already.

        The result for AHAB has an open file. Raises the errors of `digsigd.errors`, such as `Refused` and `Busy`.
        Cancelling stops cst first, so nothing writes into the directory afterwards.
        """
        from_token = request.backend == "pkcs11"
        if request.backend != "ssl" and not (from_token and self._tokens):
            raise Refused(
                f"this signing host has no {request.backend} backend", hint="omit the field backend, or send ssl"
            )
        tool = self._tools.find(request.cst_version)
        way, access = None, None
        if from_token:
            way, tool, access = await self._in_thread(self._reached, tool)
        self._queue.check_room(request.party or request.caller)
        evidence = request.evidence
        sums = self._sums.known(tool.executable, tool.libraries)
        if sums is None:
            sums = await self._in_thread(self._sums.read, tool.executable, tool.libraries)
        evidence.cst_sha256, evidence.libraries_sha256 = sums
        rules = request.rules or self._rules(request.machine)
        if request.csf_allow is not None:
            rules = replace(rules, policy=csf.Policy(rules.policy.allow & request.csf_allow))
        if len(request.description) < LONG_TEXT:
            description = read_description(request.description, rules.policy)
        else:
            description = await self._in_thread(read_description, request.description, rules.policy)
        if isinstance(description, csf.Description):
            check_hab_chip(request, rules)
        keys = await self._keys.get(request.machine, sha256=rules.keys_sha256)
        self.log.info(
            "keys of {machine} {how} from {origin} in {seconds:.3f} s",
            **request.log_fields, event="keys", machine=request.machine, how=keys.how,
            origin=keys.origin, seconds=keys.seconds,
        )  # fmt: skip
        evidence.took("keys", keys.seconds)
        evidence.tarball_sha256 = keys.tarball.sha256
        if not isinstance(description, csf.Description):
            reach = (way, access) if way is not None and access is not None else None
            signed = await self._ahab.sign(request, rules, keys, description, workdir, tool, reach)
            self._tell_notes(request, signed)
            return signed
        # Check before taking a slot: slots are only for running cst, and a wrong request need not wait for one.
        job, token = await self._prepared(request, rules, keys, description, workdir)
        early = self._in_digest_thread(job.digests) if request.size >= LARGE else None
        began, waited = self._clock(), 0.0
        try:
            if token is None or way is None or access is None:
                run = await self._run(job, tool)
            else:
                # Wait for the token first, without holding a slot meanwhile.
                async with token.session(self._tokens.login_timeout) as pin:
                    waited = self._clock() - began
                    await self._in_thread(job.unlock, way, access, pin)
                    run = await self._run(job, tool, "-b", "pkcs11", more_file=MAX_TRACE)
                    run = await self._in_thread(job.judge_token, token, way, pin, run)
        except BaseException:
            await _settled(early)
            raise
        self.log.info(
            "cst {version} {ended} after {seconds:.3f} s",
            **request.log_fields, event="cst", version=tool.version, ended=describe(run),
            exit=run.exit_code, signal=run.signal, seconds=run.seconds,
        )  # fmt: skip
        evidence.took("wait", waited + run.waited, ago=run.seconds)
        evidence.took("cst", run.seconds)
        began = self._clock()
        try:
            if run.exit_code or not job.wrote_blob():
                await self._in_thread(job.diagnose)
            job.judge(run)
        except BaseException:
            await _settled(early)
            raise
        if early is None and workdir.in_memory and job.is_quick:
            signed, proven = job.verified(None, at_once=True)
        else:
            signed, proven = await self._in_thread(job.verified, await early if early is not None else None)
        evidence.took("verify", self._clock() - began)
        self.log.info(
            "verified: {proven}",
            **request.log_fields, event="verified", proven=proven, notes=list(signed.notes),
        )  # fmt: skip
        self._tell_notes(request, signed)
        return signed

    def _tell_notes(self, request: SigningRequest, signed: Signed) -> None:
        for note in signed.notes:
            self.log.warn("note: {note}", **request.log_fields, event="note", note=note)

    async def _prepared(
        self, request: SigningRequest, rules: MachineRules, keys: Keys, description: csf.Description, workdir: Workdir
    ) -> tuple[Job, Token | None]:
        """Find and write the files of a request: in one call in a thread, or at once where that is the faster way."""
        if is_quick(request, keys, workdir):
            with suppress(SlowError):
                job = Job(request, rules, keys, description, workdir, at_once=True)
                job.prepare()
                return job, None
        return await self._in_thread(self._prepared_in_thread, request, rules, keys, description, workdir)

    def _prepared_in_thread(
        self, request: SigningRequest, rules: MachineRules, keys: Keys, description: csf.Description, workdir: Workdir
    ) -> tuple[Job, Token | None]:
        job = Job(request, rules, keys, description, workdir)
        token = self._tokens.find(job.token, request.machine) if request.backend == "pkcs11" else None
        job.prepare()
        return job, token

    def _reached(self, tool: CstTool) -> tuple[Way, CstTool, Access]:
        """Return how a cst reaches tokens, and the tool with libraries that a token's module can use. Blocks."""
        libraries = for_modules(tool.libraries)
        way = self._tokens.way(tool.version, tool.executable)
        return way, replace(tool, libraries=libraries), self._tokens.access.beside(libraries)

    async def _run(
        self,
        job: BaseJob,
        tool: CstTool,
        *arguments: str,
        more_file: int = 0,
        folder: str = RUN,
        description: str = DESCRIPTION,
    ) -> CstRun:
        limits = self._bounds.limits(job.size)
        return await self._runner.run(
            tool.executable,
            [*arguments, "-i", description, "-o", BLOB],
            cwd=str(job.workdir.path / folder),
            limits=replace(limits, file_size=limits.file_size + more_file),
            environment=job.environment,
            slot=self._queue.slot(job.request.party or job.request.caller),
            needs=replace(job.needs, libraries=tool.libraries),
        )


async def _settled(early: Deferred[list[bytes]] | None) -> None:
    """Wait for a call whose result is not needed, so that it does not read from a removed directory."""
    if early is not None:
        try:
            await early
        except CancelledError:
            raise  # the request was cancelled, not the call
        except Exception:  # noqa: BLE001, S110 - its error is not needed either
            pass


def read_description(text: bytes, policy: csf.Policy) -> csf.Description | ahab.Description:
    """Parse a client's CSF description and check it against the policy. Raises `BadRequest` or `Refused`."""
    with csf_errors():
        if ahab.is_ahab(text):
            containers = ahab.parse(text)
            ahab.check(containers, policy)
            return containers
        description = csf.parse(text)
        csf.check(description, policy)
    return description
