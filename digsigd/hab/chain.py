"""Finds the SRK of a table that a certificate belongs to or is signed by, without a CSF."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from digsigd.hab.certificate import Certificate, load
from digsigd.hab.cms import issued
from digsigd.hab.errors import FormatError
from digsigd.hab.srk import PublicKey, SrkTable, why_not_hab

# What cryptography raises for certificates that are damaged, or of an unknown kind.
UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
# Digests that HAB4's library computes. SHA-1 is left out: i.MX 8M's ROM does not use it, and it is obsolete.
ACCEPTED = ("sha256", "sha384", "sha512")


def is_srk(certificate: Certificate | x509.Certificate, table: SrkTable) -> int | None:
    """Return the number, from 1, of the SRK in the table that is this certificate's key, or None."""
    ours = _ours(certificate)
    if ours is None or ours.public_key is None:
        return None
    return next((number for number, record in enumerate(table.records, 1) if record.key == ours.public_key), None)


def signing_srk(certificate: Certificate | x509.Certificate, table: SrkTable) -> int | None:
    """Return the number, from 1, of the SRK in the table that signed a certificate, or None.

    An SRK without the CA flag is left out: the boot ROM does not accept certificates that it signed.
    """
    ours = _ours(certificate)
    for number, record in enumerate(table.records, 1):
        if ours is None:
            break
        if record.key is not None and record.ca and not why_not_hab(record.key) and is_signed_by(ours, record.key):
            return number
    return None


def is_signed_by(certificate: Certificate, key: PublicKey) -> bool:
    """Return whether a key signed a certificate, with an algorithm that HAB4 has."""
    return certificate.algorithm in ACCEPTED and issued(certificate, key)


def _ours(certificate: Certificate | x509.Certificate) -> Certificate | None:
    if isinstance(certificate, Certificate):
        return certificate
    try:
        return load(certificate.public_bytes(Encoding.DER))
    except FormatError:
        return None
