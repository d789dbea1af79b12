"""Which Super Root Key of a table a certificate is of or below, without any CSF around it."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from digsigd.hab.cms import verifies
from digsigd.hab.srk import PublicKey, SrkTable, why_not_hab

# What cryptography raises for certificates that are none, or of kinds that it does not know.
UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
# Digests that HAB4's library computes; i.MX8M's ROM has no SHA-1 signatures in use, and SHA-1 no future.
ACCEPTED = ("sha256", "sha384", "sha512")


def is_srk(certificate: x509.Certificate, table: SrkTable) -> int | None:
    """The number, from 1, of the table's record that holds this certificate's own key; None where none does."""
    try:
        key = certificate.public_key()
    except UNREADABLE:
        return None
    return next((number for number, record in enumerate(table.records, 1) if record.key == key), None)


def signing_srk(certificate: x509.Certificate, table: SrkTable) -> int | None:
    """The number, from 1, of the table's SRK that signed a certificate; None where none did.

    An SRK without the CA flag signs no certificates: the boot ROM takes none from it.
    """
    for number, record in enumerate(table.records, 1):
        if record.key is not None and record.ca and not why_not_hab(record.key) and _signed(certificate, record.key):
            return number
    return None


def _signed(certificate: x509.Certificate, key: PublicKey) -> bool:
    try:
        algorithm = certificate.signature_hash_algorithm
        if algorithm is None or algorithm.name not in ACCEPTED:
            return False
        kind = "ecdsa" if "ecdsa" in certificate.signature_algorithm_oid._name else "rsa"  # noqa: SLF001
        return verifies(key, certificate.signature, certificate.tbs_certificate_bytes, algorithm, kind)
    except UNREADABLE:
        return False
