"""Checks signatures with the keys of SRK records.

Formats: NXP cst, ahab_types.h: RSA signatures as they are, ECDSA as r and s, each as long as the curve. ML-DSA signs
the hash of the bytes, with an empty context: SPSDK, spsdk/image/ahab/ahab_sign_block.py.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from digsigd.ahab.errors import FormatError, VerificationError
from digsigd.ahab.srk import ECDSA, ML_DSA, RSA, RSA_PSS, PublicKey, SrkRecord

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3-256": hashes.SHA3_256,
    "sha3-384": hashes.SHA3_384,
    "sha3-512": hashes.SHA3_512,
}


def check_signature(record: SrkRecord, signature: bytes, signed: bytes, check: str, what: str) -> None:
    """Check a signature over `signed` with a record's key and hash. `what` names it in errors, `check` is their check.

    Raises `VerificationError`, too if it cannot be checked: an unknown algorithm or hash, ML-DSA without a cryptography
    that has it.
    """
    if record.hash_name not in _HASHES:
        raise VerificationError(check, f"{what} uses the hash {record.hash_name}, which cannot be checked here")
    if record.algorithm not in (RSA, RSA_PSS, ECDSA, ML_DSA):
        raise VerificationError(check, f"{what} is one of {record.name}, which cannot be checked here")
    try:
        key = record.public_key()
    except FormatError as error:
        raise VerificationError(check, f"{what} cannot be checked: {error.what}", hint=error.hint) from None
    if len(signature) != record.signature_size:
        raise VerificationError(
            check, f"{what} has {len(signature)} bytes; one of {record.name} has {record.signature_size}"
        )
    try:
        _verify(record.algorithm, key, signature, signed, _HASHES[record.hash_name]())
    except InvalidSignature:
        raise VerificationError(check, f"{what} was not made with this {record.name} key") from None
    except UnsupportedAlgorithm:
        raise VerificationError(check, f"{what} uses the hash {record.hash_name}, which OpenSSL lacks here") from None


def _verify(algorithm: int, key: PublicKey, signature: bytes, signed: bytes, digest: hashes.HashAlgorithm) -> None:
    if algorithm == RSA:
        key.verify(signature, signed, padding.PKCS1v15(), digest)
    elif algorithm == RSA_PSS:
        # cst's salt is as long as it can be, SPSDK's as long as the hash.
        key.verify(signature, signed, padding.PSS(padding.MGF1(digest), padding.PSS.AUTO), digest)
    elif algorithm == ECDSA:
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
    else:
        hashed = hashes.Hash(digest)
        hashed.update(signed)
        key.verify(signature, hashed.finalize())
