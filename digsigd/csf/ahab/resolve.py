"""Finds the machine's files and the artifact that a description for AHAB names, and gives them new names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from digsigd.csf import cst_files
from digsigd.csf.ahab.model import AuthenticateData, Description, InstallCertificate, InstallSrk
from digsigd.csf.ahab.policy import in_file_order
from digsigd.csf.errors import CsfNameError
from digsigd.csf.finding import FileNeeded, Finder
from digsigd.csf.uri import KeyUri

# The header of a signature block: NXP cst, ahab_types.h.
_BLOCK_HEADER = 0x10


@dataclass(frozen=True, slots=True)
class Resolved:
    """A description with the names of the work directory, and the files that belong to these names.

    `description` has the offsets of the artifact. `runs` are those that cst gets, one for each container in the order
    of the file: [Authenticate Data] names the stub `cst_files.container(number)`, which begins with the container's
    header. `containers` are the offsets of header and signature block in the artifact, in bytes, and `containers_line`
    the line of each.

    `srk_table`, `source` and `certificate` are members: the table, the SRK's certificate, and that of the SGK, None
    without [Install Certificate]; with keys on a token `source` and `certificate` are None. `uris` are then those of
    the SRK and of the SGK. `artifact` is the number of the artifact, from 0. `client_names` are the client's names by
    the new names.
    """

    description: Description
    runs: tuple[Description, ...]
    files: tuple[FileNeeded, ...]
    srk_table: str
    srk_table_line: int
    source: str | None
    source_line: int
    source_index: int
    certificate: str | None
    certificate_line: int | None
    artifact: int
    containers: tuple[tuple[int, int], ...]
    containers_line: tuple[int, ...]
    client_names: dict[str, str]
    token: str | None = None
    uris: tuple[KeyUri, ...] = ()


def resolve(
    description: Description,
    *,
    members: Collection[str],
    artifacts: Mapping[str, int],
    repeated: Collection[str] = (),
    from_token: bool = False,
    identity: Callable[[str], object] | None = None,
    decrypts: Callable[[str, str, str | None], bool] | None = None,
) -> Resolved:
    """Find every file that a checked description names.

    The arguments are those of `digsigd.csf.resolve`; with `from_token` the `Source` and the `File` of
    [Install Certificate] are PKCS #11 URIs. Each certificate needs its private key: with an SGK, the SRK's key signs
    the certificate. Raises `CsfNameError`, `CsfKeyError`, `CsfPolicyError`, or `CsfSyntaxError` for an invalid URI.
    """
    finder = Finder(members, artifacts, repeated=repeated, from_token=from_token, identity=identity, decrypts=decrypts)
    srk, sgk = description.srk, description.certificate
    table = finder.table(srk.file, srk.file_place)
    source = finder.certificate(srk.source, srk.source_place, "Source")
    head: list[InstallSrk | InstallCertificate] = [dataclasses.replace(srk, file=cst_files.SRK_TABLE, source=source)]
    certificate = None
    if sgk is not None:
        certificate = finder.certificate(sgk.file, sgk.file_place)
        head.append(dataclasses.replace(sgk, file=certificate))
    artifact = _artifact(finder, description.data)
    data = in_file_order(description.data)
    return Resolved(
        description=Description(
            (description.header, *head, *(dataclasses.replace(one, file=artifact) for one in data))
        ),
        runs=tuple(Description((description.header, *head, _of_stub(one, number))) for number, one in enumerate(data)),
        files=tuple(finder.files),
        srk_table=table,
        srk_table_line=srk.file_place[0],
        source=finder.certificate_member(source),
        source_line=srk.source_place[0],
        source_index=srk.source_index,
        certificate=finder.certificate_member(certificate),
        certificate_line=None if sgk is None else sgk.file_place[0],
        artifact=finder.artifacts_named()[0],
        containers=tuple(one.offsets for one in data),
        containers_line=tuple(one.offsets_place[0] for one in data),
        client_names=finder.client_names,
        token=finder.token,
        uris=tuple(finder.uris),
    )


def _artifact(finder: Finder, data: Sequence[AuthenticateData]) -> str:
    """Return the new name of the artifact with all containers. Raises `CsfNameError` if one is not inside it."""
    found = ""
    for command in data:
        who = "[Authenticate Data]"
        ours, size = finder.artifact(command.file, command.file_place, f"{who} names", f"the {who} name")
        if found not in {"", ours}:
            raise CsfNameError(
                "the containers are in different files, but a request signs those of one file", *command.file_place
            )
        if command.block_offset + _BLOCK_HEADER > size:
            raise CsfNameError(
                f"the signature block is at {command.block_offset:#x}, but the artifact ends at {size:#x}",
                *command.offsets_place,
            )
        found = ours
    return found


def _of_stub(command: AuthenticateData, number: int) -> AuthenticateData:
    header, block = command.offsets
    return dataclasses.replace(command, file=cst_files.container(number), offsets=(0, block - header))
