"""Names in certificates are shown to people, in whichever of X.680's kinds of strings they stand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from digsigd.hab.certificate import load
from tests.helpers.forge import SIGNER


def shown(*attributes: x509.NameAttribute[str]) -> str:
    """The name that is shown of a certificate with this subject."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
        .public_key(SIGNER.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2024, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2044, 1, 1, tzinfo=UTC))
    )
    return load(builder.sign(SIGNER, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).name


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (_ASN1Type.UTF8String, "Schlüssel"),
        (_ASN1Type.NumericString, "12345"),
        (_ASN1Type.PrintableString, "CSF1 1"),
        (_ASN1Type.T61String, "CSF1_1"),
        (_ASN1Type.IA5String, "csf@example"),
        (_ASN1Type.UniversalString, "Ключ"),
        (_ASN1Type.BMPString, "鍵"),
    ],
)
def test_a_common_name_is_read_in_every_kind_of_string(kind: _ASN1Type, text: str) -> None:
    """OpenSSL writes UTF8String, old tools all others."""
    assert shown(x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)) == text


def test_a_name_without_a_common_name_is_shown_whole() -> None:
    """With the short names of RFC 4514 for what has one."""
    parts = {
        NameOID.COUNTRY_NAME: ("C", "DE"),
        NameOID.STATE_OR_PROVINCE_NAME: ("ST", "state"),
        NameOID.LOCALITY_NAME: ("L", "place"),
        NameOID.ORGANIZATION_NAME: ("O", "company"),
        NameOID.ORGANIZATIONAL_UNIT_NAME: ("OU", "unit"),
    }
    name = shown(*(x509.NameAttribute(oid, value) for oid, (_, value) in parts.items()))
    for short, value in parts.values():
        assert f"{short}={value}" in name.replace("+", ",").split(",")
