"""Builds SRK tables and arrays, byte for byte as NXP's srktool 3.4.1 (-a) and 4.0.1 (-a 1, -a 2) do."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from digsigd.ahab.errors import AhabError
from digsigd.ahab.srk import (
    ARRAY_TAG,
    CURVES,
    DATA_TAG,
    ECDSA,
    FLAG_CA,
    ML_DSA,
    ML_DSA_SIZES,
    RECORD_TAG,
    RECORD_V2_SIZE,
    RECORDS,
    RSA,
    RSA_PSS,
    RSA_SIZES,
    SIGNATURE_HASHES,
    TABLE_TAG,
    TABLE_V2_VERSION,
    TABLE_VERSION,
    PublicKey,
    data_hash,
)
from digsigd.hab import certificate as x509
from digsigd.hab.der import CONTEXT_0, OID, SEQUENCE, elements
from digsigd.hab.errors import FormatError as HabFormatError

# RFC 8017, A.2.3: id-RSASSA-PSS; RFC 5754 and NIST: id-sha256, id-sha384, id-sha512.
_PSS = bytes.fromhex("2a864886f70d01010a")
_PSS_HASHES = {
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_HASH_CODES = {name: code for code, name in SIGNATURE_HASHES.items()}
_TABLE_HASHES = ("sha256", "sha384", "sha512")
_RECORD = struct.Struct("<BHBBBBBHH")


@dataclass(frozen=True, slots=True)
class SrkKey:
    """A key for a record: its algorithm, the code of its size, its two parts, its flag, and the hash of signatures."""

    algorithm: int
    size_code: int
    parts: tuple[bytes, bytes]
    ca: bool
    hash_name: str


def build_srk_table(certificates: Sequence[bytes], *, digest: str | None = None) -> bytes:
    """Build the SRK table for containers of version 0 from four certificates, DER or PEM.

    `digest` is the hash of the signatures, srktool's -s: "sha256", "sha384" or "sha512". It is stored in the records,
    so another one is another fuse value. Without it, the hash that the certificates themselves are signed with is
    taken. Raises `AhabError` for another number of certificates, unknown keys, and keys of several types.
    """
    keys = _keys([key_of(one, digest) for one in certificates])
    return write_table(keys)


def build_srk_array(
    certificates: Sequence[bytes],
    second: Sequence[bytes] = (),
    *,
    digest: str | None = None,
    second_digest: str | None = None,
    number: int | None = None,
) -> bytes:
    """Build the SRK array for containers of version 2 from four certificates, and four of ML-DSA for a second table.

    `digest` is as in `build_srk_table`. The SRK data are those of record `number`, from 0; without it they are zeros,
    as in srktool's file. Raises `AhabError`.
    """
    sets = [_keys([key_of(one, digest) for one in certificates])]
    if second:
        sets.append(_keys([key_of(one, second_digest or digest) for one in second]))
    return write_array(sets, number)


def key_of(certificate: bytes, digest: str | None = None) -> SrkKey:
    """Return the key of a certificate, DER or PEM, with its CA flag. Raises `AhabError`."""
    try:
        read = x509.load_file(certificate)
        info, sign_hash = _of_certificate(read.der)
    except HabFormatError as error:
        raise AhabError(f"an SRK certificate cannot be read: {error.what}") from None
    name = digest or read.algorithm or sign_hash
    if name not in _TABLE_HASHES:
        raise AhabError(
            f"the hash of the signatures must be one of {', '.join(_TABLE_HASHES)}, not {name or 'unknown'}",
            hint="Give the hash of the signatures (srktool -s).",
        )
    try:
        key = load_der_public_key(info)
        algorithm = elements(elements(elements(info)[0].content)[0].content)[0]
    except (UnsupportedAlgorithm, ValueError, IndexError, HabFormatError):
        raise AhabError(f"the key of {read.name} is of an unknown kind") from None
    return srk_key(key, name, ca=read.is_ca, pss=algorithm.content == _PSS)


def srk_key(key: PublicKey, hash_name: str, *, ca: bool = False, pss: bool = False) -> SrkKey:
    """Return a public key as a record has it. `pss` is for RSA keys. Raises `AhabError` for keys that AHAB lacks."""
    if isinstance(key, rsa.RSAPublicKey):
        sizes = {size: code for code, size in RSA_SIZES.items()}
        if key.key_size not in sizes:
            raise AhabError(f"AHAB has no RSA keys of {key.key_size} bits, only {', '.join(map(str, sizes))}")
        numbers = key.public_numbers()
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        parts = (numbers.n.to_bytes(key.key_size // 8, "big"), exponent)
        return SrkKey(RSA_PSS if pss else RSA, sizes[key.key_size], parts, ca, hash_name)
    if isinstance(key, ec.EllipticCurvePublicKey):
        for code, (curve, size) in CURVES.items():
            if isinstance(key.curve, curve):
                point = key.public_numbers()
                return SrkKey(
                    ECDSA, code, (point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")), ca, hash_name
                )
        raise AhabError(f"AHAB has no keys on the curve {key.curve.name}")
    raw = key.public_bytes_raw() if type(key).__name__.startswith("MLDSA") else b""
    for code, (_, size, _) in ML_DSA_SIZES.items():
        if len(raw) == size:
            return SrkKey(ML_DSA, code, (raw, b""), ca, hash_name)
    raise AhabError("an SRK must be an RSA, ECDSA, ML-DSA-65 or ML-DSA-87 key")


def write_record(key: SrkKey) -> bytes:
    """Return a key as a record of version 0."""
    return _record(key, key.parts[0] + key.parts[1], _RECORD.size + sum(map(len, key.parts)))


def write_record_v2(key: SrkKey, number: int) -> bytes:
    """Return a key as a record of version 2, the one with this number of its table."""
    return _record(key, data_hash(key.hash_name, write_data(key, number)), RECORD_V2_SIZE)


def write_data(key: SrkKey, number: int) -> bytes:
    """Return the SRK data of a key, the one with this number of its table."""
    body = key.parts[0] + key.parts[1]
    return struct.pack("<BHBB3x", 0, 8 + len(body), DATA_TAG, number) + body


def write_table(keys: Sequence[SrkKey]) -> bytes:
    """Return the table of version 0 with these keys."""
    body = b"".join(write_record(key) for key in keys)
    return struct.pack("<BHB", TABLE_TAG, 4 + len(body), TABLE_VERSION) + body


def write_array(sets: Sequence[Sequence[SrkKey]], number: int | None = None) -> bytes:
    """Return the array with a table for each set of keys, and the SRK data of record `number`, or zeros without it."""
    body = b""
    for keys in sets:
        records = b"".join(write_record_v2(key, place) for place, key in enumerate(keys))
        body += struct.pack("<BHB", TABLE_TAG, 4 + len(records), TABLE_V2_VERSION) + records
        if number is None:
            size = sum(map(len, keys[0].parts))
            body += struct.pack("<BHBB3x", 0, 8 + size, DATA_TAG, 0) + bytes(size)
        else:
            body += write_data(keys[number], number)
    return struct.pack("<BHBB3x", 0, 8 + len(body), ARRAY_TAG, len(sets)) + body


def _record(key: SrkKey, body: bytes, length: int) -> bytes:
    first, second = map(len, key.parts)
    flags = FLAG_CA if key.ca else 0
    head = (RECORD_TAG, length, key.algorithm, _HASH_CODES[key.hash_name], key.size_code, 0, flags, first, second)
    return _RECORD.pack(*head) + body


def _keys(keys: list[SrkKey]) -> list[SrkKey]:
    """Return the keys if they are four of one type. srktool refuses another number, and mixed CA flags."""
    if len(keys) != RECORDS:
        raise AhabError(f"an SRK table of AHAB has exactly {RECORDS} keys, not {len(keys)}")
    if len({(key.algorithm, key.size_code, key.hash_name) for key in keys}) != 1:
        raise AhabError("the keys of an SRK table must be of one type, size and hash")
    if len({key.ca for key in keys}) != 1:
        raise AhabError("some SRK certificates have the CA flag, others have not", hint="All must be of one kind.")
    return keys


def _of_certificate(der: bytes) -> tuple[bytes, str]:
    """Return the key of a certificate as SubjectPublicKeyInfo, and the hash of a signature with RSA-PSS, or ""."""
    whole = elements(elements(der)[0].content)
    parts = elements(whole[0].content)
    # RFC 5280, 4.1: version, serial number, signature, issuer, validity, subject, key.
    parts = parts[1:] if parts[0].tag == CONTEXT_0 else parts
    signature = elements(whole[1].content)
    hash_name = ""
    if signature[0].content == _PSS and len(signature) > 1 and signature[1].tag == SEQUENCE:
        for one in elements(signature[1].content):
            if one.tag == CONTEXT_0 and (found := elements(one.content)) and found[0].tag == SEQUENCE:
                inner = elements(found[0].content)
                hash_name = _PSS_HASHES.get(inner[0].content, "") if inner and inner[0].tag == OID else ""
    return parts[5].whole, hash_name
