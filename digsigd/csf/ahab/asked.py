"""Check that a signed container says what its description asks for, and nothing more.

A container can revoke SRKs for good, and its certificate (SGK) can permit debugging: the signature holds all the same.
So the host does not believe cst, which has read a client's bytes, and the client does not believe the host.
"""

from __future__ import annotations

from collections.abc import Sequence

from digsigd import ahab
from digsigd.ahab import Certificate, Container, VerificationError
from digsigd.ahab.build import key_of
from digsigd.ahab.model import CHECK_ALL, FAST_BOOT_MASK, INDEX_MASK, REVOKE_MASK, SET_MASK
from digsigd.csf.ahab.model import Description, InstallCertificate


def check_asked(before: Container, made: Container, description: Description, certificate: bytes | None = None) -> None:
    """Check flags, certificate and blob of the container `made`; `before` is the same one before it was signed.

    `certificate` is the file, PEM or DER, that [Install Certificate] names, if it is known. The bits of the flags that
    no signer writes must be those of `before`: NXP cst, ahab_types.h, AHAB_CNTN_FLAGS. Raises `VerificationError` if
    anything differs from what `description` asks for.
    """
    at = f"the container at {before.offset:#x}"
    srk = description.srk
    written, wanted = SET_MASK | INDEX_MASK | REVOKE_MASK, ahab.SrkSet.OEM | srk.source_index << 4
    if made.version == 2:
        written |= CHECK_ALL | FAST_BOOT_MASK
        wanted |= (CHECK_ALL if srk.check_all_signatures == "All" else 0) | (srk.fast_boot or 0) << 16
    if made.revoke_mask != srk.revocations:
        raise VerificationError(
            "described",
            f"{at} has the revoke mask {made.revoke_mask:#x}, but {srk.revocations:#x} was asked for: a board burns it"
            " with ahab_commit, and revoked SRKs never sign again",
        )
    wanted |= srk.revocations << 8 | before.flags & ~written
    if made.flags != wanted:
        raise VerificationError("described", f"{at} has the flags {made.flags:#x}, but {wanted:#x} were asked for")
    block = made.block
    if block is None or block.blob is not None or block.key_id:
        raise VerificationError("described", f"{at} has a key for encrypted images, which was not asked for")
    asked = description.certificate
    if (asked is None) != (block.certificate is None):
        has, wants = ("no certificate", "one") if block.certificate is None else ("a certificate (SGK)", "none")
        raise VerificationError("described", f"{at} has {has}, but {wants} was asked for")
    if asked is not None and block.certificate is not None:
        _check_certificate(at, block.certificate, asked)
        if certificate is not None:
            _check_key(at, block.certificate, certificate)


def _check_key(at: str, found: Certificate, certificate: bytes) -> None:
    key, record = key_of(certificate, "sha256"), found.record
    if (record.algorithm, record.size_code, record.crypto) != (key.algorithm, key.size_code, key.parts):
        raise VerificationError("described", f"the certificate of {at} has another key than the one that is named")


def _check_certificate(at: str, found: Certificate, asked: InstallCertificate) -> None:
    if found.permissions != asked.permissions:
        raise VerificationError(
            "described",
            f"the certificate of {at} has the permissions {found.permissions:#x}, but {asked.permissions:#x} were asked"
            " for",
        )
    if found.version != 2:
        return
    has = (found.permission_data, found.permission_data_extension, found.fuse_version, found.uuid)
    wanted = (_words(asked.permissions_data, 3), 0, asked.fuse_version or 0, _words(asked.uuid, 4))
    if has != wanted:
        raise VerificationError(
            "described", f"the certificate of {at} has another UUID, fuse version or permission data than was asked for"
        )


def _words(values: Sequence[int] | None, count: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values or (0,) * count)
