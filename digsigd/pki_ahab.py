"""Make an AHAB public key infrastructure in the layout of NXP's scripts: CA, SRKs, SGKs, SRK tables.

File names, subjects and extensions are those of ahab_pki_tree.sh in the Code Signing Tool (CST User Guide, "Generating
AHAB Keys and Certificates"), for example `crts/SRK1_sha384_secp384r1_v3_usr_crt.pem`. As for HAB4, serial numbers start
at a random number, and keys are encrypted with AES-256.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from digsigd.ahab import build_srk_array, build_srk_table, parse_table
from digsigd.pki import CURVES, PASS_PHRASE_FILE, Digest, Making, Protection, Validity

AhabKind: TypeAlias = Literal[
    "p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096", "rsa-pss2048", "rsa-pss3072", "rsa-pss4096"
]
AHAB_KINDS: tuple[AhabKind, ...] = get_args(AhabKind)
SRKS = 4  # AHAB tables have exactly four records: cst, ahab_types.h
# The versions of containers: 0 has an SRK table, 2 (i.MX 95 B0, 94, 952) an SRK table array.
VERSIONS = (0, 2)
_TABLES = {0: "crts/SRK_1_2_3_4_table.bin", 2: "crts/SRK_1_2_3_4_v2_table.bin"}
# Of the strength of the key. The signing key's hash is that of its certificate's signature, as srktool takes it.
_DIGESTS: dict[str, tuple[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    "p384": ("sha384", hashes.SHA384),
    "p521": ("sha512", hashes.SHA512),
    "4096": ("sha512", hashes.SHA512),
}
_WEAKER: tuple[str, type[hashes.SHA256]] = ("sha256", hashes.SHA256)


def is_pss(kind: AhabKind) -> bool:
    """Say whether keys of this kind sign with RSA-PSS."""
    return kind.startswith("rsa-pss")


def ahab_label(kind: AhabKind) -> str:
    """Return the part of a file name that stands for the kind of key. RSA and RSA-PSS have the same."""
    name, _ = _digest(kind)
    size = kind.removeprefix("rsa-pss").removeprefix("rsa")
    return f"{name}_{CURVES[kind]().name}_v3" if kind in CURVES else f"{name}_{size}_65537_v3"


def _digest(kind: AhabKind) -> tuple[str, type[Digest]]:
    return _DIGESTS.get(kind) or _DIGESTS.get(kind[-4:]) or _WEAKER


@dataclass(frozen=True)
class AhabPki:
    """A generated PKI: its files by their path in the folder and in the key tarball. Its repr shows no keys.

    `files` are the files that a signing host needs. `ca_files` are the CA's key and certificate; keep the key offline.
    With `sgk` each SRK, numbered from 1, has signed the certificate of one SGK, and signs no containers itself.
    `tables` has the SRK table by the version of the containers that it is for. `next_serial` is the first unused serial
    number.
    """

    files: dict[str, bytes] = field(repr=False)
    ca_files: dict[str, bytes] = field(repr=False)
    kind: AhabKind
    sgk: bool
    tables: dict[int, bytes] = field(repr=False)
    next_serial: int

    @classmethod
    def make(
        cls,
        kind: AhabKind,
        validity: Validity,
        protection: Protection,
        *,
        sgk: bool = False,
        prefix: str = "",
        ca_kind: AhabKind | None = None,
        versions: Collection[int] = VERSIONS,
        on_key: Callable[[str], None] | None = None,
    ) -> AhabPki:
        """Generate all keys and certificates. `on_key` is called with each key's name before it is made.

        `prefix` is put before the names in the certificates, but not before file names. Tables are made for these
        `versions` of containers. Blocks: an RSA key of 4096 bits takes seconds.
        """
        making = Making(validity, protection, prefix, on_key)
        _, digest = _digest(kind)
        # A CA with an RSA-PSS key would have to sign with it; NXP's scripts sign SRKs of both kinds with RSA.
        authority = ca_kind or kind
        ca = making.issue(f"CA1_{ahab_label(authority)}_ca", _plain(authority), None, ca=True, digest=digest())
        ca_files, making.files = making.files, {}
        certificates: list[bytes] = []
        for number in range(1, SRKS + 1):
            name = f"SRK{number}_{ahab_label(kind)}_{'ca' if sgk else 'usr'}"
            srk = making.issue(name, _plain(kind), ca, ca=sgk, digest=digest(), pss=is_pss(kind))
            certificates.append(srk.certificate.public_bytes(Encoding.DER))
            if sgk:
                below = f"SGK{number}_1_{ahab_label(kind)}_usr"
                making.issue(below, _plain(kind), srk, ca=False, digest=digest(), pss=is_pss(kind))
        tables = {version: _table(version, certificates) for version in versions}
        for version, table in tables.items():
            making.files[_TABLES[version]] = table
        if protection.pass_phrase is not None:
            making.files[PASS_PHRASE_FILE] = f"{protection.pass_phrase}\n{protection.pass_phrase}\n".encode()
        return cls(making.files, ca_files, kind, sgk, tables, making.serial)

    def table_name(self, version: int = 0) -> str:
        """Return the path of the SRK table for containers of this version."""
        return _TABLES[version]

    def fuse_value(self, hash_name: str, version: int = 0) -> bytes:
        """Return what boards that hash their SRK table with `hash_name` have in their SRK fuses."""
        return parse_table(self.tables[version]).hash(hash_name)

    def fuse_files(self, hash_names: Collection[str]) -> dict[str, bytes]:
        """Return fuse files as srktool writes them, by their paths, for chips that use one of these hashes."""
        found = {}
        for name in hash_names:
            if 0 in self.tables:
                found[f"crts/SRK_1_2_3_4_fuse_{name}.bin"] = self.fuse_value(name)
            # All chips with containers of version 2 use SHA-512.
            if 2 in self.tables and name == "sha512":
                found["crts/SRK_1_2_3_4_v2_fuse.bin"] = self.fuse_value(name, 2)
        return found


def der_files(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the PEM files of a PKI once more as DER, as NXP's scripts put them beside. Keys stay encrypted."""
    return {
        f"{name.removesuffix('.pem')}.der": base64.b64decode(b"".join(data.splitlines()[1:-1]))
        for name, data in files.items()
        if name.endswith(".pem")
    }


def _plain(kind: AhabKind) -> str:
    return kind.replace("rsa-pss", "rsa")


def _table(version: int, certificates: list[bytes]) -> bytes:
    return build_srk_table(certificates) if version == 0 else build_srk_array(certificates)
