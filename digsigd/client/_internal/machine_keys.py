"""What a signing host tells of a machine's keys: `GET /machines/{machine}`, docs/api.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from digsigd.client._internal.errors import ClientSettingsError


@dataclass(frozen=True, slots=True)
class SrkTableInfo:
    """An SRK table: the name of its file, its bytes, and the 32 bytes in the fuses of the boards that it is for."""

    name: str
    fuse_value: bytes
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """A certificate: the name of its file, whose it is (`subject`), and until when it is valid (UTC).

    `srk` counts from 1: the key of the first SRK table that signed it, or that is its own (`is_srk`); None for neither.
    `sha256` is that of its DER; None where the host does not tell it.
    """

    name: str
    subject: str
    srk: int | None
    is_srk: bool
    not_after: datetime
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class MachineKeys:
    """What is public of a machine's keys, and with what the host signs for it (`versions` of cst, `backends`).

    `tarball_sha256` is that of the machine's key tarball, in hexadecimal.
    """

    machine: str
    tarball_sha256: str
    srk_tables: tuple[SrkTableInfo, ...]
    certificates: tuple[CertificateInfo, ...]
    versions: tuple[str, ...]
    backends: tuple[str, ...]


def newest_cst(keys: MachineKeys | None) -> str:
    """Return the newest version of cst that the host has. Raise `ClientSettingsError` where that is not known."""
    versions = keys.versions if keys is not None else ()
    if not versions:
        raise ClientSettingsError("which version of cst?", hint="say --cst 3.4.1, or set DIGSIGN_CST")
    return max(versions, key=lambda text: [int(part) if part.isdigit() else -1 for part in text.split(".")])
