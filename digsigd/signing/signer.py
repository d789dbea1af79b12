"""One request from its CSF description to a verified CSF blob."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from digsigd import csf, hab
from digsigd.errors import BadRequest, BadTarball, CstFailed, CstTimeout, DigsigError, Refused, VerificationFailed
from digsigd.keys import Keys, KeyStore
from digsigd.signing.cst import CstRun, CstRunner, Limits, describe
from digsigd.signing.line import Line
from digsigd.signing.pkcs11 import MAX_TRACE, Access, Token, Tokens, Way, forms_of, without_chatter, write_access
from digsigd.signing.reasons import reason_of
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTool, CstTools
from digsigd.signing.workdir import Workdir

DESCRIPTION = "description.csf"
BLOB = "csf.bin"
ARTIFACT = "artifact"
# A blob holds a table, two certificates and some signatures: tens of kB. Whatever is larger is none.
MAX_BLOB = 1 << 20
# From this size on it pays to compute the digest beside cst instead of after it.
LARGE = 1 << 20
# Parsing is linear; from this length on it is work for a thread, so that nobody else waits for it.
LONG_TEXT = 16 << 10


@dataclass(frozen=True, slots=True)
class MachineRules:
    """What the operator allows and pins for one machine."""

    policy: csf.Policy
    fuse_value: bytes | None = None
    require_ivt: bool = True


@dataclass(frozen=True, slots=True)
class RunBounds:
    """Limits of one cst run; `memory` is in bytes and on top of the artifact's size, which cst reads whole."""

    cpu_seconds: int = 120
    memory: int = 256 << 20
    open_files: int = 64

    def limits(self, artifact_size: int) -> Limits:
        """The limits for an artifact of this size: cst also writes a full copy of what is signed."""
        return Limits(
            cpu_seconds=self.cpu_seconds,
            # The copy in memory doubles while it grows.
            memory=self.memory + 3 * artifact_size,
            file_size=artifact_size + MAX_BLOB,
            open_files=self.open_files,
        )


class Signer:
    """Signs what it is given with the keys of the named machine, and gives out only what it has verified."""

    log = Logger()

    def __init__(
        self,
        *,
        tools: CstTools,
        runner: CstRunner,
        line: Line,
        keys: KeyStore,
        rules: Callable[[str], MachineRules],
        bounds: RunBounds,
        in_thread: InThread,
        in_digest_thread: InThread,
        tokens: Tokens,
    ) -> None:
        self._tools = tools
        self._runner = runner
        self._line = line
        self._keys = keys
        self._rules = rules
        self._bounds = bounds
        self._in_thread = in_thread
        self._in_digest_thread = in_digest_thread
        self._tokens = tokens

    async def sign(self, request: SigningRequest, workdir: Workdir) -> Signed:
        """Sign one artifact in `workdir`, which the caller owns and removes once this has ended.

        Where all went well it is removed already. Raises the errors of `digsigd.errors`. Cancelling ends cst first;
        nothing writes into the directory after.
        """
        from_token = request.backend == "pkcs11"
        if request.backend != "ssl" and not (from_token and self._tokens):
            raise Refused(
                f"this host has no {request.backend} backend", hint="leave the field backend out, or send ssl"
            )
        tool = self._tools.find(request.cst_version)
        way = await self._in_thread(self._tokens.way, tool.version, tool.executable) if from_token else None
        self._line.check_room()
        rules = self._rules(request.machine)
        if len(request.csf) < LONG_TEXT:
            description = read_description(request.csf, rules.policy)
        else:
            description = await self._in_thread(read_description, request.csf, rules.policy)
        keys = await self._keys.get(request.machine)
        self.log.info(
            "keys of {machine} {how} from {origin} in {seconds:.3f} s",
            request_id=request.request_id, event="keys", machine=request.machine, how=keys.how,
            origin=keys.origin, seconds=keys.seconds,
        )  # fmt: skip
        job = _Job(request, rules, keys, description, workdir)
        # Before a place is taken: whoever has one uses it for cst alone, and a wrong request need not wait for one.
        token = self._tokens.find(job.token, request.machine) if way is not None else None
        await self._in_thread(job.prepare)
        early = self._in_digest_thread(job.digests) if request.artifact_size >= LARGE else None
        try:
            if token is None or way is None:
                run = await self._run(job, tool)
            else:
                # The token's own line comes first: whoever waits for it takes no place from others.
                async with token.session(self._tokens.login_timeout) as pin:
                    await self._in_thread(job.unlock, way, self._tokens.access, pin)
                    run = await self._run(job, tool, "-b", "pkcs11", more_file=MAX_TRACE)
                    run = await self._in_thread(job.judge_token, token, way, pin, run)
        except BaseException:
            await _settled(early)
            raise
        self.log.info(
            "cst {version} {ended} after {seconds:.3f} s",
            request_id=request.request_id, event="cst", version=tool.version, ended=describe(run),
            exit=run.exit_code, signal=run.signal, seconds=run.seconds,
        )  # fmt: skip
        try:
            job.judge(run)
        except BaseException:
            await _settled(early)
            raise
        digests = await early if early is not None else None
        signed, proven = await self._in_thread(job.verified, digests)
        self.log.info(
            "verified: {proven}",
            request_id=request.request_id, event="verified", proven=proven, notes=list(signed.notes),
        )  # fmt: skip
        return signed

    async def _run(self, job: _Job, tool: CstTool, *arguments: str, more_file: int = 0) -> CstRun:
        limits = self._bounds.limits(job.request.artifact_size)
        return await self._runner.run(
            tool.executable,
            [*arguments, "-i", DESCRIPTION, "-o", BLOB],
            cwd=str(job.workdir.path),
            limits=replace(limits, file_size=limits.file_size + more_file),
            environment=job.environment,
            place=self._line.place(),
        )


async def _settled(early: Deferred[list[bytes]] | None) -> None:
    """Wait for a call whose result nobody wants any more, so that it reads nothing after its directory is gone."""
    if early is not None:
        try:
            await early
        except CancelledError:
            raise  # it is the request that was cancelled
        except Exception:  # noqa: BLE001, S110 - nobody wants its error either
            pass


def read_description(text: bytes, policy: csf.Policy) -> csf.Description:
    """Parse and check a client's CSF description."""
    with _csf_errors():
        description = csf.parse(text)
        csf.check(description, policy)
    return description


@contextmanager
def _csf_errors() -> Iterator[None]:
    """Turn the errors of `digsigd.csf` into ours: what does not parse is a bad request, the rest is refused."""
    try:
        yield
    except csf.CsfSyntaxError as error:
        raise BadRequest(f"csf: {error}") from None
    except csf.CsfError as error:
        raise Refused(f"csf: {error}", line=error.line) from None


class _Job:
    """The blocking steps of one request. Each runs in a thread; they follow one another."""

    def __init__(
        self,
        request: SigningRequest,
        rules: MachineRules,
        keys: Keys,
        description: csf.Description,
        workdir: Workdir,
    ) -> None:
        self.request = request
        self._rules = rules
        self._members = keys.tarball.members
        self.workdir = workdir
        with _csf_errors():
            self._plan = csf.resolve(
                description,
                members=self._members,
                artifact_name=request.artifact_name,
                artifact_size=request.artifact_size,
                from_token=request.backend == "pkcs11",
            )
        self._blocks = [
            [hab.Block(block.address, block.offset, block.length) for block in blocks] for blocks in self._plan.blocks
        ]
        self._table = self._members[self._plan.srk_table]
        self._layout: hab.Layout | None = None
        self._secrets = [self._members[name] for name in self._members if name.endswith("key_pass.txt")]
        self.token = self._plan.token or ""
        self.environment: dict[str, str] = {}

    def prepare(self) -> None:
        """Check what can be known before signing, and write what cst needs into the directory."""
        self._check_keys()
        self._check_layout()
        if self.request.artifact != self.workdir.path / ARTIFACT:
            (self.workdir.path / ARTIFACT).symlink_to(self.request.artifact.absolute())
        for needed in self._plan.files:
            self.workdir.write(needed.name, self._members[needed.member])
        self.workdir.write(DESCRIPTION, csf.write(self._plan.description))

    def unlock(self, way: Way, access: Access, pin: str) -> None:
        """Write what cst needs to use a token: as late as may be, since an operator may change the PIN any time."""
        self._secrets += forms_of(pin)
        self.environment = write_access(self.workdir, way, access, pin)

    def judge_token(self, token: Token, way: Way, pin: str, run: CstRun) -> CstRun:
        """Raise what a run tells of the token; the result is the run without what OpenSSL's libraries said."""
        token.judge(way, run.output, self.workdir.path, self._plan.uris, pin=pin, worked=run.exit_code == 0)
        return replace(run, output=without_chatter(run.output))

    def _check_keys(self) -> None:
        try:
            table = hab.SrkTable.parse(self._table)
        except hab.HabError as error:
            name = self._plan.srk_table
            others = ", ".join(
                sorted(one for one in self._members if one != name and _is_srk_table(self._members[one]))
            )
            if others:
                line = self._plan.srk_table_line
                raise Refused(
                    f"csf: line {line}: {name!r} is no SRK table", line=line, hint=f"in the key tarball is {others}"
                ) from None
            raise BadTarball(f"the SRK table in the key tarball is bad: {error}") from None
        pinned = self._rules.fuse_value
        if pinned is not None and table.fuse_value != pinned:
            raise BadTarball(
                f"the SRK table in the key tarball has the fuse value {table.fuse_value.hex()}, machine"
                f" {self.request.machine!r} has {pinned.hex()}",
                hint="signing with it would make images that its boards refuse; check the tarball and the pinned value",
            )

    def _check_layout(self) -> None:
        try:
            with self._artifact() as file:
                self._layout = hab.check_layout(self._blocks, [file], require_ivt=self._rules.require_ivt)
        except hab.HabError as error:
            raise Refused(f"csf: {error}", line=self._plan.blocks_line) from None

    def digests(self) -> list[bytes]:
        """The digest of what each [Authenticate Data] covers, by the description's own hash algorithm."""
        algorithm = self._plan.hash_algorithm
        with self._artifact() as file:
            return [hab.digest_blocks(algorithm, blocks, [file]) for blocks in self._blocks]

    @contextmanager
    def _artifact(self) -> Iterator[hab.File]:
        try:
            with self.request.artifact.open("rb", buffering=0) as file:
                descriptor = file.fileno()
                yield hab.File(self.request.artifact_size, lambda offset, length: os.pread(descriptor, length, offset))
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error

    def judge(self, run: CstRun) -> None:
        """Raise unless cst says that it worked, which is no proof yet."""
        reason = reason_of(run.output, self.workdir.path, self._plan.client_names, self._secrets)
        if run.ran_out_of_cpu:
            raise CstTimeout("cst ran out of processor time and was stopped", detail=reason)
        if run.signal is not None:
            raise CstFailed(f"cst {describe(run)}", detail=reason)
        if run.exit_code != 0:
            raise Refused(f"cst refused the CSF description: {reason or describe(run)}", detail=describe(run))
        if not (self.workdir.path / BLOB).is_file():
            raise CstFailed("cst ended with 0 and wrote no CSF blob", detail=reason)

    def verified(self, digests: Sequence[bytes] | None) -> tuple[Signed, str]:
        """Read cst's blob and prove it as the boot ROM would; the text says what was proven."""
        descriptor = os.open(self.workdir.path / BLOB, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            blob = file.read(MAX_BLOB + 1)
        if len(blob) > MAX_BLOB:
            raise VerificationFailed(f"cst wrote more than {MAX_BLOB} bytes, which is no CSF blob")
        try:
            result = hab.verify(
                blob,
                srk_table=self._table,
                expected_blocks=self._blocks,
                source_index=self._plan.source_index,
                digests=self.digests() if digests is None else digests,
                fuse_value=self._rules.fuse_value,
                now=datetime.now(UTC),
            )
            if self._layout is not None:
                hab.check_room(self._layout, len(blob))
        except hab.HabError as error:
            raise VerificationFailed(
                f"cst's result does not hold, so it is not sent: {error}",
                hint="the boot ROM would refuse it; check the keys in the tarball against the CSF description",
            ) from None
        # This thread is at hand; another turn of one would be for this alone. If it fails, the owner tries again.
        with suppress(DigsigError):
            self.workdir.remove()
        return Signed(blob, tuple(result.notes)), str(result)


def _is_srk_table(data: bytes) -> bool:
    try:
        hab.SrkTable.parse(data)
    except hab.HabError:
        return False
    return True
