"""Of which SRK a certificate is, where the certificate or the table is odd."""

from __future__ import annotations

import hashlib
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from digsigd import hab
from digsigd.hab.certificate import load
from digsigd.hab.chain import is_srk, signing_srk
from digsigd.hab.der import elements
from tests.hab.test_cms_form import der
from tests.helpers.forge import Named, certificate_of, named

SRK = named("SRK", ca=True)
BELOW = named("CSF", SRK).certificate
TABLE = hab.SrkTable.parse(hab.build_srk_table([SRK.certificate]))


def with_hash_first(table: hab.SrkTable) -> hab.SrkTable:
    """The table with another SRK before its own, of which it has only the hash."""
    record = struct.pack(">BHB", 0xEE, 36, 0x17) + hashlib.sha256(b"another").digest()
    body = record + table.data[4:]
    return hab.SrkTable.parse(struct.pack(">BHB", 0xD7, 4 + len(body), 0x40) + body)


def test_an_srk_of_which_there_is_only_a_hash_is_passed_over() -> None:
    """It may be anybody's; the one behind it is found."""
    table = with_hash_first(TABLE)
    assert (signing_srk(BELOW, table), is_srk(BELOW, table)) == (2, None)
    assert is_srk(SRK.certificate, table) == 2


def test_certificates_are_taken_in_either_form() -> None:
    """cryptography's, and the strict reader's own."""
    for certificate in (BELOW, load(BELOW.public_bytes(Encoding.DER))):
        assert (signing_srk(certificate, TABLE), is_srk(certificate, TABLE)) == (1, None)


def test_a_certificate_that_cannot_be_read_is_of_nobody() -> None:
    """One that has an extension twice: libraries take it, and boot ROMs may or may not."""
    usage = x509.KeyUsage(True, *[False] * 8)
    made = certificate_of(SRK.key.public_key(), "SRK", ("SRK", SRK.key), more=usage).public_bytes(Encoding.DER)
    (whole,) = elements(made)
    body, algorithm, _ = elements(whole.content)
    parts = elements(body.content)
    (extension,) = elements(elements(parts[7].content)[0].content)
    twice = der(0x30, *(one.whole for one in parts[:7]), der(0xA3, der(0x30, extension.whole * 2)))
    signature = SRK.key.sign(twice, padding.PKCS1v15(), hashes.SHA256())
    certificate = x509.load_der_x509_certificate(der(0x30, twice, algorithm.whole, der(3, b"\0" + signature)))
    assert certificate.public_key() == SRK.key.public_key()
    assert (signing_srk(certificate, TABLE), is_srk(certificate, TABLE)) == (None, None)


def test_an_srk_that_hab_does_not_have_signs_nothing() -> None:
    """Of a size that NXP's tools do not make, though the table holds it and the signature is right."""
    key = rsa.generate_private_key(65537, 1536)  # noqa: S505 -- that is what is refused
    odd = Named(key, certificate_of(key.public_key(), "odd", ("odd", key), ca=True))
    table = hab.SrkTable.parse(hab.build_srk_table([odd.certificate]))
    assert signing_srk(named("below", odd).certificate, table) is None


def test_a_certificate_of_another_kind_of_key_is_no_srk() -> None:
    """And may well be signed by one."""
    for public in (
        ed25519.Ed25519PrivateKey.generate().public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
    ):
        certificate = certificate_of(public, "other", ("SRK", SRK.key))
        assert is_srk(certificate, with_hash_first(TABLE)) is None
