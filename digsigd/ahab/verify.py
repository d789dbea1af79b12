"""Verifies a signed container of AHAB as the enclave of a board does, on the file's own bytes.

The checks and their order: U-Boot, arch/arm/mach-imx/ele_ahab.c, by what its indication codes are for. What a host can
not know is what the fuses have: which SRKs are revoked, and the least versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from digsigd.ahab.chips import AhabChip, Refused, Unconfirmed
from digsigd.ahab.errors import FormatError, NotConfirmed, VerificationError
from digsigd.ahab.find import find
from digsigd.ahab.images import Digest, check_images, hashing
from digsigd.ahab.model import Buffer, Certificate, Container, ImageEntry, SignatureBlock, SrkSet, Tag
from digsigd.ahab.read import parse
from digsigd.ahab.signature import check_signature
from digsigd.ahab.splice import check_unchanged
from digsigd.ahab.srk import DILITHIUM, HASHES_V0, ML_DSA, SrkArray, SrkRecord, SrkTable, TableV2, parse_table

_SETS = ("none, so it is not signed", "NXP's", "the OEM's", "3, which does not exist")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified. `srk` counts from 1, `notes` are remarks that are not a reason to refuse.

    `fuse_values` are those of the (first) table by the hash, `pqc_fuse_value` is that of the second one. `srk_name` is
    the kind of the SRK, `key_name` that of the key that signs the container: the certificate's, if there is one.
    `encrypted` are the numbers of images whose inside only a board can prove. `bytes_covered` are those of header and
    images.
    """

    container: Container
    srk: int
    fuse_values: Mapping[str, bytes]
    pqc_fuse_value: bytes | None
    srk_name: str
    key_name: str
    certificate: bool
    images: tuple[ImageEntry, ...]
    encrypted: tuple[int, ...]
    notes: tuple[str, ...]
    bytes_covered: int

    def __str__(self) -> str:
        via = f" -> a certificate for {self.key_name}" if self.certificate else ""
        images = "1 image" if len(self.images) == 1 else f"{len(self.images)} images"
        return (
            f"SRK {self.srk} ({self.srk_name}) of the table with SHA-256 {self.fuse_values['sha256'].hex()}{via} -> the"
            f" container at {self.container.offset:#x} and {images}, {self.bytes_covered} bytes"
        )


def verify(
    data: Buffer,
    offset: int = 0,
    *,
    chip: AhabChip | None = None,
    fuse_value: bytes | None = None,
    pqc_fuse_value: bytes | None = None,
    srk_table: bytes | None = None,
    srk_index: int | None = None,
    srk_set: SrkSet = SrkSet.OEM,
    digest: Digest | None = None,
    containers: Sequence[Container] | None = None,
    original: Buffer | None = None,
) -> Verified:
    """Verify the container whose header is at `offset` of the file `data`, and its images.

    `fuse_value` are the 32 (SHA-256) or 64 bytes (SHA-512) of the boards' fuses, `pqc_fuse_value` those of the second
    table; without a chip, the length says which hash it is. `srk_table` is the table as srktool wrote it, `srk_index`
    the SRK from 0 that must have signed. `srk_set` is whose keys they must be. `digest` returns the hash of a part of
    the file, if it is known from elsewhere; else `data` is hashed. `containers` are those of the file, if they are
    known already. `original` is the file before it was signed: nothing but this container may have changed.

    Raises `FormatError` for bytes that are not a container, `VerificationError` for one that a board refuses.
    """
    container = parse(data, offset)
    notes: list[str] = []
    block, srk = _check_header(container, chip, srk_set)
    tables = _check_tables(srk, srk_table)
    values, pqc = _check_fuses(srk, chip, fuse_value, pqc_fuse_value, notes)
    records = _check_index(container, tables, srk_index)
    signers = _check_certificate(block.certificate, records, notes)
    _check_algorithms(container, records, signers, notes)
    _check_rules(chip, records, block.certificate, notes)
    signed = data[offset : offset + container.signed_length]
    for number, (signer, signature) in enumerate(zip(signers, block.signatures, strict=True), 1):
        which = f" {number}" if len(signers) > 1 else ""
        check_signature(signer, signature, signed, "signature", f"signature{which} of the container at {offset:#x}")
    known = containers if containers is not None else find(data)
    nxp = srk_set == SrkSet.NXP
    encrypted, covered = check_images(container, len(data), known, digest or hashing(data), has_blob=not nxp)
    if encrypted:
        notes.append(_about_encrypted(block, encrypted))
    elif block.blob is not None:
        notes.append("it has a blob, though no image is encrypted: what is in it is not signed")
    if original is not None:
        check_unchanged(original, data, container)
    return Verified(
        container=container,
        srk=container.srk_index + 1,
        fuse_values=values,
        pqc_fuse_value=pqc,
        srk_name=records[0].name,
        key_name=signers[0].name,
        certificate=block.certificate is not None,
        images=container.images,
        encrypted=encrypted,
        notes=tuple(notes),
        bytes_covered=container.signed_length + covered,
    )


def _check_header(
    container: Container, chip: AhabChip | None, srk_set: SrkSet
) -> tuple[SignatureBlock, SrkTable | SrkArray]:
    """Check version, tag, SRK set and what is in the signature block. Return the block, and its SRKs."""
    at = f"the container at {container.offset:#x}"
    if container.tag != Tag.CONTAINER and not (container.tag == Tag.V2X and srk_set == SrkSet.NXP):
        raise VerificationError("tag", f"{at} has the tag {container.tag:#x}, not {Tag.CONTAINER:#x}")
    if chip is not None and container.version not in chip.versions:
        raise VerificationError(
            "version", f"{at} has the version {container.version}, which {chip.title} does not have",
            hint=chip.about_versions,
        )  # fmt: skip
    if container.srk_set != srk_set:
        raise VerificationError(
            "srk-set", f"{at} has the SRK set {_SETS[container.srk_set]}; it must be {_SETS[srk_set]}"
        )
    block = container.block
    if block is None or block.srk is None or not block.signatures:
        raise VerificationError("signature", f"{at} has no SRK table or no signature, although its header names an SRK")
    expected = 1 if container.version == 2 else 0
    if block.version != expected:
        raise VerificationError(
            "version", f"the signature block of {at} has the version {block.version}, not {expected}"
        )
    for place, padding in block.padding:
        if any(padding):
            raise VerificationError(
                "padding", f"the padding of {at} at {place:#x} has the bytes {padding.hex()}, not zeros"
            )
    if container.revoke_mask >> container.srk_index & 1:
        raise VerificationError(
            "revoked",
            f"{at} is signed with SRK {container.srk_index + 1}, and revokes it (mask {container.revoke_mask:#x})",
        )
    return block, block.srk


def _check_tables(srk: SrkTable | SrkArray, srk_table: bytes | None) -> tuple[SrkTable | TableV2, ...]:
    """Check that each table has keys of one type, and that they are the expected ones. Return the tables."""
    tables: tuple[SrkTable | TableV2, ...] = srk.tables if isinstance(srk, SrkArray) else (srk,)
    for table in tables:
        if len({record.type for record in table.records}) != 1:
            raise VerificationError("srk-table", "the four records of the SRK table are not of one type, hash and flag")
    if srk_table is not None:
        given = parse_table(srk_table)
        expected = given.tables if isinstance(given, SrkArray) else (given,)
        # (Tables of the two versions differ in their fourth byte.)
        if [one.raw for one in expected] != [one.raw for one in tables]:
            raise VerificationError("srk-table", "the container's SRK table is not the expected one")
    return tables


def _check_fuses(
    srk: SrkTable | SrkArray,
    chip: AhabChip | None,
    fuse_value: bytes | None,
    pqc_fuse_value: bytes | None,
    notes: list[str],
) -> tuple[dict[str, bytes], bytes | None]:
    """Return the fuse values of the first table, and that of the second one, after comparing them with the expected."""
    values = {name: srk.hash(name) for name in ("sha256", "sha512")}
    second = srk.tables[1].hash("sha512") if isinstance(srk, SrkArray) and len(srk.tables) > 1 else None
    if fuse_value is not None:
        _compare(values, fuse_value, _fuse_hash(srk, chip, fuse_value), "SRK table")
    if pqc_fuse_value is not None:
        if second is None:
            raise VerificationError("fuse-value", "the boards have a second fuse value, the container no second table")
        _compare({"sha512": second}, pqc_fuse_value, "sha512", "second SRK table")
    elif second is not None and fuse_value is not None:
        notes.append("the fuse value of the second SRK table was not compared: it was not given")
    return values, second


def _fuse_hash(srk: SrkTable | SrkArray, chip: AhabChip | None, fuse_value: bytes) -> str:
    """Return the hash of a fuse value: by the chip, else by its length; arrays have SHA-512 on all chips."""
    if chip is not None:
        try:
            return chip.fuse_hash
        except NotConfirmed:
            pass
    return "sha512" if isinstance(srk, SrkArray) or len(fuse_value) == 64 else "sha256"


def _compare(values: Mapping[str, bytes], expected: bytes, name: str, what: str) -> None:
    if len(expected) != len(values[name]):
        raise VerificationError(
            "fuse-value",
            f"the fuse value that was given has {len(expected)} bytes, but the boards have a {name} of"
            f" {len(values[name])} bytes",
        )
    if values[name] != expected:
        raise VerificationError(
            "fuse-value",
            f"the {name} of the {what} is {values[name].hex()}, but the boards have {expected.hex()}",
            hint="A board answers this with 0xFA. Another -s of srktool is another table, another -d another hash.",
        )


def _check_index(
    container: Container, tables: Sequence[SrkTable | TableV2], srk_index: int | None
) -> tuple[SrkRecord, ...]:
    """Return the SRKs that the index names, one of each table."""
    index = container.srk_index
    if srk_index is not None and index != srk_index:
        raise VerificationError("srk-index", f"the container is for SRK {index + 1}, not {srk_index + 1}")
    found: list[SrkRecord] = []
    for table in tables:
        if isinstance(table, SrkTable):
            found.append(table.records[index])
            continue
        if table.data.number != index:
            raise VerificationError(
                "srk-index", f"the SRK data are for record {table.data.number}, but the container is for {index}"
            )
        try:
            found.append(table.used)
        except FormatError as error:
            raise VerificationError("srk-data", error.what) from None
    return tuple(found)


def _check_certificate(
    certificate: Certificate | None, srks: tuple[SrkRecord, ...], notes: list[str]
) -> tuple[SrkRecord, ...]:
    """Return the keys that sign the container: the SRKs, or those of the certificate that the SRKs have signed."""
    if certificate is None:
        if any(srk.is_ca for srk in srks):
            notes.append(
                "the SRK has the flag CA and signs the container itself; no source says whether boards accept that"
            )
        return srks
    if certificate.permissions ^ certificate.inverted != 0xFF:
        raise VerificationError(
            "certificate",
            f"the permissions {certificate.permissions:#04x} of the certificate and their complement"
            f" {certificate.inverted:#04x} do not match",
        )
    if not certificate.may_sign:
        raise VerificationError(
            "certificate",
            f"the permissions {certificate.permissions:#04x} of the certificate do not have bit 0: it may not sign"
            " containers",
        )
    if not all(srk.is_ca for srk in srks):
        raise VerificationError(
            "certificate", "the SRK that signed the certificate does not have the flag CA in its record",
            hint="Make the SRKs with the CA flag, and the table anew.",
        )  # fmt: skip
    for srk, signature in zip(srks, certificate.signatures, strict=True):
        check_signature(srk, signature, certificate.signed, "certificate", "the signature of the certificate")
    if any(certificate.uuid):
        notes.append(f"the certificate is for the board with the UUID {certificate.uuid.hex()}")
    return certificate.records


def _check_algorithms(
    container: Container, srks: tuple[SrkRecord, ...], signers: tuple[SrkRecord, ...], notes: list[str]
) -> None:
    """Check what keys and hashes a container of this version can have: SPSDK, spsdk/image/ahab/ahab_data.py."""
    for one in (srks[0], signers[0]):
        if one.algorithm in (ML_DSA, DILITHIUM):
            raise VerificationError("algorithm", f"{one.name} is for the second SRK table, not for the first")
    if container.version == 0:
        for one in (*srks, *signers):
            if one.hash_code not in HASHES_V0:
                raise VerificationError(
                    "algorithm", f"signatures with {one.hash_name} are only in containers of version 2"
                )
    for one in srks[1:]:
        if one.algorithm != ML_DSA:
            notes.append(
                f"the second SRK table has {one.name} keys; no source says whether boards accept others than"
                " ML-DSA there"
            )


def _check_rules(
    chip: AhabChip | None, srks: tuple[SrkRecord, ...], certificate: Certificate | None, notes: list[str]
) -> None:
    """Check what the chip's firmware accepts. What is not confirmed is noted."""
    if chip is None:
        return
    keys = (*srks, *(certificate.records if certificate else ()))
    rules = {one.name: chip.allows(one.algorithm) for one in keys}
    if certificate is not None:
        rules["a certificate (SGK)"] = chip.sgk
    for name, rule in rules.items():
        if isinstance(rule, Refused):
            raise VerificationError("algorithm", f"{name} is not for {chip.title}: {rule.why}")
        if isinstance(rule, Unconfirmed):
            notes.append(f"whether {chip.title} accepts {name} is not confirmed: {rule.why}")


def _about_encrypted(block: SignatureBlock, encrypted: tuple[int, ...]) -> str:
    numbers = ", ".join(str(number) for number in encrypted)
    which = f"image {numbers} is" if len(encrypted) == 1 else f"images {numbers} are"
    text = f"{which} encrypted: what is inside can only be proved by a board with the key"
    if block.blob is not None and block.blob.is_placeholder:
        text += "; the key's blob is still a placeholder"
    return text
