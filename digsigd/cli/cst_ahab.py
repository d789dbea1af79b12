"""`cst` for AHAB: read the description, and verify the answer, which is the whole file, against the local one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from digsigd import ahab, csf
from digsigd.ahab import AhabChip, Buffer, SrkArray, SrkTable, Verified
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_files import NamedKey, SignedFile, identity_of, local_path
from digsigd.cli.cst_names import digest_of
from digsigd.client._internal.files import mapped
from digsigd.csf import ahab as language
from digsigd.csf.ahab.asked import check_asked
from digsigd.csf.members import base_of
from digsigd.csf.model import Place, Refusable
from digsigd.csf.renaming import renamed
from digsigd.csf.uri import is_uri

# A key is compared, not a signature: any hash that records can have will do.
_ANY_HASH = "sha256"


@dataclass(frozen=True, slots=True)
class AhabJob:
    """A description for AHAB and the file that it signs.

    `names`, `keys` and `source_index` are as in `Job`. `containers` are the offsets of the containers to sign, in the
    order of the file. `description` is what `text` says.
    """

    text: bytes
    description: language.Description
    file: SignedFile
    containers: tuple[int, ...]
    source_index: int
    keys: tuple[NamedKey, ...]
    names: Mapping[Place, str]

    @property
    def files(self) -> tuple[SignedFile, ...]:
        """The file."""
        return (self.file,)

    def sent(self, names: Mapping[Place, str]) -> bytes:
        """Return the text of the description with `self.names` and these names, by place, put in."""
        return renamed(self.text, {**self.names, **names})


def ahab_job(text: bytes, max_bytes: int) -> AhabJob:
    """Read a description for AHAB. Local files are checked here; the host checks policy and keys.

    Raises `CsfError` with the line.
    """
    description = language.parse(text, max_bytes=max_bytes)
    data = _checked(description)
    first = data[0]
    identity = identity_of(first.file, first.file_place)
    for one in data[1:]:
        if identity_of(one.file, one.file_place) != identity:
            raise csf.CsfNameError(
                "the containers are in different files, but a request signs those of one file", *one.file_place,
                hint="write a description for each file",
            )  # fmt: skip
    name = base_of(first.file)
    named = [(one.file, one.file_place) for one in description.commands if isinstance(one, language.InstallSrk)]
    named += [(one.source, one.source_place) for one in description.commands if isinstance(one, language.InstallSrk)]
    named += [
        (one.file, one.file_place) for one in description.commands if isinstance(one, language.InstallCertificate)
    ]
    index = next((one.source_index for one in description.commands if isinstance(one, language.InstallSrk)), 0)
    return AhabJob(
        text,
        description,
        SignedFile(local_path(first.file), name),
        tuple(sorted(one.container_offset for one in data)),
        index,
        tuple(NamedKey(key, place) for key, place in named if not is_uri(key)),
        {one.file_place: name for one in data if base_of(one.file) != name},
    )


def _checked(description: language.Description) -> tuple[language.AuthenticateData, ...]:
    """Return each [Authenticate Data], after refusing what a signing host does not sign. Raises `CsfPolicyError`."""
    for command in description.commands:
        if isinstance(command, Refusable):
            raise csf.CsfPolicyError(
                f"[{command.name}]: signing hosts do not support encrypted boot, which would send the image's key",
                *command.place,
                hint="sign without encryption, or use NXP's cst for this image",
            )
        if isinstance(command, language.Header) and command.mode is not None:
            raise csf.CsfPolicyError(
                "Mode = HSM makes placeholders instead of signatures",
                *command.mode_place,
                hint="remove it; to use keys in the host's HSM, pass -b pkcs11 or set DIGSIGN_BACKEND=pkcs11",
            )
    if not any(isinstance(one, language.InstallSrk) for one in description.commands):
        raise csf.CsfPolicyError("the description has no [Install SRK], which names the key that signs")
    if not description.data:
        raise csf.CsfPolicyError("the description has no [Authenticate Data], so there is nothing to sign")
    return description.data


def prove_file(answer: Path, job: AhabJob, chip: AhabChip | None) -> tuple[Verified, ...]:
    """Verify the host's answer against the local file: nothing but the containers has changed, and they hold.

    This finds a file that changed during the upload, and responses to other requests. Raises `Trouble`.
    """
    try:
        with ExitStack() as stack:
            before, after = stack.enter_context(mapped(job.file.path)), stack.enter_context(mapped(answer))
            return tuple(_proven(before, after, job, chip))
    except ahab.AhabError as error:
        raise Trouble(
            f"the host's answer fails verification with {shown(str(job.file.path))}, so it was not written:"
            f" {shown(error.summary())}",
            hint="check that the file did not change during the upload, and that no proxy alters the response",
        ) from None


def _proven(before: Buffer, after: Buffer, job: AhabJob, chip: AhabChip | None) -> Iterator[Verified]:
    containers = [ahab.parse(after, offset) for offset in job.containers]
    for one in containers:
        others = [(other.offset, other.end) for other in containers if other.offset != one.offset]
        proven = ahab.verify(
            after, one.offset, chip=chip, srk_index=job.source_index, original=_Overlaid(before, after, others)
        )
        check_asked(ahab.read_header(before, one.offset), one, job.description)
        yield proven


class _Overlaid:
    """A file with some parts, as (start, end) pairs, of another one: what it was but for the other containers."""

    def __init__(self, file: Buffer, other: Buffer, parts: Sequence[tuple[int, int]]) -> None:
        self._file = file
        self._other = other
        self._parts = parts

    def __len__(self) -> int:
        return len(self._file)

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self._file))
        piece = bytearray(self._file[start:stop])
        for first, last in self._parts:
            low, high = max(first, start), min(last, stop)
            if low < high:
                piece[low - start : high - start] = self._other[low:high]
        return bytes(piece)


def strangers_of(proven: Sequence[Verified], local: Mapping[NamedKey, bytes]) -> list[NamedKey]:
    """Return the local tables and certificates that are not those of the verified containers."""
    tables = [_tables(one.container.block.srk) for one in proven if one.container.block and one.container.block.srk]
    keys = [parts for one in proven for parts in _keys(one)]
    found = []
    for name, data in local.items():
        try:
            if digest_of(data) is not None:
                used = ahab.key_of(data, _ANY_HASH).parts in keys
            else:
                used = _tables(ahab.parse_table(data)) in tables
        except ahab.AhabError:
            used = False
        if not used:
            found.append(name)
    return found


def _tables(srk: SrkTable | SrkArray) -> list[bytes]:
    """Return the tables without the key that signs."""
    return [srk.raw] if isinstance(srk, SrkTable) else [one.raw for one in srk.tables]


def _keys(one: Verified) -> Iterator[tuple[bytes, bytes]]:
    """Yield the SRK that signed a container, and the SGK, if there is one."""
    block = one.container.block
    if block is None or block.srk is None:
        return
    srk = block.srk
    yield (srk.records[one.srk - 1] if isinstance(srk, SrkTable) else srk.tables[0].used).crypto
    if block.certificate is not None:
        yield from (record.crypto for record in block.certificate.records)
