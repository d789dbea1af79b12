"""Two things that decide whom a board trusts: the CA flag of an SRK, and which digests are taken for signatures."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from digsigd import hab
from digsigd.hab.certificate import load
from digsigd.hab.chain import is_srk, signing_srk
from tests.hab.test_cms_form import der
from tests.helpers import forge
from tests.helpers.blobs import Signed
from tests.helpers.forge import Named, authenticate, certificate_of, cms, install, install_srk, named

BLOCK = (0x7E0FC0, 0x40)
DATA = bytes(range(0x40))
SRK = named("SRK", ca=True)
CSFK = named("CSFK", SRK)
IMG = named("IMG", SRK, serial=8)
TABLE = hab.build_srk_table([SRK.certificate])
FLAGS = 4 + 7  # where the first record of a table has its flags
# RFC 8017, A.2.4: sha1WithRSAEncryption, sha256WithRSAEncryption; RFC 5754: id-sha1, id-sha256.
RSA_SHA1, RSA_SHA256 = bytes.fromhex("06092a864886f70d010105"), bytes.fromhex("06092a864886f70d01010b")
SHA1 = bytes.fromhex("06052b0e03021a")
OLD = hashes.SHA1()  # noqa: S303 -- what is refused


def blob(table: bytes, csfk: bytes = CSFK.der, img: bytes = IMG.der) -> bytes:
    return forge.forge(
        install_srk(table),
        install(csfk, 0, 1, flags=2),
        authenticate(1, lambda area: cms(area, CSFK)),
        install(img, 0, 2),
        authenticate(2, lambda _: cms(DATA, IMG), BLOCK),
    )


def judged(table: bytes, made: bytes, **more: Any) -> str:
    signed = Signed(made, table, ((hab.Block(BLOCK[0], 0, BLOCK[1]),),), image=DATA)
    try:
        return str(signed.verify(**more))
    except hab.HabError as error:
        return str(error)


def test_bit_7_alone_is_the_ca_flag() -> None:
    """HAB_KEY_FLG_CA; the other bits mean other things, or nothing."""
    for flags in range(256):
        table = TABLE[:FLAGS] + bytes([flags]) + TABLE[FLAGS + 1 :]
        (record,) = hab.SrkTable.parse(table).records
        assert record.ca is (flags >= 0x80)


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x40, 0x7F])
def test_an_srk_without_the_ca_flag_signs_no_certificates(flags: int) -> None:
    """Whichever other bits it has: the boot ROM takes none from it, and no chain of it is told."""
    table = TABLE[:FLAGS] + bytes([flags]) + TABLE[FLAGS + 1 :]
    assert judged(table, blob(table)).startswith("ca-flag: ")
    parsed = hab.SrkTable.parse(table)
    assert signing_srk(CSFK.certificate, parsed) is None
    assert is_srk(SRK.certificate, parsed) == 1


def test_an_srk_with_the_ca_flag_signs_certificates() -> None:
    """As it is made by the tools, and with every other bit beside it."""
    for flags in (0x80, 0xFF):
        table = TABLE[:FLAGS] + bytes([flags]) + TABLE[FLAGS + 1 :]
        assert "-> CSFK, IMG ->" in judged(table, blob(table))
        assert signing_srk(CSFK.certificate, hab.SrkTable.parse(table)) == 1


def with_sha1(certificate: x509.Certificate) -> bytes:
    """The certificate signed anew by the SRK, with SHA-1; libraries no longer make such ones."""
    body = certificate.tbs_certificate_bytes
    assert body.count(RSA_SHA256) == 1
    body = body.replace(RSA_SHA256, RSA_SHA1)
    signature = SRK.key.sign(body, padding.PKCS1v15(), OLD)
    return der(0x30, body, der(0x30, RSA_SHA1, der(5)), der(3, b"\0" + signature))


def sha1_cms(data: bytes, by: Named) -> bytes:
    """A CMS signature by cryptography, made one of SHA-1 throughout."""
    digest = hashes.Hash(OLD)
    digest.update(data)
    name = by.certificate.issuer.public_bytes()
    identity = der(0x30, name, der(2, bytes([by.certificate.serial_number])))
    attributes = (
        der(0x30, bytes.fromhex("06092a864886f70d010903"), der(0x31, bytes.fromhex("06092a864886f70d010701"))),
        der(0x30, bytes.fromhex("06092a864886f70d010904"), der(0x31, der(4, digest.finalize()))),
    )
    signature = by.key.sign(der(0x31, *attributes), padding.PKCS1v15(), OLD)
    algorithm = der(0x30, SHA1, der(5))
    rsa = der(0x30, bytes.fromhex("06092a864886f70d010101"), der(5))
    signer = der(0x30, der(2, b"\1"), identity, algorithm, der(0xA0, *attributes), rsa, der(4, signature))
    plain = der(0x30, bytes.fromhex("06092a864886f70d010701"))
    signed = der(0x30, der(2, b"\1"), der(0x31, algorithm), plain, der(0x31, signer))
    return der(0x30, bytes.fromhex("06092a864886f70d010702"), der(0xA0, signed))


def test_a_certificate_signed_with_sha1_is_refused() -> None:
    """Whoever can make two certificates with one SHA-1 has two for one signature."""
    old = with_sha1(CSFK.certificate)
    loaded = x509.load_der_x509_certificate(old)
    assert isinstance(loaded.signature_hash_algorithm, type(OLD))
    assert signing_srk(loaded, hab.SrkTable.parse(TABLE)) is None
    for changed in (blob(TABLE, csfk=old), blob(TABLE, img=with_sha1(IMG.certificate))):
        says = judged(TABLE, changed)
        assert says.startswith("certificate: ")
        assert "signed with sha1" in says


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda one: one.name)
def test_the_srk_of_a_certificate_is_found_for_every_digest_that_is_taken(algorithm: Any) -> None:
    """SHA-2, as NXP's scripts have had it for ten years."""
    builder = x509.CertificateBuilder(
        CSFK.certificate.issuer,
        CSFK.certificate.subject,
        CSFK.certificate.public_key(),
        9,
        CSFK.certificate.not_valid_before_utc,
        CSFK.certificate.not_valid_after_utc,
    )
    made = builder.sign(SRK.key, algorithm)
    other = certificate_of(SRK.key.public_key())
    table = hab.SrkTable.parse(hab.build_srk_table([certificate_of(IMG.key.public_key(), ca=True), SRK.certificate]))
    assert signing_srk(made, table) == 2
    assert is_srk(made, table) is None
    assert (signing_srk(other, table), is_srk(other, table)) == (None, 2)


def test_a_signature_with_sha1_is_refused() -> None:
    """Even where SHA-1 was asked for: over the commands, and over the data."""
    over_commands = forge.forge(
        install_srk(TABLE),
        install(CSFK.der, 0, 1, flags=2),
        authenticate(1, lambda area: sha1_cms(area, CSFK)),
        install(IMG.der, 0, 2),
        authenticate(2, lambda _: sha1_cms(DATA, IMG), BLOCK),
    )
    digest = hashes.Hash(OLD)
    digest.update(DATA)
    says = judged(TABLE, over_commands, digest_algorithm="sha1", digests=[digest.finalize()])
    assert says.startswith("csf-signature: the signature over the commands uses sha1")
    assert "uses sha1, not sha256" in judged(TABLE, over_commands)


def test_what_is_refused_above_is_right_but_for_its_digest() -> None:
    """OpenSSL's library, too, takes the certificate and the signature for what they are."""
    old = x509.load_der_x509_certificate(with_sha1(CSFK.certificate))
    SRK.key.public_key().verify(old.signature, old.tbs_certificate_bytes, padding.PKCS1v15(), OLD)
    assert old.public_bytes(serialization.Encoding.DER) == with_sha1(CSFK.certificate)
    parsed = hab.cms.CmsSignature.parse(sha1_cms(DATA, IMG))
    assert parsed.is_by(IMG.key.public_key())
    assert parsed.names(load(IMG.der))
