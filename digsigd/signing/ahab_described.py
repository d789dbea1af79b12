"""Check that a signed container says what the description asked for, and nothing more.

A container does more than to hold images: it revokes SRKs for good, and its certificate (SGK) may permit more than to
sign. cst has read a client's bytes by then, so none of this is believed.
"""

from __future__ import annotations

from collections.abc import Sequence

from digsigd import ahab
from digsigd.ahab.build import key_of
from digsigd.ahab.model import CHECK_ALL, FAST_BOOT_MASK, INDEX_MASK, REVOKE_MASK, SET_MASK, Certificate
from digsigd.csf.ahab import Description
from digsigd.csf.ahab.model import InstallCertificate
from digsigd.errors import Refused
from digsigd.signing.ahab_containers import refused


def check_described(
    before: ahab.Container, made: ahab.Container, description: Description, certificate: bytes | None, line: int
) -> None:
    """Check the flags, the certificate and the rest of the signature block of a container that cst has signed.

    `before` is the client's, `certificate` the member that [Install Certificate] names, None for one on a token, `line`
    that of [Authenticate Data]. Raises `VerificationError`, or `Refused` for flags of the client's own file that the
    description does not have.
    """
    _check_flags(before, made, description, line)
    block = made.block
    if block is None:
        raise ahab.VerificationError("described", "the signed container has no signature block")
    if block.blob is not None or block.key_id:
        raise ahab.VerificationError("described", "the signed container has a key for encrypted images")
    wanted = description.certificate
    if (wanted is None) != (block.certificate is None):
        has = "no certificate" if block.certificate is None else "a certificate"
        raise ahab.VerificationError("described", f"the signed container has {has}, other than the description")
    if wanted is not None and block.certificate is not None:
        _check_certificate(block.certificate, wanted, certificate)


def _check_flags(before: ahab.Container, made: ahab.Container, description: Description, line: int) -> None:
    wanted = flags_of(description)
    mask = SET_MASK | INDEX_MASK | REVOKE_MASK | (CHECK_ALL | FAST_BOOT_MASK if made.version == 2 else 0)
    if made.flags & mask == wanted:
        return
    wrong = (made.flags ^ wanted) & mask
    optional = not wrong & (SET_MASK | INDEX_MASK | REVOKE_MASK)
    if optional and wrong & before.flags & made.flags == wrong:
        raise _not_described(before, wrong, line)
    raise ahab.VerificationError(
        "described",
        f"the flags of the signed container are {made.flags & mask:#x}, but the description asks for {wanted:#x}",
    )


def _not_described(before: ahab.Container, bits: int, line: int) -> Refused:
    return refused(
        line,
        f"the flags of the container at {before.offset:#x} have the bits {bits:#x} (Check All Signatures, Fast Boot),"
        " which the description does not ask for",
        hint="write them below [Install SRK], or make the container without them",
    )


def flags_of(description: Description) -> int:
    """Return the flags that a signer writes for a description: NXP cst, ahab_types.h, AHAB_CNTN_FLAGS."""
    srk = description.srk
    flags = ahab.SrkSet.OEM | srk.source_index << 4 | srk.revocations << 8
    if description.header.container_version == 2:
        flags |= CHECK_ALL if srk.check_all_signatures == "All" else 0
        flags |= (srk.fast_boot or 0) << 16
    return flags


def _check_certificate(found: Certificate, wanted: InstallCertificate, member: bytes | None) -> None:
    if found.permissions != wanted.permissions:
        raise ahab.VerificationError(
            "described",
            f"the certificate has the permissions {found.permissions:#x}, but the description {wanted.permissions:#x}",
        )
    for name, has, asked in (
        ("permission data", found.permission_data, _words(wanted.permissions_data, 3)),
        ("UUID", found.uuid, _words(wanted.uuid, 4)),
        ("fuse version", bytes([found.fuse_version]), bytes([wanted.fuse_version or 0])),
        # No description has it.
        ("extension of the permission data", bytes([found.permission_data_extension]), b"\0"),
    ):
        # Containers of version 0 have none of them.
        if (any(has) and has != asked) or (asked != has and found.version == 2):
            raise ahab.VerificationError(
                "described", f"the certificate has the {name} {has.hex()}, but the description {asked.hex()}"
            )
    if member is None:
        return
    key = key_of(member, "sha256")
    record = found.record
    if (record.algorithm, record.size_code, record.crypto) != (key.algorithm, key.size_code, key.parts):
        raise ahab.VerificationError("described", "the certificate has another key than the one that is named")


def _words(values: Sequence[int] | None, count: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in (values or (0,) * count))
