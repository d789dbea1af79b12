"""Certificates in the forms that X.509 leaves open, and others that are nearly so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from digsigd.hab.certificate import load, load_file
from digsigd.hab.der import elements
from digsigd.hab.errors import FormatError
from tests.hab.test_certificate import KEY, RSA, changed, extensions, made, sequence
from tests.hab.test_cms_form import der, oid

UNIQUE_ID, OTHER_UNIQUE_ID = der(0x81, b"\0\x12"), der(0x82, b"\0\x34")
VERSION_1, VERSION_2 = (der(0xA0, der(2, bytes([number]))) for number in (0, 1))
KEY_ID = der(0x30, oid("551d0e"), der(4, der(4, b"id")))


def constraints(value: bytes, *critical: bytes) -> bytes:
    """The extension of basic constraints, with this for its value."""
    return der(0x30, oid("551d13"), *critical, der(4, value))


def with_extensions(*listed: bytes) -> bytes:
    return changed(lambda parts: [*parts[:7], der(0xA3, der(0x30, *listed))])


def test_unique_ids_may_follow_the_key() -> None:
    """From version 2 on: RFC 5280, 4.1.2.8. No version 1 has them, and none has extensions before 3."""
    for ids in ((UNIQUE_ID,), (OTHER_UNIQUE_ID,), (UNIQUE_ID, OTHER_UNIQUE_ID)):
        found = load(changed(lambda parts, ids=ids: [VERSION_2, *parts[1:7], *ids]))
        assert (found.version, found.is_ca) == (2, False)
        assert load(changed(lambda parts, ids=ids: [*parts[:7], *ids, *parts[7:]])).version == 3
        for version in ((), (VERSION_1,)):
            with pytest.raises(FormatError, match="parts that its version does not"):
                load(changed(lambda parts, ids=ids, version=version: [*version, *parts[1:7], *ids]))
    for first in (UNIQUE_ID, OTHER_UNIQUE_ID):
        authority = changed(
            lambda parts, first=first: [*parts[:7], first, der(0xA3, der(0x30, constraints(b"\x30\3\1\1\xff")))]
        )
        assert load(authority).is_ca
    with pytest.raises(FormatError, match="a part is missing"):
        load(changed(lambda _: []))
    with pytest.raises(FormatError, match="parts that its version does not"):
        load(changed(lambda parts: [VERSION_2, *parts[1:]]))
    with pytest.raises(FormatError, match="parts that its version does not"):
        load(changed(lambda parts: [*parts[:7], der(0xA4, der(0x30))]))


def test_a_version_may_be_spelled_out() -> None:
    """Though it is the one that is meant without; there is none before it."""
    assert load(changed(lambda parts: [VERSION_1, *parts[1:7]])).version == 1
    for number in (b"\xff", b"\x03"):
        with pytest.raises(FormatError, match="its version is"):
            load(changed(lambda parts, number=number: [der(0xA0, der(2, number)), *parts[1:7]]))


@pytest.mark.parametrize(
    ("value", "is_ca"),
    [
        (b"\x30\0", False),
        (b"\x30\3\1\1\xff", True),
        (b"\x30\3\1\1\0", False),
        (b"\x30\6\1\1\xff\2\1\0", True),
        (b"\x30\6\1\1\0\2\1\0", False),
        (b"\x30\3\2\1\1", False),
    ],
)
def test_constraints_have_a_flag_and_a_length(value: bytes, is_ca: bool) -> None:
    """Either, both, or none; only the flag makes an authority."""
    for critical in ((), (b"\1\1\xff",), (b"\1\1\0",)):
        assert load(with_extensions(KEY_ID, constraints(value, *critical))).is_ca is is_ca


@pytest.mark.parametrize(
    "listed",
    [
        (constraints(b"\x30\3\1\1\xff", b"\1\1\1"),),
        (constraints(b"\x30\3\1\1\xff", b"\1\2\xff\xff"),),
        (constraints(b"\x30\6\2\1\0\1\1\xff"),),
        (constraints(b"\x30\6\1\1\xff\1\1\xff"),),
        (constraints(b"\x30\3\1\1\x7f"),),
        (constraints(b"\x30\4\1\2\xff\xff"),),
        (constraints(b"\x31\3\1\1\xff"),),
        (KEY_ID, KEY_ID),
        (der(0x31, oid("551d13"), der(4, b"\x30\0")),),
        (der(0x30, oid("551d13"), der(3, b"\x30\0")),),
        (der(0x30, der(4, b"\x55\x1d\x13"), der(4, b"\x30\0")),),
        (der(0x30, oid("551d13")),),
    ],
)
def test_extensions_of_another_form_are_refused(listed: tuple[bytes, ...]) -> None:
    """Of those that count, and of those that do not."""
    with pytest.raises(FormatError, match="not a certificate"):
        load(with_extensions(*listed))


@pytest.mark.parametrize(
    ("tag", "text", "year"),
    [
        (0x17, b"500101000000Z", 1950),
        (0x17, b"491231235959Z", 2049),
        (0x17, b"991231235959Z", 1999),
        (0x17, b"000101000000Z", 2000),
        (0x18, b"19500101000000Z", 1950),
        (0x18, b"20240229235959Z", 2024),
    ],
)
def test_the_century_of_a_date_is_told(tag: int, text: bytes, year: int) -> None:
    """RFC 5280, 4.1.2.5.1: two digits from 50 are of the last century."""
    found = load(changed(lambda parts: [*parts[:4], sequence(0x30, der(tag, text), der(tag, text)), *parts[5:]]))
    assert found.not_before == found.not_after
    assert found.not_before.year == year


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"240229235959+0000"),
        (0x17, b"240229235959"),
        (0x17, b"20240229235959Z"),
        (0x18, b"240229235959Z"),
        (0x18, b"20240229235959.5Z"),
        (0x18, b"20240229235959+0000"),
        (0x16, b"20240229235959Z"),
        (0x16, b"240229235959Z"),
        (0x17, b"2402292359\xff9Z"),
        (0x17, b""),
    ],
)
def test_dates_of_another_form_are_refused(tag: int, text: bytes) -> None:
    """Without seconds or with parts of them, in another zone, or under another tag."""
    with pytest.raises(FormatError, match="one of its dates is not valid"):
        load(changed(lambda parts: [*parts[:4], sequence(0x30, der(tag, text), der(tag, text)), *parts[5:]]))


def test_validity_has_two_dates() -> None:
    """No third."""
    date = der(0x17, b"240229235959Z")
    with pytest.raises(FormatError, match="does not have two dates"):
        load(changed(lambda parts: [*parts[:4], sequence(0x30, date, date, date), *parts[5:]]))


@pytest.mark.parametrize(
    ("algorithm", "kind", "name"),
    [
        ("2a864886f70d010105", "rsa", "sha1"),
        ("2a864886f70d01010b", "rsa", "sha256"),
        ("2a864886f70d01010c", "rsa", "sha384"),
        ("2a864886f70d01010d", "rsa", "sha512"),
        ("2a8648ce3d0401", "ecdsa", "sha1"),
        ("2a8648ce3d040302", "ecdsa", "sha256"),
        ("2a8648ce3d040303", "ecdsa", "sha384"),
        ("2a8648ce3d040304", "ecdsa", "sha512"),
        ("2a864886f70d01010a", "", ""),
    ],
)
def test_the_algorithm_of_the_signature_is_told(algorithm: str, kind: str, name: str) -> None:
    """With NULL for its parameters, or without any; with others it is none of HAB4's."""
    for parameters, told in (
        (b"", (kind, name)),
        (der(5), (kind, name)),
        (der(0x30), ("", "")),
        (der(5) * 2, ("", "")),
    ):
        identifier = der(0x30, oid(algorithm), parameters)
        found = load(signed_with(identifier))
        assert (found.kind, found.algorithm) == told
    for wrong in (der(0x30), der(0x30, der(4, oid(algorithm)[2:]))):
        with pytest.raises(FormatError, match="its signature algorithm is not valid"):
            load(signed_with(wrong))


def signed_with(identifier: bytes) -> bytes:
    """A certificate that names this algorithm in both places."""
    (whole,) = elements(changed(lambda parts: [*parts[:2], identifier, *parts[3:]]))
    body, _, signature = elements(whole.content)
    return der(0x30, body.whole, identifier, signature.whole)


def test_a_signature_has_whole_bytes() -> None:
    """A string of bits may have some to spare; no signature does."""
    (whole,) = elements(changed(lambda parts: parts))
    body, algorithm, signature = elements(whole.content)
    spared = der(3, b"\1" + signature.content[1:])
    with pytest.raises(FormatError, match="unused bits"):
        load(der(0x30, body.whole, algorithm.whole, spared))
    with pytest.raises(FormatError, match="unused bits"):
        load(der(0x30, body.whole, algorithm.whole, der(3)))


@pytest.mark.parametrize(
    "dotted",
    [
        "0.9.2342.19200300.100.1.25",
        "1.2.840.113549.1.9.1",
        "2.5.4.5",
        "2.999.1",
        "2.39.1",
        "1.0.1",
        "0.39.1",
        "1.39.1",
        "2.0.1",
    ],
)
def test_parts_of_names_without_a_short_name_are_shown_by_their_number(dotted: str) -> None:
    """X.690, 8.19: the first two numbers are one."""
    identifier = x509.ObjectIdentifier(dotted)
    subject = x509.Name([x509.NameAttribute(identifier, "here")])
    assert load(made(subject=subject)).name == f"{dotted}=here"


def test_a_long_name_is_cut() -> None:
    """At a hundred characters."""
    parts = ((NameOID.ORGANIZATION_NAME, "o" * 64), (NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 64))
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
    assert load(made(subject=subject)).name == "OU=" + "u" * 64 + ",O=" + "o" * 30


@pytest.mark.parametrize(
    "name",
    [
        der(0x30, der(0x30, der(0x30, oid("550403"), der(0x0C, b"x")))),
        der(0x30, der(0x31, der(0x30, oid("550403")))),
        der(0x30, der(0x31, der(0x30, oid("550403"), der(0x0C, b"x"), der(5)))),
        der(0x30, der(0x31, der(0x30, der(4, b"\x55\4\3"), der(0x0C, b"x")))),
        der(0x30, der(0x31, der(0x30, oid("550403"), der(0x04, b"x")))),
        der(0x30, der(0x31, der(0x30, oid("550403"), der(0x0C, b"\xff")))),
    ],
)
def test_a_certificate_whose_name_cannot_be_read_is_a_certificate(name: bytes) -> None:
    """Nothing depends on it but what people are told."""
    assert load(changed(lambda parts: [*parts[:5], name, *parts[6:]])).name == (
        "a certificate without a readable subject"
    )


def test_a_file_begins_with_what_it_is() -> None:
    """DER by its first byte; anything else is looked through for PEM."""
    for data in (b"", b"\x31" + made()[1:], b"-----BEGIN CERTIFICATE-----"):
        with pytest.raises(FormatError, match="neither DER nor PEM"):
            load_file(data)


def test_dates_are_in_utc() -> None:
    """As they stand there."""
    found = load(made(key=RSA, end=datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)))
    assert found.not_after == datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert isinstance(found.public_key, rsa.RSAPublicKey)
    assert found.public_key != KEY.public_key()
    assert load(with_extensions(KEY_ID)).is_ca is load(changed(lambda parts: [*parts[:7], extensions()])).is_ca is False
