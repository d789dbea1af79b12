"""Which Super Root Key of a table a certificate is of or below, without any CSF around it."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from digsigd.hab.certificate import Certificate, load
from digsigd.hab.cms import HASHES, verifies
from digsigd.hab.errors import FormatError
from digsigd.hab.srk import PublicKey, SrkTable, why_not_hab

# What cryptography raises for certificates that are none, or of kinds that it does not know.
UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
# Digests that HAB4's library computes; i.MX8M's ROM has no SHA-1 signatures in use, and SHA-1 no future.
ACCEPTED = ("sha256", "sha384", "sha512")


def is_srk(certificate: Certificate | x509.Certificate, table: SrkTable) -> int | None:
    """The number, from 1, of the table's record that holds this certificate's own key; None where none does."""
    ours = _ours(certificate)
    if ours is None or ours.public_key is None:
        return None
    return next((number for number, record in enumerate(table.records, 1) if record.key == ours.public_key), None)


def signing_srk(certificate: Certificate | x509.Certificate, table: SrkTable) -> int | None:
    """The number, from 1, of the table's SRK that signed a certificate; None where none did.

    An SRK without the CA flag signs no certificates: the boot ROM takes none from it.
    """
    ours = _ours(certificate)
    for number, record in enumerate(table.records, 1):
        if ours is None:
            break
        if record.key is not None and record.ca and not why_not_hab(record.key) and is_signed_by(ours, record.key):
            return number
    return None


def is_signed_by(certificate: Certificate, key: PublicKey) -> bool:
    """Whether a key signed a certificate, in a way that HAB4 has."""
    if certificate.algorithm not in ACCEPTED:
        return False
    return verifies(key, certificate.signature, certificate.tbs, HASHES[certificate.algorithm], certificate.kind)


def _ours(certificate: Certificate | x509.Certificate) -> Certificate | None:
    if isinstance(certificate, Certificate):
        return certificate
    try:
        return load(certificate.public_bytes(Encoding.DER))
    except FormatError:
        return None
