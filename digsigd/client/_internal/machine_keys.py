"""The keys of a machine as a signing host reports them: `GET /machines/{machine}`, docs/api.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from digsigd.client._internal.errors import ClientSettingsError


@dataclass(frozen=True, slots=True)
class SrkTableInfo:
    """An SRK table: the name of its file, the fuse value (32 bytes), and its bytes."""

    name: str
    fuse_value: bytes
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """A certificate: the name of its file, its subject, and the end of its validity (UTC).

    `srk` counts from 1: the SRK of the first SRK table that signed it or, with `is_srk`, that it certifies; else None.
    `sha256` is the digest of its DER; None if the host does not report it.
    """

    name: str
    subject: str
    srk: int | None
    is_srk: bool
    not_after: datetime
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class MachineKeys:
    """The public part of a machine's keys, and the `versions` of cst and `backends` that the host signs with.

    `tarball_sha256` is the digest of the machine's key tarball, in hexadecimal.
    """

    machine: str
    tarball_sha256: str
    srk_tables: tuple[SrkTableInfo, ...]
    certificates: tuple[CertificateInfo, ...]
    versions: tuple[str, ...]
    backends: tuple[str, ...]


def newest_cst(keys: MachineKeys | None) -> str:
    """Return the newest version of cst that the host has. Raises `ClientSettingsError` if it is not known."""
    versions = keys.versions if keys is not None else ()
    if not versions:
        raise ClientSettingsError("no version of cst is given", hint="set --cst 3.4.1 or DIGSIGN_CST")
    return max(versions, key=lambda text: [int(part) if part.isdigit() else -1 for part in text.split(".")])
