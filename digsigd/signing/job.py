"""The blocking steps of a request: find and write its files, check keys and blocks, verify the CSF blob."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256

from digsigd import csf, hab
from digsigd.csf import cst_files
from digsigd.csf.cst_files import BLOB, DESCRIPTION, RUN
from digsigd.errors import BadTarball, CstFailed, DigsigError, Refused, VerificationFailed
from digsigd.hab.certificate import Certificate
from digsigd.keys import Keys
from digsigd.signing.cst import CstRun
from digsigd.signing.evidence import note_artifacts
from digsigd.signing.job_base import MAX_BLOB, BaseJob, csf_errors
from digsigd.signing.key_checks import (
    INSTALLS,
    Tables,
    certificate_of,
    certificates_in,
    check_fit,
    check_key_is_elsewhere,
    srk_notes,
    tables_of,
)
from digsigd.signing.key_kinds import check_kind
from digsigd.signing.private_keys import check_match
from digsigd.signing.quick import QUICK
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.sums import ChangedError, CheckedFile, Sums, Unchecked, digest_blocks
from digsigd.signing.workdir import Workdir

_BLOB = f"{RUN}/{BLOB}"
# Four certificates and two signatures have less than half of it.
_SMALL_BLOB = 16 << 10
# So many signatures over data are verified in it: one with P-521 takes a millisecond.
_FEW = 4


class Job(BaseJob):
    """The blocking steps of one request. Run each in a thread, one after the other.

    Those of small requests may also run in the reactor's thread: this with `at_once`, `prepare`, and `verified` if it
    `is_quick`. Raises `Refused` or `BadRequest` if the description names files that are missing or not allowed,
    `BadTarball` if a private key cannot be used, and with `at_once` `SlowError` if one must be decrypted first.
    """

    def __init__(
        self,
        request: SigningRequest,
        rules: MachineRules,
        keys: Keys,
        description: csf.Description,
        workdir: Workdir,
        *,
        at_once: bool = False,
    ) -> None:
        super().__init__(request, rules, keys, workdir, at_once=at_once)
        self._description = description
        self._blob_size: int | None = None
        with csf_errors():
            self._plan = self._resolved(description)
        self.token = self._plan.token or ""
        self._files_needed, self._client_names = self._plan.files, self._plan.client_names
        self._uris = self._plan.uris
        # Ignore files that no block names. cst does not need them.
        self._artifacts = {cst_files.artifact(number): request.artifacts[number] for number in self._plan.artifacts}
        number_of = {name: number for number, name in enumerate(self._artifacts)}
        self._blocks = [
            [hab.Block(one.address, one.offset, one.length, number_of[one.file]) for one in blocks]
            for blocks in self._plan.blocks
        ]
        self._table = self._members[self._plan.srk_table]
        self._layout: hab.Layout | None = None
        self._sums: list[Sums] = []
        # What the check of the layout has read of an artifact whose digests were not known yet.
        self._unchecked = Unchecked()

    def _resolved(self, description: csf.Description) -> csf.Resolved:
        """Return the plan. Raises errors of `digsigd.csf`, and `BadTarball` if only a private key is missing."""
        request = self.request
        try:
            return csf.resolve(
                description,
                members=self._members,
                artifacts={one.name: one.size for one in request.artifacts},
                repeated={one.name for one in request.artifacts if one.repeated},
                from_token=request.backend == "pkcs11",
                identity=self._identity,
                decrypts=self._decrypts,
            )
        except csf.CsfKeyError as error:
            check_key_is_elsewhere(error.member, self._members)
            raise
        except csf.CsfError:
            check_kind(self._members, request.machine, of_ahab=False)
            raise

    @property
    def is_quick(self) -> bool:
        """Whether `verified` takes about a millisecond, going by artifacts, blocks and the blob that `judge` saw."""
        # Each block of a larger artifact can cost the digest of a chunk, or a wait for it.
        length = sum(block.length for blocks in self._blocks for block in blocks)
        few = self.request.size <= QUICK and len(self._blocks) <= _FEW
        return few and length <= QUICK and self._blob_size is not None and self._blob_size <= _SMALL_BLOB

    @property
    def size(self) -> int:
        """The most bytes that one command signs. Can exceed the artifacts' size, if it signs parts of them twice."""
        return max(sum(block.length for block in blocks) for blocks in self._blocks)

    def prepare(self) -> None:
        """Check keys and blocks, and write the files that cst needs into the work directory.

        Raises `Refused`, `BadTarball`, or `DigsigError` if a file cannot be read or written.
        """
        self._check_keys()
        self._sums = [artifact.sums or self._copied(name, artifact) for name, artifact in self._artifacts.items()]
        self._check_layout()
        # cst writes a copy of what it signs.
        self.workdir.check_space(self.size + MAX_BLOB)
        written = csf.write(self._plan.description)
        files = {needed.name: self._content(needed) for needed in self._plan.files}
        self.workdir.write_all({**files, DESCRIPTION: written})
        self._note_what_is_signed(written)
        links = dict.fromkeys(needed.name.partition("/")[0] for needed in self._plan.files)
        self.workdir.enter(RUN, [*self._artifacts, *links, DESCRIPTION], made=[BLOB])

    def _note_what_is_signed(self, written: bytes) -> None:
        """Note what the record says of the files. Raises `DigsigError` if an artifact cannot be read."""
        evidence = self.request.evidence
        evidence.description_sha256 = sha256(written).hexdigest()
        evidence.fuse_value = hab.SrkTable.parse(self._table).fuse_value.hex()
        evidence.srk = self._plan.source_index
        names = [one.name for one in self._artifacts.values()]
        evidence.blocks = tuple(
            tuple((one.address, one.offset, one.length, names[one.file]) for one in blocks) for blocks in self._blocks
        )
        # Of what was copied, not of what the embedding program's file is by now. Others may not be known yet.
        copies = zip(self._artifacts.values(), self._sums, strict=True)
        evidence.artifacts.update({one.name: sums.sha256 for one, sums in copies if one.sums is None})
        try:
            note_artifacts(evidence, tuple(one for one in self.request.artifacts if one.sums is None))
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error

    def _check_keys(self) -> None:
        try:
            table = hab.SrkTable.parse(self._table)
        except hab.HabError as error:
            name = self._plan.srk_table
            others = ", ".join(sorted(tables_of(self._members, name)))
            if others:
                line = self._plan.srk_table_line
                raise Refused(
                    f"csf: line {line}: {name!r} is not an SRK table",
                    line=line,
                    hint=f"SRK tables in the key tarball: {others}",
                ) from None
            check_kind(self._members, self.request.machine, of_ahab=False)
            raise BadTarball(f"the SRK table in the key tarball is bad: {error}") from None
        pinned = self._rules.fuse_value
        if pinned is not None and table.fuse_value != pinned:
            raise BadTarball(
                f"the SRK table in the key tarball has the fuse value {table.fuse_value.hex()}, but machine"
                f" {self.request.machine!r} has {pinned.hex()}",
                hint="its boards would refuse images signed with it; check the key tarball and the pinned value",
            )
        certificates: dict[str, Certificate] = {}
        member_of = {one.name: one.member for one in self._plan.files if one.kind == "certificate"}
        for theirs, ours in zip(self._description.commands, self._plan.description.commands, strict=True):
            if isinstance(theirs, INSTALLS) and isinstance(ours, INSTALLS) and ours.file in member_of:
                certificates[theirs.file] = certificate_of(self._members, member_of[ours.file])
        self._check_fit(certificates)
        for certificate, key in self._pairs:
            check_match(self._tarball, certificate, key)

    def _check_fit(self, certificates: dict[str, Certificate]) -> None:
        table = hab.SrkTable.parse(self._table)
        tables = Tables(table, lambda: tables_of(self._members, self._plan.srk_table))
        check_fit(self._description, tables, certificates)
        self._notes: list[str] = srk_notes(self._description, certificates)

    def _check_layout(self) -> None:
        try:
            with self._files(self._unchecked) as files:
                readable = [hab.File(one.size, one.read) for one in files]
                self._layout = hab.check_layout(self._blocks, readable, require_ivt=self._rules.require_ivt)
        except hab.HabError as error:
            raise Refused(f"csf: {error}", line=self._plan.blocks_line) from None

    def digests(self) -> list[bytes]:
        """Return the digest of each [Authenticate Data]'s blocks, with the description's hash algorithm.

        They are those of the bytes that were sent. Raises `VerificationFailed` if the files have others now, and
        `DigsigError` if an artifact cannot be read.
        """
        algorithm = self._plan.hash_algorithm
        with self._files() as files:
            self._unchecked.check()
            return [digest_blocks(algorithm, blocks, files) for blocks in self._blocks]

    @contextmanager
    def _files(self, unchecked: Unchecked | None = None) -> Iterator[list[CheckedFile]]:
        try:
            with ExitStack() as stack:
                files = []
                for name, sums in zip(self._artifacts, self._sums, strict=True):
                    descriptor = self.workdir.open(name)
                    stack.callback(os.close, descriptor)
                    files.append(CheckedFile(descriptor, sums, unchecked))
                yield files
        except ChangedError:
            raise VerificationFailed(
                "the artifact on the signing host is not what was sent",
                hint="something on that host changed it during the request; its operator should find out what",
            ) from None
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error

    def _check_still_there(self) -> None:
        with self._files() as files:
            for file in files:
                file.check_size()

    def diagnose(self) -> None:
        """Find a cause for which cst failed, and not the client.

        Raises `NoSpace` if the work directory is full, `BadTarball` for private keys that cannot be used, and
        `DigsigError` if an artifact is not there any more, or has another size.
        """
        self._check_still_there()
        self.workdir.check_space(self.size + MAX_BLOB)
        self._check_key_files()

    def wrote_blob(self) -> bool:
        """Return whether there is a file with cst's result, and not an empty one. Raises `Busy` if nobody can tell."""
        self._blob_size = self.workdir.size_of(_BLOB)
        return bool(self._blob_size)  # cst does not look whether its writes succeed

    def judge(self, run: CstRun) -> None:
        """Raise `CstTimeout`, `CstFailed` or `Refused` unless cst reports success and wrote a CSF blob."""
        self._judge(run, wrote=run.exit_code == 0 and self.wrote_blob())

    def verified(self, digests: Sequence[bytes] | None, *, at_once: bool = False) -> tuple[Signed, str]:
        """Verify cst's CSF blob as the boot ROM would, and return it with a text that says what was verified.

        Raises `VerificationFailed`, `Refused`, `BadTarball`, or `NoSpace` for a blob that did not fit. Removes the work
        directory on success; with `at_once` only if cst left nothing in it that would have to be looked for.
        """
        try:
            blob = self.workdir.read(_BLOB, MAX_BLOB + 1)
        except OSError as error:
            raise CstFailed("the CSF blob from cst cannot be read", detail=str(error)) from error
        if len(blob) > MAX_BLOB:
            raise VerificationFailed(f"cst wrote more than {MAX_BLOB} bytes, which is not a CSF blob")
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
        except hab.HabError as error:
            # cst may end with exit code 0 although it could not write the blob.
            self.workdir.check_space(self.size + MAX_BLOB)
            if self.token:
                # The certificates on the token are known only now.
                self._check_fit(certificates_in(blob, self._description))
            raise VerificationFailed(
                f"the CSF blob from cst failed verification and is not sent: {error}",
                hint="the boot ROM would refuse it; check the keys in the tarball against the CSF description",
            ) from None
        self._check_room(len(blob))
        # A cst that replaced it is not believed, even though the signature is good.
        self._check_still_there()
        evidence = self.request.evidence
        note_artifacts(evidence, self.request.artifacts)
        evidence.blob_sha256, evidence.blob_size = sha256(blob).hexdigest(), len(blob)
        evidence.certificates = tuple(sha256(one).hexdigest() for one in hab.CsfBlob.parse(blob).certificates())
        if self.token:
            evidence.token_expires = min((one.not_after.timestamp() for one in result.certificates), default=0.0)
        # Remove it here to save another call in a thread. If this fails, the owner tries again.
        with suppress(DigsigError):
            self.workdir.remove_known() if at_once else self.workdir.remove()
        return Signed(blob, (*result.notes, *self._notes)), str(result)

    def _check_room(self, length: int) -> None:
        try:
            if self._layout is not None:
                hab.check_room(self._layout, length)
        except hab.HabError as error:
            raise Refused(
                f"csf: {error}",
                line=self._plan.blocks_line,
                hint="leave more space in the image (CONFIG_CSF_SIZE, length in the boot data), or use smaller keys",
            ) from None
