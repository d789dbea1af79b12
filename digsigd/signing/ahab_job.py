"""The blocking steps of a request for AHAB: check keys and containers, stubs for cst, the proof of the whole file.

cst never sees the file. For each container it gets a stub, which is the container's own bytes up to its signature
block, and signs that. What it writes is put into the file in the container's place, and the whole is proven: on the
bytes that were sent, with digests from the stream that brought them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from digsigd import ahab
from digsigd.ahab.images import running_hash
from digsigd.csf.ahab import Description, Resolved, resolve, write
from digsigd.csf.cst_files import BLOB, DESCRIPTION, artifact, container
from digsigd.csf.errors import CsfError, CsfKeyError
from digsigd.errors import CstFailed, DigsigError, Refused, VerificationFailed
from digsigd.keys import Keys
from digsigd.signing.ahab_containers import (
    check_fuse_versions,
    check_places,
    chosen,
    misplaced,
    overwritten,
    placed,
    refused,
)
from digsigd.signing.ahab_described import check_described
from digsigd.signing.ahab_keys import (
    UNKNOWN_CHIP,
    Named,
    certificate_notes,
    chip_of,
    fuse_value_of,
    signer_of,
)
from digsigd.signing.ahab_known import checked_table
from digsigd.signing.cst import CstRun
from digsigd.signing.evidence import note_artifacts
from digsigd.signing.job_base import BaseJob, csf_errors
from digsigd.signing.key_checks import certificate_of, check_key_is_elsewhere
from digsigd.signing.key_kinds import check_kind
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.rules import MachineRules
from digsigd.signing.signed_file import Original, Patch, SignedFile, changed, sums_of
from digsigd.signing.sums import CHUNK, ChangedError, CheckedFile, Sums
from digsigd.signing.workdir import Workdir

# The length of a container is a number of 16 bits, and cst writes no more than a stub with its container.
MOST_WRITTEN = 1 << 17
# What cst says if tmpfile(3) fails.
_NO_TEMPORARY = b"Cannot create temporary file"
# What cst writes besides, in bytes: files with the container, which it removes.
_SCRATCH = 4 * MOST_WRITTEN


class AhabJob(BaseJob):
    """The blocking steps of one request for AHAB. Run each in a thread, one after the other, then `close`.

    Those of small requests may also run in the reactor's thread: this with `at_once`, `prepare`, and `finish` if it
    `is_quick`. Raises `Refused` or `BadRequest` if the description names files that are missing or not allowed, or a
    chip that does not fit, `BadTarball` if a private key cannot be used, and with `at_once` `SlowError` if one must be
    decrypted first.
    """

    made = "container"

    def __init__(
        self,
        request: SigningRequest,
        rules: MachineRules,
        keys: Keys,
        description: Description,
        workdir: Workdir,
        *,
        at_once: bool = False,
    ) -> None:
        super().__init__(request, rules, keys, workdir, at_once=at_once)
        self._description = description
        self._chip = chip_of(request, rules, description.header.container_version)
        with csf_errors():
            plan = self._plan = self._resolved(description)
        self._named = Named(
            plan.srk_table, plan.srk_table_line, plan.source, plan.source_line, plan.certificate, plan.certificate_line
        )
        self.token = plan.token or ""
        self._files_needed, self._client_names, self._uris = plan.files, plan.client_names, plan.uris
        self.needs = replace(self.needs, temporary=True)
        self._artifact = request.artifacts[plan.artifact]
        self._descriptor: int | None = None
        self._sums: Sums | None = None
        self._file: CheckedFile | None = None
        self._digests: dict[tuple[str, int, int], bytes] = {}
        # All containers of the file, and those that are signed.
        self._all: tuple[ahab.Container, ...] = ()
        self._containers: tuple[ahab.Container, ...] = ()
        self._patches: list[Patch] = []
        self._notes: list[str] = []

    def _resolved(self, description: Description) -> Resolved:
        request = self.request
        try:
            return resolve(
                description,
                members=self._members,
                artifacts={one.name: one.size for one in request.artifacts},
                repeated={one.name for one in request.artifacts if one.repeated},
                from_token=request.backend == "pkcs11",
                identity=self._identity,
                decrypts=self._decrypts,
            )
        except CsfKeyError as error:
            check_key_is_elsewhere(error.member, self._members)
            raise
        except CsfError:
            check_kind(self._members, request.machine, of_ahab=True)
            raise

    @property
    def runs(self) -> int:
        """How often cst has to run: once for each container."""
        return len(self._plan.runs)

    @property
    def size(self) -> int:
        """The most bytes that a run signs."""
        return MOST_WRITTEN

    @property
    def is_quick(self) -> bool:
        """Whether all of it takes about a millisecond, if the request is small: no byte is hashed twice then."""
        return self.runs == 1

    def folder(self, number: int) -> str:
        """Return the folder that run `number`, from 0, has for itself. cst leaves files there after an error."""
        return f"run{number + 1}" if number else "run"

    def prepare(self) -> None:
        """Check keys and containers, and write the files that cst needs into the work directory.

        Raises `Refused`, `BadTarball`, `VerificationFailed` if the file is not what was sent, or `DigsigError` if one
        cannot be read or written.
        """
        self._check_keys()
        self._take_artifact()
        with self._reading() as file:
            data, lines = Original(file), self._plan.containers_line
            version = self._description.header.container_version
            self._all, self._containers = chosen(data, self._plan.containers, lines, version)
            check_fuse_versions(self._containers, lines, self._rules.max_fuse_version)
            for one, line in zip(self._containers, lines, strict=True):
                check_places(one, line, file.size, self._all, self._digest)
            stubs = [ahab.stub(data, one) for one in self._containers]
        self._notes += [note for one in self._containers if (note := misplaced(one))]
        self.workdir.check_space(_SCRATCH * self.runs)
        files = {needed.name: self._content(needed) for needed in self._plan.files}
        folders = dict.fromkeys(name.partition("/")[0] for name in files)
        self.workdir.write_all(files)
        for number, (run, stub) in enumerate(zip(self._plan.runs, stubs, strict=True)):
            text = self.description_of(number)
            self.workdir.write_all({container(number): stub, text: write(run)})
            self.workdir.enter(self.folder(number), [*folders, container(number), text], made=[BLOB])
        self._note_what_is_signed()

    def description_of(self, number: int) -> str:
        """Return the name of the description of run `number`, from 0."""
        return f"{number + 1}-{DESCRIPTION}" if number else DESCRIPTION

    def close(self) -> None:
        """Close the file, unless it has become the answer. It may be called again."""
        self._file = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _check_keys(self) -> None:
        self._table = checked_table(
            self._tarball, self._named, self._description, self.request.machine, self._rules.fuse_value, self._chip,
            self._pairs,
        )  # fmt: skip
        # Others on another day.
        self._notes += certificate_notes(self._named, self._members, datetime.now(UTC))

    def _take_artifact(self) -> None:
        """Open the file and remove its name, so that nothing that cst does can reach it."""
        name = artifact(self._plan.artifact)
        self._sums = self._artifact.sums or self._copied(name, self._artifact)
        try:
            note_artifacts(self.request.evidence, tuple(one for one in self.request.artifacts if one.sums is None))
            self._descriptor = self.workdir.take(name)
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error
        self._file = CheckedFile(self._descriptor, self._sums)

    @contextmanager
    def _reading(self) -> Iterator[CheckedFile]:
        try:
            if self._file is None:
                raise DigsigError("the artifact cannot be read: it is closed")
            self._file.check_size()
            yield self._file
        except ChangedError:
            raise changed() from None
        except OSError as error:
            raise DigsigError("the artifact cannot be read", detail=str(error)) from error

    def _original(self) -> Original:
        if self._file is None:
            raise DigsigError("the artifact cannot be read: it is closed")
        return Original(self._file)

    def _digest(self, name: str, offset: int, length: int) -> bytes:
        """Return the hash of a part of the file as it was sent: from the stream, or from what is read again."""
        part = (name, offset, length)
        if part not in self._digests:
            known = self._sums.of_image(*part) if self._sums is not None else None
            self._digests[part] = self._read_digest(*part) if known is None else known
        return self._digests[part]

    def _read_digest(self, name: str, offset: int, length: int) -> bytes:
        running, data, end = running_hash(name, offset), self._original(), offset + length
        while offset < end:
            # To the end of a chunk, so that none is compared twice.
            until = min(end, (offset // CHUNK + 1) * CHUNK)
            running.update(data[offset:until])
            offset = until
        return running.digest()

    def _note_what_is_signed(self) -> None:
        """Note what the record says of keys and containers."""
        evidence, plan = self.request.evidence, self._plan
        evidence.description_sha256 = hashlib.sha256(write(plan.description)).hexdigest()
        value = fuse_value_of(self._table, self._chip, self._rules.fuse_value)
        evidence.fuse_value = value.hex() if value is not None else ""
        evidence.soc = self._chip.name if self._chip is not None else ""
        evidence.srk = plan.source_index
        name = self._artifact.name
        evidence.blocks = tuple(
            tuple((image.load, one.offset + image.offset, image.size, name) for image in one.images if image.size)
            for one in self._containers
        )
        named = [member for member in (plan.source, plan.certificate) if member is not None]
        evidence.certificates = tuple(
            hashlib.sha256(certificate_of(self._members, member).der).hexdigest() for member in named
        )

    def diagnose(self) -> None:
        """Find a cause for which cst failed, and not the client.

        Raises `NoSpace` if the work directory is full, `BadTarball` for private keys that cannot be used.
        """
        self.workdir.check_space(_SCRATCH)
        self._check_key_files()

    def wrote(self, number: int) -> int:
        """Return how many bytes run `number` has written of a container, 0 if it wrote none."""
        return self.workdir.size_of(f"{self.folder(number)}/{BLOB}") or 0

    def take(self, number: int, run: CstRun) -> None:
        """Take what run `number` has written, if it reports success, and put it into the container's place.

        Raises `CstTimeout`, `CstFailed`, `Refused`, `VerificationFailed`, and what `diagnose` raises.
        """
        output = f"{self.folder(number)}/{BLOB}"
        wrote = run.exit_code == 0 and bool(self.wrote(number))
        if not wrote:
            self.diagnose()
            if _NO_TEMPORARY in run.output:
                raise CstFailed(
                    "cst cannot make a temporary file on this signing host, which it needs for AHAB",
                    hint="its operator finds what that takes in docs/security.md, below AHAB",
                )
        try:
            self._judge(run, wrote=wrote)
        except Refused as error:
            if self._description.header.container_version == 2:
                error.hint = f"containers of version 2 need cst 4.0.1 or later; {error.hint}"
            raise
        try:
            written = self.workdir.read(output, MOST_WRITTEN + 1)
        except OSError as error:
            raise CstFailed("the container from cst cannot be read", detail=str(error)) from error
        before, line = self._containers[number], self._plan.containers_line[number]
        with self._reading() as file:
            try:
                made = placed(before, written, Original(file), self._all, line, self.request.cst_version)
                name = self._plan.certificate
                certificate = self._members[name] if name is not None else None
                check_described(before, ahab.parse(made), self._description, certificate, line)
            except ahab.AhabError as error:
                # cst may end with exit code 0 although it could not write everything.
                self.diagnose()
                raise _not_proven(error) from None
            if note := overwritten(before, made, Original(file)):
                self._notes.append(note)
        self._patches.append(Patch(before.offset, made))

    def finish(self, run: CstRun, *, at_once: bool = False) -> tuple[Signed, str]:
        """Take what the last run has written, and prove the whole file as boards would.

        Returns the file with a text that says what was proven. Raises what `take` raises, and `DigsigError`. Removes
        the work directory on success; with `at_once` only if cst left nothing in it that would have to be looked for.
        """
        self.take(self.runs - 1, run)
        with self._reading() as file:
            data = Original(file, self._patches)
            try:
                results = self._proven(data)
            except ahab.AhabError as error:
                raise self._not_proven(data, error) from None
            sums = sums_of(file, self._patches)
        answer = SignedFile(self._handed_over(), sums, self._patches)
        evidence = self.request.evidence
        note_artifacts(evidence, self.request.artifacts)
        evidence.blob_sha256, evidence.blob_size = answer.sha256, answer.size
        evidence.containers = tuple(
            (one.offset, len(one.data), hashlib.sha256(one.data).hexdigest()) for one in self._patches
        )
        # Remove it here to save another call in a thread. If this fails, the owner tries again.
        with suppress(DigsigError):
            self.workdir.remove_known() if at_once else self.workdir.remove()
        notes = dict.fromkeys(note for one in results for note in one.notes)
        unknown = () if self._chip is not None else (UNKNOWN_CHIP,)
        return Signed(b"", (*unknown, *self._notes, *notes), file=answer), "; ".join(map(str, results))

    def _proven(self, data: Original) -> list[ahab.Verified]:
        """Verify the containers that were signed. Raises `AhabError`."""
        offsets = sorted(one.offset for one in self._containers)
        signed = [ahab.parse(data, offset) for offset in offsets]
        others = [one for one in self._all if one.offset not in offsets]
        return [
            ahab.verify(
                data,
                offset,
                chip=self._chip,
                fuse_value=self._rules.fuse_value,
                srk_table=self._members[self._plan.srk_table],
                srk_index=self._plan.source_index,
                digest=self._digest,
                containers=(*signed, *others),
            )
            for offset in offsets
        ]

    def _not_proven(self, data: Original, error: ahab.AhabError) -> Refused | VerificationFailed:
        """Return the error for a container that failed verification."""
        if not self.token:
            return _not_proven(error)
        # Whose certificates are on the token is known only now.
        found: int | None = None
        with suppress(ahab.AhabError):
            one = ahab.parse(data, self._containers[0].offset)
            found = signer_of(one, data[one.offset : one.offset + one.signed_length])
        index = self._plan.source_index
        if found is None or found == index:
            return _not_proven(error)
        return refused(
            self._plan.source_line,
            f"Source index = {index} is SRK {index + 1}, but the certificate on the token is that of SRK {found + 1}",
            hint=f"use Source index = {found}, or name the certificate of SRK {index + 1}",
        )

    def _handed_over(self) -> int:
        """Return the descriptor, which belongs to the answer from now on."""
        descriptor, self._descriptor, self._file = self._descriptor, None, None
        if descriptor is None:
            raise DigsigError("the artifact cannot be read: it is closed")
        return descriptor


def _not_proven(error: ahab.AhabError) -> VerificationFailed:
    return VerificationFailed(
        f"the container from cst failed verification and is not sent: {error}",
        hint="a board would refuse it; check the keys in the tarball against the CSF description",
    )
