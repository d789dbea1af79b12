"""Describe a key tarball: its files, tables, certificates and their SRKs, never a private key or pass phrase."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from digsigd.cli.inspect.certificate import Seen, read_certificate
from digsigd.cli.inspect.facts import Fact, Hex, Part, Table
from digsigd.cli.inspect.keys import (
    CERTIFICATES,
    LARGEST_PEM,
    MOST_LISTED,
    certificate_in,
    describe_table,
    pem_objects,
    secret_kind,
)

if TYPE_CHECKING:
    from digsigd.hab import SrkTable

# Limit for the unpacked size in bytes. Real tarballs have some 100 KiB.
MOST_UNPACKED = 16 << 20
# A machine has one, and perhaps some older ones.
_MOST_TABLES = 16


def describe_tarball(data: bytes) -> Part:
    """Return a description of a key tarball; of a damaged one, what can be read."""
    from digsigd.errors import BadTarball
    from digsigd.keys.tarball import read_tarball

    part = Part("key-tarball", f"tarball, {len(data)} bytes")
    try:
        tarball = read_tarball(data, max_bytes=MOST_UNPACKED)
        members: Mapping[str, bytes] = tarball.members
        part.facts = {"sha256": tarball.sha256, "members": len(members)}
    except BadTarball as error:
        part.damage.append(error.for_client())
        members = _whole_members(data)
        part.facts = {"members_before_the_damage": len(members)}
    _describe_members(part, members)
    return part


def _whole_members(data: bytes) -> dict[str, bytes]:
    """Return the files before the damage."""
    from digsigd.errors import BadTarball
    from digsigd.keys.tar import entries

    tar = data[:MOST_UNPACKED]
    if data[:2] == b"\x1f\x8b":
        # Small steps, so that the data before a damaged byte are kept.
        stream, tar = zlib.decompressobj(wbits=31), b""
        try:
            for start in range(0, len(data), 64):
                tar += stream.decompress(data[start : start + 64], MOST_UNPACKED - len(tar) + 1)
                if len(tar) > MOST_UNPACKED or stream.eof:
                    break
        except zlib.error:
            pass
    members: dict[str, bytes] = {}
    try:
        for entry in entries(tar):
            if entry.info.isreg() and len(members) < MOST_LISTED:
                members.setdefault(entry.name, tar[entry.start : entry.end])
    except BadTarball:
        pass
    return members


def _describe_members(part: Part, members: Mapping[str, bytes]) -> None:
    from digsigd.cli.inspect import ahab_tarball

    tables, certificates = tables_in(members), _certificates(members)
    of_ahab = ahab_tarball.tables_in(members)
    kinds = {name: _kind(name, data) for name, data in sorted(members.items())}
    kinds.update(dict.fromkeys(certificates, "certificate"))
    kinds.update(dict.fromkeys(tables, "SRK table"))
    kinds.update((name, ahab_tarball.kind_of(table)) for name, table in of_ahab.items())
    keys = [name for name, kind in kinds.items() if "private key" in kind]
    rows = [(name, kind, len(members[name])) for name, kind in kinds.items() if kind != "certificate"]
    values = [(name, kinds[name], one.fuse_value.hex()) for name, one in tables.items()]
    values += ahab_tarball.fuse_values(of_ahab)
    known = {value for _, _, value in values}
    for name, kind in kinds.items():
        if kind == "fuse file":
            value = members[name].hex()
            if value not in known:
                part.notes.append(f"the fuse value in {name} matches no SRK table in this tarball")
            values.append((name, kind, value))
    chained = ahab_tarball.places(certificates, members, of_ahab)
    part.tables = [
        Table("files beside certificates", ("name", "kind", "bytes"), rows[:MOST_LISTED]),
        Table("fuse values", ("of", "kind", "fuse value"), values),
        _chained(certificates, tables, chained),
    ]
    if len(rows) > MOST_LISTED:
        part.notes.append(f"{len(rows) - MOST_LISTED} more files are not listed")
    for name in kinds:
        if name.endswith("_table.bin") and name not in tables and name not in of_ahab:
            part.damage += [f"{name}: {error}" for error in describe_table(members[name]).damage]
        elif name.endswith(("_crt.pem", "_crt.der")) and name not in certificates:
            part.damage.append(f"{name} is not a readable certificate")
    for name, certificate in certificates.items():
        part.notes += certificate.outdated(name)
        if not _base(name).startswith("CA") and not any(_base(key) == _base(name) for key in keys):
            part.notes.append(f"the private key for {name} is missing")
    part.notes += [
        f"{name} is the private key of the CA: no signing host needs it"
        for name in keys
        if _base(name).startswith("CA")
    ]
    if any(kind.endswith("in the clear") for kind in kinds.values()):
        part.notes.append("private keys are in the clear")
    if not tables and not of_ahab:
        part.notes.append("no SRK table found: a signing host cannot use this tarball")


def _base(name: str) -> str:
    """Return the common part of the names of a key and its certificate: cst derives one from the other."""
    return re.sub(r"_(key|crt)(\.\w+)$", r"\2", name.rpartition("/")[2])


def tables_in(members: Mapping[str, bytes]) -> dict[str, SrkTable]:
    """Return the SRK tables among these files, by name."""
    from digsigd.hab import FormatError, SrkTable

    found: dict[str, SrkTable] = {}
    for name, data in sorted(members.items()):
        if data[:1] == b"\xd7" and len(data) < 1 << 16 and len(found) < _MOST_TABLES:
            try:
                found[name] = SrkTable.parse(data)
            except FormatError:
                continue
    return found


def _certificates(members: Mapping[str, bytes]) -> dict[str, Seen]:
    from digsigd.hab.errors import FormatError

    found: dict[str, Seen] = {}
    for name, data in sorted(members.items()):
        if len(data) > LARGEST_PEM or len(found) == MOST_LISTED:
            continue
        # openssl writes text before the PEM.
        text = next((text for label, _, text in pem_objects(data, 4) if label in CERTIFICATES), None)
        der = certificate_in(text) if text is not None else data if data[:1] == b"\x30" else None
        try:
            if der is not None:
                found[name] = read_certificate(der)
        except FormatError:
            continue
    return found


def _chained(certificates: Mapping[str, Seen], tables: Mapping[str, SrkTable], of_ahab: Mapping[str, str]) -> Table:
    rows: list[tuple[Fact, ...]] = [
        (name, one.subject, one.kind, Hex(one.serial), one.not_after, of_ahab.get(name) or _place(one, tables))
        for name, one in certificates.items()
    ]
    return Table("certificates", ("name", "subject", "key", "serial", "not after", "in the chain"), rows)


def _place(certificate: Seen, tables: Mapping[str, SrkTable]) -> str:
    for name, table in tables.items():
        which = f" of {name}" if len(tables) > 1 else ""
        itself, signer = certificate.place(table)
        if itself:
            return f"SRK {itself}{which}"
        if signer:
            return f"signed by SRK {signer}{which}"
    return "not signed by an SRK of the table"


def _kind(name: str, data: bytes) -> str:
    base = name.rpartition("/")[2]
    if found := pem_objects(data, 1):
        label, _, text = found[0]
        return secret_kind(label, text)
    if base == "key_pass.txt":
        return "pass phrase"
    if base.endswith("_key.der") and data[:1] == b"\x30":
        # PKCS #8: an EncryptedPrivateKeyInfo begins with a SEQUENCE, a PrivateKeyInfo with its version.
        inner = data[2 + (data[1] & 0x7F if data[1] & 0x80 else 0) :][:1] if len(data) > 1 else b""
        return "private key, encrypted" if inner == b"\x30" else "private key, in the clear"
    if len(data) in (32, 64) and base.endswith(".bin"):
        return "fuse file"
    return "other"
