"""The one form of CMS signature that HAB4 has is read, and no other."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.hab import certificate
from digsigd.hab.cms import CmsSignature
from digsigd.hab.csf_blob import Authenticate, CsfBlob
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import KINDS, Signing, changed_at
from tests.helpers.forge import SIGNER, Named, certificate_of, cms


def der(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        length = bytes([size])
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(digits)]) + digits
    return bytes([tag]) + length + content


def oid(text: str) -> bytes:
    return der(6, bytes.fromhex(text))


SIGNED_DATA, DATA = oid("2a864886f70d010702"), oid("2a864886f70d010701")
CONTENT_TYPE, DIGEST, TIME = (oid(f"2a864886f70d0109{last}") for last in ("03", "04", "05"))
MD5, SHA256, SHA512 = oid("2a864886f70d0205"), oid("608648016503040201"), oid("608648016503040203")
RSA, SHA256_RSA, SHA512_RSA, PSS = (oid(f"2a864886f70d0101{last}") for last in ("01", "0b", "0d", "0a"))
ECDSA, ECDSA_512, DSA = oid("2a8648ce3d040302"), oid("2a8648ce3d040304"), oid("608648016503040302")
NULL = der(5)
DIGESTS = {"sha1": oid("2b0e03021a"), "sha256": SHA256, "sha384": oid("608648016503040202"), "sha512": SHA512}
VERSION_1, VERSION_3 = der(2, b"\1"), der(2, b"\3")
NAME = der(0x30, der(0x31, der(0x30, oid("550403"), der(0x0C, b"somebody"))))
IDENTITY = der(0x30, NAME, der(2, b"\x12\x34\x56\x78"))
WHEN = der(0x17, b"240102030405Z")
CONTENT = b"what is signed"


def attribute(name: bytes, *values: bytes) -> bytes:
    return der(0x30, name, der(0x31, *values))


OF_DATA = attribute(CONTENT_TYPE, DATA)
OF_DIGEST = attribute(DIGEST, der(4, hashlib.sha256(CONTENT).digest()))


@dataclass
class Made:
    """A CMS signature in its parts, each of which may be another."""

    content_type: bytes = SIGNED_DATA
    version: bytes = VERSION_1
    digest_algorithms: bytes = der(0x30, SHA256, NULL)
    encapsulated: bytes = der(0x30, DATA)
    certificates: bytes = b""
    signer_version: bytes = VERSION_1
    identity: bytes = IDENTITY
    digest_algorithm: bytes = der(0x30, SHA256, NULL)
    attributes: bytes = field(default=der(0xA0, OF_DATA, attribute(TIME, WHEN), OF_DIGEST))
    signature_algorithm: bytes = der(0x30, RSA, NULL)
    signature: bytes = der(4, bytes(256))
    unsigned: bytes = b""
    signers: int = 1
    behind: bytes = b""

    def der(self) -> bytes:
        signer = der(
            0x30,
            self.signer_version,
            self.identity,
            self.digest_algorithm,
            self.attributes,
            self.signature_algorithm,
            self.signature,
            self.unsigned,
        )
        signed_data = der(
            0x30,
            self.version,
            der(0x31, self.digest_algorithms),
            self.encapsulated,
            self.certificates,
            der(0x31, *[signer] * self.signers),
        )
        return der(0x30, self.content_type, der(0xA0, signed_data)) + self.behind


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_signatures_of_cst_are_read(signing: Signing, kind: KeyKind, version: str) -> None:
    """Both, with the digest of what they are over, and the certificate's issuer and serial number."""
    signed = signing.plain(kind, version)
    parsed = CsfBlob.parse(signed.blob)
    csf, data = (
        CmsSignature.parse(parsed.object_at(one)[4:]) for one in parsed.commands if isinstance(one, Authenticate)
    )
    assert csf.digest == hashlib.sha256(signed.blob[: parsed.header_length]).digest()
    assert data.digest == signed.digests[0]
    assert csf.digest_algorithm == data.digest_algorithm == "sha256"
    assert [one.serial for one in signed.verify().certificates] == [csf.serial, data.serial]


def test_the_signatures_of_another_maker_are_read() -> None:
    """cryptography's, signed for real; it verifies with the key, and with no other."""
    by = Named(SIGNER, certificate_of(SIGNER.public_key()))
    read = CmsSignature.parse(cms(CONTENT, by))
    assert read.digest == hashlib.sha256(CONTENT).digest()
    assert read.names(certificate.load(by.der))
    assert read.is_by(SIGNER.public_key())
    assert not read.is_by(ec.generate_private_key(ec.SECP256R1()).public_key())
    for other in (certificate_of(SIGNER.public_key(), serial=8), certificate_of(SIGNER.public_key(), "another")):
        assert not read.names(certificate.load(other.public_bytes(Encoding.DER)))


def test_what_is_signed_is_the_set_of_attributes() -> None:
    """As RFC 5652 has it: with the tag of a SET, not the one that stands in the message."""
    made = Made()
    signed = b"\x31" + made.attributes[1:]
    made.signature = der(4, SIGNER.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
    read = CmsSignature.parse(made.der())
    assert read.signed == signed
    assert read.is_by(SIGNER.public_key())
    assert (read.issuer, read.serial) == (NAME, 0x12345678)
    assert read.signature == made.signature[-256:]


def test_an_ecdsa_signature_is_by_an_ecdsa_key_only() -> None:
    """The kind that it names and the key's must be one."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Made(signature_algorithm=der(0x30, ECDSA))
    signed = b"\x31" + made.attributes[1:]
    made.signature = der(4, key.sign(signed, ec.ECDSA(hashes.SHA256())))
    assert CmsSignature.parse(made.der()).is_by(key.public_key())
    assert not CmsSignature.parse(made.der()).is_by(SIGNER.public_key())
    made.signature_algorithm = der(0x30, RSA, NULL)
    assert not CmsSignature.parse(made.der()).is_by(key.public_key())
    made.signature = der(4, SIGNER.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
    assert CmsSignature.parse(made.der()).is_by(SIGNER.public_key())
    made.signature_algorithm = der(0x30, ECDSA)
    assert not CmsSignature.parse(made.der()).is_by(SIGNER.public_key())


@pytest.mark.parametrize("size", [69, 70, 71, 72])
def test_ecdsa_signatures_of_every_length_hold(size: int) -> None:
    """The numbers in them are as short as they can be: most have 70 to 72 bytes, one of 512 has 69."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = Made(signature_algorithm=der(0x30, ECDSA))
    signed = b"\x31" + made.attributes[1:]
    for _ in range(50_000):
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        if len(signature) == size:
            made.signature = der(4, signature)
            assert CmsSignature.parse(made.der()).is_by(key.public_key())
            return
    pytest.fail(f"none of 50000 signatures has {size} bytes")


@pytest.mark.parametrize(
    "good",
    [
        Made(),
        Made(digest_algorithms=der(0x30, SHA256), digest_algorithm=der(0x30, SHA256)),
        Made(signature_algorithm=der(0x30, SHA256_RSA, NULL)),
        Made(signature_algorithm=der(0x30, ECDSA), signature=der(4, bytes(70))),
        Made(attributes=der(0xA0, OF_DATA, OF_DIGEST)),
        Made(attributes=der(0xA0, attribute(oid("2a0304"), der(0x30, NULL)), OF_DATA, OF_DIGEST)),
    ],
    ids=["plain", "no-parameters", "sha256-rsa", "ecdsa", "without-time", "unknown-attribute"],
)
def test_what_makers_may_choose_is_read(good: Made) -> None:
    """Whether algorithms have a NULL, and which other attributes there are."""
    assert CmsSignature.parse(good.der()).digest_algorithm == "sha256"


@pytest.mark.parametrize(
    ("digest", "rsa_oid", "ecdsa_oid"),
    [
        (hashes.SHA1(), "2a864886f70d010105", "2a8648ce3d0401"),  # noqa: S303 -- whether it is accepted is another matter
        (hashes.SHA256(), "2a864886f70d01010b", "2a8648ce3d040302"),
        (hashes.SHA384(), "2a864886f70d01010c", "2a8648ce3d040303"),
        (hashes.SHA512(), "2a864886f70d01010d", "2a8648ce3d040304"),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_a_signature_is_checked_with_the_hash_that_it_names(
    digest: hashes.HashAlgorithm, rsa_oid: str, ecdsa_oid: str
) -> None:
    """Bound to the kind of key in one identifier, or by itself beside plain RSA."""
    algorithm = der(0x30, DIGESTS[digest.name], NULL)
    attributes = der(0xA0, OF_DATA, attribute(DIGEST, der(4, bytes(digest.digest_size))))
    made = Made(digest_algorithms=algorithm, digest_algorithm=algorithm, attributes=attributes)
    signed = b"\x31" + attributes[1:]
    made.signature = der(4, SIGNER.sign(signed, padding.PKCS1v15(), digest))
    for kind in (RSA, oid(rsa_oid)):
        made.signature_algorithm = der(0x30, kind, NULL)
        read = CmsSignature.parse(made.der())
        assert (read.digest_algorithm, read.kind) == (digest.name, "rsa")
        assert read.is_by(SIGNER.public_key())
    key = ec.generate_private_key(ec.SECP256R1())
    made.signature = der(4, key.sign(signed, ec.ECDSA(digest)))
    made.signature_algorithm = der(0x30, oid(ecdsa_oid))
    read = CmsSignature.parse(made.der())
    assert (read.digest_algorithm, read.kind) == (digest.name, "ecdsa")
    assert read.is_by(key.public_key())
    made.signature = der(4, key.sign(signed + b"x", ec.ECDSA(digest)))
    assert not CmsSignature.parse(made.der()).is_by(key.public_key())


def test_sha512_is_read() -> None:
    """Whether it is accepted is for the verifier to say."""
    algorithm = der(0x30, SHA512, NULL)
    digest = attribute(DIGEST, der(4, bytes(64)))
    made = Made(
        digest_algorithms=algorithm, digest_algorithm=algorithm, attributes=der(0xA0, OF_DATA, digest),
        signature_algorithm=der(0x30, SHA512_RSA, NULL),
    )  # fmt: skip
    assert CmsSignature.parse(made.der()).digest_algorithm == "sha512"


@pytest.mark.parametrize(
    "bad",
    [
        Made(content_type=DATA),
        Made(version=VERSION_3),
        Made(version=der(2, b"\0\1")),
        Made(digest_algorithms=b""),
        Made(digest_algorithms=der(0x30, SHA512, NULL)),
        Made(digest_algorithms=der(0x30, SHA256, NULL) * 2),
        Made(digest_algorithms=der(0x30, MD5, NULL), digest_algorithm=der(0x30, MD5, NULL)),
        Made(digest_algorithm=der(0x30, SHA512, NULL)),
        Made(digest_algorithm=der(0x30, SHA256, der(0x30))),
        Made(digest_algorithm=der(0x30, SHA256, NULL, NULL)),
        Made(digest_algorithm=der(0x30)),
        Made(digest_algorithm=der(0x30, der(4, SHA256[2:]), NULL), digest_algorithms=der(0x30, SHA256, NULL)),
        Made(digest_algorithm=der(0x30, SHA256, b"\5\1\0")),
        Made(encapsulated=der(0x30, SIGNED_DATA)),
        Made(encapsulated=der(0x30, DATA, der(0xA0, der(4, CONTENT)))),
        Made(certificates=der(0xA0, certificate_of(SIGNER.public_key()).public_bytes(Encoding.DER))),
        Made(certificates=der(0xA1)),
        Made(signers=0),
        Made(signers=2),
        Made(signer_version=VERSION_3),
        Made(identity=der(0x80, bytes(20))),
        Made(signer_version=VERSION_3, identity=der(0x80, bytes(20))),
        Made(identity=der(0x30, NAME)),
        Made(identity=der(0x30, NAME, der(2, b"\1"), NULL)),
        Made(identity=der(0x30, NAME, der(2))),
        Made(identity=der(0x30, NAME, der(2, b"\0\x12"))),
        Made(identity=der(0x30, NAME, der(2, b"\xff\x82"))),
        Made(attributes=b""),
        Made(attributes=der(0xA0)),
        Made(attributes=der(0x31, OF_DATA, OF_DIGEST)),
        Made(attributes=der(0xA0, OF_DIGEST, OF_DATA)),
        Made(attributes=der(0xA0, OF_DATA)),
        Made(attributes=der(0xA0, OF_DIGEST)),
        Made(attributes=der(0xA0, OF_DATA, OF_DIGEST, OF_DIGEST)),
        Made(attributes=der(0xA0, OF_DATA, OF_DIGEST, attribute(TIME, WHEN), attribute(TIME, WHEN))),
        Made(attributes=der(0xA0, attribute(CONTENT_TYPE, SIGNED_DATA), OF_DIGEST)),
        Made(attributes=der(0xA0, attribute(CONTENT_TYPE, DATA, DATA), OF_DIGEST)),
        Made(attributes=der(0xA0, OF_DATA, attribute(DIGEST))),
        Made(attributes=der(0xA0, OF_DATA, attribute(DIGEST, der(4, bytes(32)), der(4, bytes(32))))),
        Made(attributes=der(0xA0, OF_DATA, attribute(DIGEST, der(2, bytes(32))))),
        Made(attributes=der(0xA0, OF_DATA, OF_DIGEST, NULL)),
        Made(attributes=der(0xA0, OF_DATA, OF_DIGEST, der(0x31, TIME, der(0x31, WHEN)))),
        Made(attributes=der(0xA0, attribute(CONTENT_TYPE, der(4, DATA[2:])), OF_DIGEST)),
        Made(signature_algorithm=der(0x30, PSS, der(0x30))),
        Made(signature_algorithm=der(0x30, RSA, der(0x30))),
        Made(signature_algorithm=der(0x30, SHA512_RSA, NULL)),
        Made(signature_algorithm=der(0x30, ECDSA_512)),
        Made(signature_algorithm=der(0x30, DSA)),
        Made(signature_algorithm=der(0x30, SHA256, NULL)),
        Made(signature_algorithm=der(0x30, oid("2a0304"))),
        Made(signature=der(3, bytes(257))),
        Made(signature=b""),
        Made(unsigned=der(0xA1, OF_DATA)),
        Made(unsigned=der(4, b"x")),
        Made(behind=b"\0"),
        Made(behind=NULL),
    ],
)
def test_every_other_form_is_refused(bad: Made) -> None:
    """What the boot ROM may or may not do with it is nobody's to find out."""
    with pytest.raises(hab.FormatError, match="CMS"):
        CmsSignature.parse(bad.der())


@pytest.mark.parametrize(
    "encode",
    [
        lambda made: made[:1] + b"\x83\0" + made[2:],
        lambda made: b"\x30\x80" + made[4:] + b"\0\0",
        lambda made: made.replace(VERSION_1, b"\2\x81\1\1", 1),
        lambda made: b"\x3f\x10" + made[1:],
    ],
    ids=["a longer length", "no length", "a longer length inside", "a longer tag"],
)
def test_other_encodings_of_the_same_are_refused(encode: object) -> None:
    """BER has many for each value, DER one."""
    with pytest.raises(hab.FormatError, match="CMS"):
        CmsSignature.parse(encode(Made().der()))  # type: ignore[operator]


def test_every_truncation_is_refused() -> None:
    """At every length."""
    made = Made().der()
    for length in range(len(made)):
        with pytest.raises(hab.FormatError, match="CMS"):
            CmsSignature.parse(made[:length])


def test_every_changed_byte_is_refused_or_gives_another_signature() -> None:
    """No byte is without meaning."""
    made = Made().der()
    plain = CmsSignature.parse(made)
    for offset in range(len(made)):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            with suppress(hab.FormatError):
                assert CmsSignature.parse(changed_at(made, offset, mask)) != plain


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
@example(data=b"\x30\x80" * 2000)
@example(data=b"\x30\x84\xff\xff\xff\xff")
@example(data=b"\xa0\x82\x10\x00" * 1000)
def test_bytes_that_are_no_signature_are_refused(data: bytes) -> None:
    """However deeply they nest."""
    for candidate in (data, der(0x30, data), der(0x30, SIGNED_DATA, der(0xA0, data))):
        with pytest.raises(hab.FormatError, match="CMS"):
            CmsSignature.parse(candidate)
