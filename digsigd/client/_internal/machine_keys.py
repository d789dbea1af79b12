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
class AhabTableInfo:
    """An SRK table for AHAB: the name of its file, and its bytes.

    `version` is 1 for containers of version 0 and 2 for containers of version 2. `sha256` and `sha512` are the hashes
    of the table, one of which is the fuse value: it depends on the chip. `keys` are the kinds of its four SRKs.
    """

    name: str
    version: int
    sha256: bytes
    sha512: bytes
    keys: tuple[str, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """A certificate: the name of its file, its subject, and the end of its validity (UTC).

    `srk` counts from 1: the SRK that signed it or, with `is_srk`, that it certifies, in the tables named `tables`; None
    if it belongs to no SRK. `sha256` is the digest of its DER, `key` the kind of its key. `sha256` and `tables` are
    None and `key` is empty if the host does not report them; then `srk` is that of the first table for HAB.
    """

    name: str
    subject: str
    srk: int | None
    is_srk: bool
    not_after: datetime
    sha256: bytes | None = None
    tables: tuple[str, ...] | None = None
    key: str = ""

    def is_in(self, table: str) -> bool:
        """Return whether `srk` is its SRK in the table with this name, as far as the host says."""
        return self.tables is None or table in self.tables


@dataclass(frozen=True, slots=True)
class MachineKeys:
    """The public part of a machine's keys, and the `versions` of cst and `backends` that the host signs with.

    `tarball_sha256` is the digest of the machine's key tarball, in hexadecimal. `srk_tables` are the SRK tables for
    HAB, `ahab_tables` those for AHAB.
    """

    machine: str
    tarball_sha256: str
    srk_tables: tuple[SrkTableInfo, ...]
    certificates: tuple[CertificateInfo, ...]
    versions: tuple[str, ...]
    backends: tuple[str, ...]
    ahab_tables: tuple[AhabTableInfo, ...] = ()


def newest_cst(keys: MachineKeys | None) -> str:
    """Return the newest version of cst that the host has. Raises `ClientSettingsError` if it is not known."""
    versions = keys.versions if keys is not None else ()
    if not versions:
        raise ClientSettingsError("no version of cst is given", hint="set --cst 3.4.1 or DIGSIGN_CST")
    return max(versions, key=lambda text: [int(part) if part.isdigit() else -1 for part in text.split(".")])
