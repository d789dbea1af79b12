"""Check that certificates, SRK table, chip and CSF description for AHAB match each other.

cst ends with 0 for most of what is refused here. The client names an SRK and certificates; the operator provides the
keys, and says which chip and which fuses a machine has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from digsigd import ahab, hab
from digsigd.ahab.build import SrkKey, key_of, write_data
from digsigd.ahab.errors import NotConfirmed
from digsigd.ahab.signature import check_signature
from digsigd.ahab.srk import ARRAY_TAG, RECORDS, TABLE_TAG, SrkArray, SrkData, SrkTable, data_hash, with_key
from digsigd.csf.ahab import Description
from digsigd.csf.errors import quoted
from digsigd.csf.members import CERTIFICATE
from digsigd.errors import BadTarball, Refused
from digsigd.signing.key_checks import certificate_of
from digsigd.signing.request import SigningRequest
from digsigd.signing.rules import MachineRules

# The beginning of the name of an SRK's certificate, as ahab_pki_tree.sh makes it.
_SRK_NUMBER = re.compile(r"^SRK[1-4]_")
# The hashes of fuse values by their length in bytes.
HASHES = {32: "sha256", 64: "sha512"}
# The hashes of signatures that cst makes and this host verifies, by the version of the table.
_HASHES = ("sha256", "sha384", "sha512")
_HASHES_V2 = (*_HASHES, "sha3-256", "sha3-384", "sha3-512")
UNKNOWN_CHIP = (
    "the chip is not known: only what holds for all chips was checked; send soctype, or the operator sets soc for the"
    " machine"
)


@dataclass(frozen=True, slots=True)
class Named:
    """Members of a tarball that a description names, with its lines: the SRK table, the SRK's certificate, an SGK's.

    With keys on a token, `source` and `certificate` are None.
    """

    table: str
    table_line: int
    source: str | None
    source_line: int
    certificate: str | None
    certificate_line: int | None


def chip_of(request: SigningRequest, rules: MachineRules, version: int) -> ahab.AhabChip | None:
    """Return the chip that a request for containers of a `version` is for; None if nothing says which.

    The request says it, or the operator does for the machine. Raises `Refused` for a chip that has no AHAB, and if the
    two say different ones.
    """
    # Of "mx95" and "mx95-a0" the longer one says more.
    name = max((one for one in (request.soctype, rules.soc) if one), key=len, default=None)
    if name is None:
        return None
    if request.soctype and rules.soc and not _same(request.soctype, rules.soc):
        raise Refused(
            f"the soctype is {request.soctype}, but machine {request.machine!r} has {rules.soc}",
            hint="leave soctype out, or name the machine of these boards",
        )
    try:
        return ahab.chip_with(name, version)
    except ahab.AhabError:
        raise Refused(
            f"the soctype is {name}, whose images have no AHAB containers",
            hint="send a CSF description for HAB, or the soctype of a chip with AHAB",
        ) from None


def _same(one: str, other: str) -> bool:
    """Return whether two names can mean one chip: "mx95" is all silicon of it."""
    return one == other or {one, other} in ({"mx95", "mx95-a0"}, {"mx95", "mx95-b0"})


def check_hab_chip(request: SigningRequest, rules: MachineRules) -> None:
    """Check that a request for HAB is not for a chip with AHAB. Raises `Refused`."""
    name = request.soctype or rules.soc
    if name is None:
        return
    with suppress(ahab.AhabError):
        chip = ahab.chip(name)
        raise Refused(
            f"{chip.title} boots AHAB containers, but the CSF description is for HAB",
            hint='begin the description with [Header] and Target = AHAB; or correct soctype or the machine\'s "soc"',
        )


def check_fuse_value(pinned: bytes | None, soc: str | None) -> str:
    """Return why a machine cannot have this fuse value, or an empty text: AHAB chips have 32 or 64 bytes."""
    if pinned is None or soc in (None, "mx95"):
        return ""
    with suppress(NotConfirmed, ahab.AhabError):
        chip = ahab.chip(soc)
        length = {name: size for size, name in HASHES.items()}[chip.fuse_hash]
        if len(pinned) != length:
            return f"the fuse value of {chip.title} has {length} bytes, not {len(pinned)}"
    return ""


def table_of(members: Mapping[str, bytes], named: Named) -> SrkTable | SrkArray:
    """Return the SRK table that a description names. Raises `Refused` or `BadTarball` if it is not a good one."""
    try:
        table = ahab.parse_table(members[named.table])
    except ahab.FormatError as error:
        others = ", ".join(sorted(name for name, _ in tables_of(members)))
        # Of any other file, the error would tell some bytes.
        is_one = members[named.table][:1] == bytes([TABLE_TAG]) or members[named.table][3:4] == bytes([ARRAY_TAG])
        if is_one and not others:
            raise BadTarball(f"the SRK table {named.table} in the key tarball is bad: {error}") from None
        raise _refused(
            named.table_line,
            f"{quoted(named.table)} is not an SRK table for AHAB{f', or damaged: {error}' if is_one else ''}",
            hint=f"SRK tables for AHAB in the key tarball: {others or 'none'}",
        ) from None
    for records in _records_of(table):
        if len({record.type for record in records}) != 1:
            raise BadTarball(
                f"the SRK table {named.table} in the key tarball has keys of several types, which boards refuse",
                hint="make it from four certificates of one type with srktool -a",
            )
    if isinstance(table, SrkArray) and len(table.tables) > 1:
        raise _refused(
            named.table_line,
            f"{quoted(named.table)} has a second SRK table, whose signatures cst cannot make here",
            hint="name an SRK table without ML-DSA keys",
        )
    record = _records_of(table)[0][0]
    if record.hash_name not in (_HASHES if isinstance(table, SrkTable) else _HASHES_V2):
        raise BadTarball(
            f"the SRK table {named.table} in the key tarball is for signatures with {record.hash_name}, which this host"
            " does not make for it",
            hint="make it again with srktool -s sha256, sha384 or sha512",
        )
    return table


def tables_of(members: Mapping[str, bytes]) -> Iterator[tuple[str, SrkTable | SrkArray]]:
    """Yield the SRK tables for AHAB of a tarball, with their names."""
    for name, data in members.items():
        if name.endswith(".bin") and len(data) < 1 << 16:
            with suppress(ahab.FormatError):
                yield name, ahab.parse_table(data)


def check_table(
    table: SrkTable | SrkArray,
    named: Named,
    description: Description,
    machine: str,
    pinned: bytes | None,
    chip: ahab.AhabChip | None,
) -> None:
    """Check a table against the version of the description, and against the pinned fuse value and the chip's hash.

    Raises `Refused` or `BadTarball`.
    """
    version = description.header.container_version
    if isinstance(table, SrkArray) != (version == 2):
        raise _refused(
            named.table_line,
            f"{quoted(named.table)} is for containers of version {2 if version == 0 else 0}, but Version ="
            f" {description.header.version[0]}.0 is for those of version {version}",
            hint="name the other table, or correct Version: 1.0 for i.MX 8, 8ULP, 91, 93, 95 A0, 2.0 for later chips",
        )
    if pinned is None:
        return
    name = HASHES.get(len(pinned), "sha256")
    wanted = "sha512" if version == 2 else name
    if chip is not None:
        with suppress(NotConfirmed):
            wanted = chip.fuse_hash
    if wanted != name:
        what = chip.title if chip is not None else "a chip with containers of version 2"
        raise Refused(
            f"the fuse value of machine {machine!r} is a {name.upper()}, but that of {what} is a {wanted.upper()}",
            hint="correct the soctype or Version, or name the machine of these boards",
        )
    value = table.hash(name)
    if value != pinned:
        raise BadTarball(
            f"the SRK table in the key tarball has the fuse value {value.hex()}, but machine {machine!r} has"
            f" {pinned.hex()}",
            hint="its boards would refuse images signed with it; check the key tarball and the pinned value",
        )


def check_certificates(
    table: SrkTable | SrkArray, named: Named, description: Description, members: Mapping[str, bytes]
) -> None:
    """Check that `Source` is the certificate of the SRK that is named, and whether it may have a certificate (SGK).

    What is on a token is not known yet. Raises `Refused` or `BadTarball`.
    """
    index = description.srk.source_index
    if named.source is not None:
        found = srk_of(table, members[named.source], named.source)
        if index not in found:
            raise _other_srk(table, named, members, index, found)
        _check_siblings(table, named, members, named.source)
    if description.certificate is None:
        return
    if not _records_of(table)[0][index].is_ca:
        raise _refused(
            named.certificate_line,
            f"SRK {index + 1} has no CA flag in the SRK table: boards accept no certificate that it signs",
            hint="leave out [Install Certificate], or use a PKI that was made with CA keys",
        )
    if named.certificate is not None:
        try:
            key_of(members[named.certificate])
        except ahab.AhabError as error:
            raise BadTarball(f"{named.certificate} in the key tarball: {error}") from None


def certificate_notes(named: Named, members: Mapping[str, bytes], now: datetime) -> list[str]:
    """Return remarks on the certificates that a description names: a container has neither their names nor dates.

    Those on a token are not known. Raises `BadTarball` for a damaged one.
    """
    roles = ((named.source, "the certificate of the SRK"), (named.certificate, "the certificate (SGK)"))
    return [
        note
        for member, what in roles
        if member is not None
        for note in hab.general_notes_on(certificate_of(members, member), what, now)
    ]


def _check_siblings(table: SrkTable | SrkArray, named: Named, members: Mapping[str, bytes], source: str) -> None:
    """Check that the other SRKs of the same PKI are in the table: cst does not see if their part of it is damaged.

    The signature of the one holds all the same, but no board has the hash of such a table. Raises `BadTarball`.
    """
    folder, slash, base = source.rpartition("/")
    for number in range(1, RECORDS + 1):
        name = f"{folder}{slash}{_SRK_NUMBER.sub(f'SRK{number}_', base)}"
        if name in members and not srk_of(table, members[name], name):
            raise BadTarball(
                f"the SRK table {named.table} in the key tarball does not have the key of {name}: it is damaged, or of"
                " another PKI",
                hint="make it again from the four SRK certificates with srktool, and compare its hash with the fuses",
            )


def check_chip(chip: ahab.AhabChip | None, table: SrkTable | SrkArray, description: Description) -> None:
    """Check what a chip accepts, as far as that is known. Raises `Refused`."""
    if chip is None:
        return
    version = description.header.container_version
    if version not in chip.versions:
        raise Refused(
            f"{chip.title} has no containers of version {version}",
            hint=chip.about_versions,
            line=description.header.place[0],
        )
    record = _records_of(table)[0][0]
    rule = chip.allows(record.algorithm)
    if isinstance(rule, ahab.Refused):
        raise Refused(f"{chip.title} does not accept {record.name} keys: {rule.why}", line=description.srk.place[0])
    if description.certificate is not None and isinstance(chip.sgk, ahab.Refused):
        raise _refused(
            description.certificate.place[0], f"{chip.title} does not accept [Install Certificate]: {chip.sgk.why}"
        )


def srk_of(table: SrkTable | SrkArray, certificate: bytes, name: str) -> list[int]:
    """Return the indexes, from 0, of the SRKs with the key of a certificate. Raises `BadTarball` if it is damaged.

    `name` is that of the certificate in the tarball.
    """
    records = _records_of(table)[0]
    try:
        key = key_of(certificate, "sha256")
    except ahab.AhabError as error:
        raise BadTarball(f"{name} in the key tarball: {error}") from None
    if isinstance(table, SrkTable):
        return [
            index
            for index, record in enumerate(records)
            if (record.algorithm, record.size_code, record.crypto) == (key.algorithm, key.size_code, key.parts)
        ]
    return [
        index
        for index, record in enumerate(records)
        if (record.algorithm, record.size_code) == (key.algorithm, key.size_code)
        and record.data_hash == _data_hash(record.hash_name, key, index)
    ]


def signer_of(container: ahab.Container, signed: bytes) -> int | None:
    """Return the index, from 0, of the SRK of a container's table that made its signature; None if none of them did.

    `signed` are the bytes that the container's signature covers. With a certificate, it is the one that signed that.
    """
    block = container.block
    if block is None or block.srk is None or not block.signatures:
        return None
    certificate = block.certificate
    text, signature = (signed, block.signatures[0]) if certificate is None else (
        certificate.signed, certificate.signatures[0]
    )  # fmt: skip
    for index in range(RECORDS):
        with suppress(ahab.AhabError):
            check_signature(_record_with_key(block.srk, index), signature, text, "signature", "")
            return index
    return None


def _record_with_key(table: SrkTable | SrkArray, index: int) -> ahab.SrkRecord:
    """Return an SRK with its key. In version 2 the key is that of the SRK data, if it is that of this record."""
    if isinstance(table, SrkTable):
        return table.records[index]
    data = table.tables[0].data
    raw = data.raw[:4] + bytes([index]) + data.raw[5:]
    return with_key(table.tables[0].records[index], SrkData(index, data.key, raw))


def fuse_value_of(table: SrkTable | SrkArray, chip: ahab.AhabChip | None, pinned: bytes | None) -> bytes | None:
    """Return the fuse value of the boards, 32 or 64 bytes; None if it is not known which of the two they have."""
    if pinned is not None:
        return table.hash(HASHES.get(len(pinned), "sha256"))
    if chip is None:
        return table.hash("sha512") if isinstance(table, SrkArray) else None
    try:
        return ahab.fuse_value(table, chip)
    except ahab.AhabError:
        return None


def _other_srk(
    table: SrkTable | SrkArray, named: Named, members: Mapping[str, bytes], index: int, found: list[int]
) -> Refused | BadTarball:
    source = named.source or ""
    if found:
        return _refused(
            named.source_line,
            f"Source index = {index} is SRK {index + 1}, but {quoted(source)} is the certificate of SRK {found[0] + 1}",
            hint=f"use Source index = {found[0]}, or name the certificate of SRK {index + 1}",
        )
    for name in members:
        with suppress(BadTarball):
            if CERTIFICATE.fullmatch(name) and index in srk_of(table, members[name], name):
                return _refused(
                    named.source_line,
                    f"{quoted(source)} is not the certificate of an SRK of {quoted(named.table)}",
                    hint=f"that of SRK {index + 1} is {quoted(name)}",
                )
    for name, other in tables_of(members):
        if name != named.table and type(other) is type(table) and srk_of(other, members[source], source):
            return _refused(
                named.source_line,
                f"{quoted(source)} is not the certificate of an SRK of {quoted(named.table)}, but of {quoted(name)}",
                hint="name an SRK table and certificates of the same PKI",
            )
    return BadTarball(
        f"the certificate {quoted(source)} is not that of an SRK of the table {quoted(named.table)}",
        hint="the operator of the signing host must correct the machine's key tarball",
    )


def _records_of(table: SrkTable | SrkArray) -> list[tuple[ahab.SrkRecord, ...]]:
    return [one.records for one in table.tables] if isinstance(table, SrkArray) else [table.records]


def _data_hash(name: str, key: SrkKey, index: int) -> bytes:
    return data_hash(name, write_data(key, index))


def _refused(line: int | None, what: str, *, hint: str = "") -> Refused:
    return Refused(f"csf: line {line}: {what}", line=line, hint=hint)
