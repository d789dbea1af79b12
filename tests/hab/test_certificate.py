"""Certificates as HAB4 sees them: those of openssl and cryptography, and what is none."""

from __future__ import annotations

import subprocess
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from digsigd.hab.certificate import Certificate, load, load_file
from digsigd.hab.errors import FormatError

KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
SHA256 = hashes.SHA256()
START = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def made(
    *,
    key: object = KEY,
    subject: x509.Name | None = None,
    ca: bool | None = False,
    algorithm: hashes.HashAlgorithm | None = SHA256,
    end: datetime = START + timedelta(days=3650),
    **sign: object,
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "IMG1_1_sha256_secp256r1_v3_usr")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name if subject is None else subject)
        .issuer_name(name)
        .not_valid_before(START)
        .not_valid_after(end)
        .serial_number(0x1234)
        .public_key(key.public_key())  # type: ignore[attr-defined]
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=ca)
    builder = builder.add_extension(x509.SubjectKeyIdentifier(b"1" * 20), critical=False)
    return builder.sign(key, algorithm, **sign).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def sequence(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
    if 0x80 <= size < 0x100:
        length = bytes([0x81, size])
    return bytes([tag]) + length + content


def changed(edit: object) -> bytes:
    """A certificate of `made`, the parts of its body edited, and signed anew."""
    from digsigd.hab.der import elements

    (whole,) = elements(made())
    body, algorithm, _ = elements(whole.content)
    parts = [one.whole for one in elements(body.content)]
    body_der = sequence(0x30, *edit(parts))  # type: ignore[operator]
    signature = KEY.sign(body_der, ec.ECDSA(hashes.SHA256()))
    return sequence(0x30, body_der, algorithm.whole, sequence(0x03, b"\0" + signature))


def openssl(folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *options: str) -> bytes:
    """A self-signed certificate of openssl's."""
    out = folder / "one.der"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key").write_bytes(pem)
    subprocess.run(
        ["openssl", "req", "-x509", "-new", "-key", folder / "key", "-outform", "DER", "-out", out,
         "-subj", "/CN=CSF1_1", "-days", "30", *options],
        check=True, capture_output=True,
    )  # fmt: skip
    return out.read_bytes()


def assert_is(found: Certificate, der: bytes) -> None:
    """What we read is what cryptography reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = x509.load_der_x509_certificate(der)
        assert found.serial == theirs.serial_number
    assert found.der == der
    assert found.issuer == theirs.issuer.public_bytes()
    assert found.subject == theirs.subject.public_bytes()
    assert (found.not_before, found.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert found.public_key == theirs.public_key()
    assert found.tbs == theirs.tbs_certificate_bytes
    assert found.signature == theirs.signature


@pytest.mark.parametrize("serial", ["0", "-5", "-129", "1", "0x80", "0x0123456789abcdef0123456789abcdef01234567"])
@pytest.mark.parametrize("key", [KEY, RSA], ids=["ec", "rsa"])
def test_any_serial_number_is_read_without_a_warning(
    tmp_path: Path, serial: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    """Serial numbers of 0 and less are numbers as others are."""
    der = openssl(tmp_path, key, "-set_serial", serial)
    found = load(der)
    assert found.serial == int(serial, 0)
    assert_is(found, der)


def test_no_loader_of_others_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cryptography that refuses serial numbers of 0 changes nothing."""
    der = openssl(tmp_path, KEY, "-set_serial", "0")

    def refuse(_: bytes) -> None:
        raise ValueError("invalid serial number")

    monkeypatch.setattr(x509, "load_der_x509_certificate", refuse)
    monkeypatch.setattr(x509, "load_pem_x509_certificate", refuse)
    assert load(der).serial == 0
    assert load_file(der) == load(der)


@pytest.mark.parametrize("key", [KEY, RSA], ids=["ec", "rsa"])
@pytest.mark.parametrize("algorithm", [SHA256, hashes.SHA384(), hashes.SHA512()], ids=lambda one: one.name)
def test_the_signature_is_told(key: object, algorithm: hashes.HashAlgorithm) -> None:
    """Kind and hash of the signature are those that it was made with."""
    der = made(key=key, algorithm=algorithm)
    found = load(der)
    assert (found.kind, found.algorithm) == ("rsa" if key is RSA else "ecdsa", algorithm.name)
    assert_is(found, der)


def test_the_flag_of_authorities_is_told() -> None:
    """Basic constraints with cA are a CA's, those without, and none at all, are not."""
    assert load(made(ca=True)).is_ca
    assert not load(made(ca=False)).is_ca
    assert not load(made(ca=None)).is_ca


def test_version_1_has_no_extensions() -> None:
    """A certificate of X.509 v1 is read, and is no CA's."""
    found = load(changed(lambda parts: parts[1:-1]))
    assert (found.version, found.is_ca, found.serial) == (1, False, 0x1234)
    assert_is(found, found.der)


def test_signatures_and_keys_that_hab_does_not_have_are_told_as_none() -> None:
    """RSA-PSS is no kind of signature of HAB4, Ed25519 no kind of key."""
    pss = load(made(key=RSA, rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)))
    assert (pss.kind, pss.algorithm) == ("", "")
    other = load(made(key=ed25519.Ed25519PrivateKey.generate(), algorithm=None))
    assert (other.kind, other.public_key) == ("", None)


@pytest.mark.parametrize("end", [datetime(2049, 12, 31, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)])
def test_dates_have_two_forms(end: datetime) -> None:
    """Dates of 2050 and later stand in another form."""
    assert load(made(end=end)).not_after == end


def test_names_are_told_for_people() -> None:
    """The common name, else the whole name, without control characters and not without an end."""

    def name(*parts: tuple[x509.ObjectIdentifier, str]) -> str:
        return load(made(subject=x509.Name([x509.NameAttribute(oid, text) for oid, text in parts]))).name

    assert name((NameOID.ORGANIZATION_NAME, "Zürich"), (NameOID.COMMON_NAME, "SRK1 ü")) == "SRK1 ü"
    assert name((NameOID.COUNTRY_NAME, "DE"), (NameOID.SERIAL_NUMBER, "7")) == "2.5.4.5=7,C=DE"
    assert name((NameOID.COMMON_NAME, "a\nb" + "c" * 61)) == "a?b" + "c" * 61
    assert name() == ""


def test_files_are_pem_or_der() -> None:
    """The first certificate of a PEM file counts, with whatever text before it."""
    der, other = made(), made(ca=True)
    pem = [x509.load_der_x509_certificate(one).public_bytes(Encoding.PEM) for one in (der, other)]
    for data in (der, pem[0], b"Certificate:\n    Data:\n" + pem[0], pem[0] + pem[1], pem[0].replace(b"\n", b"\r\n")):
        assert load_file(data).der == der
    assert load_file(pem[0].replace(b"CERTIFICATE", b"X509 CERTIFICATE")).der == der


def extensions(*values: bytes) -> bytes:
    """Extensions with these basic constraints."""
    return sequence(0xA3, sequence(0x30, *(sequence(0x30, b"\6\3\x55\x1d\x13", sequence(4, one)) for one in values)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda parts: [*parts, parts[-1]],
        lambda parts: [b"\xa0\x03\x02\x01\x03", *parts[1:]],
        lambda parts: [b"\xa0\x03\x02\x01\x00", *parts[1:]],
        lambda parts: parts[1:],
        lambda parts: [parts[0], b"\x02\x02\x00\x01", *parts[2:]],
        lambda parts: parts[:5],
        lambda parts: [*parts[:2], sequence(0x30, bytes.fromhex("06092a864886f70d01010b0500")), *parts[3:]],
        lambda parts: [*parts[:4], sequence(0x30, b"\x17\x0d240229235959Z"), *parts[5:]],
        lambda parts: [*parts[:4], sequence(0x30, b"\x17\x0d230229235959Z" * 2), *parts[5:]],
        lambda parts: [*parts[:4], sequence(0x30, b"\x17\x0b2402292359Z" * 2), *parts[5:]],
        lambda parts: [*parts[:6], parts[6][:-1] + b"x", *parts[7:]],
        lambda parts: [*parts[:7], extensions(b"\x30\0", b"\x30\0")],
        lambda parts: [*parts[:7], extensions(b"\x30\3\1\1\1")],
        lambda parts: [*parts[:7], extensions(b"\x30\3\4\1\1")],
    ],
)
def test_what_is_no_certificate_is_refused(edit: object) -> None:
    """What X.509 does not have, has twice, or cannot be read raises an error, and nothing else."""
    assert load(changed(lambda parts: parts)).serial == 0x1234
    with pytest.raises(FormatError, match="not a certificate"):
        load(changed(edit))


def test_no_end_and_no_byte_of_another_goes_unseen() -> None:
    """A certificate that is cut, goes on, or has any byte changed is refused, or it is told as another one."""
    der = made()
    good = load(der)
    for end in range(len(der)):
        with pytest.raises(FormatError):
            load(der[:end])
    with pytest.raises(FormatError):
        load(der + b"\0")
    for place in range(len(der)):
        for value in (0, 0xFF, der[place] ^ 1, der[place] ^ 0x80):
            data = der[:place] + bytes([value]) + der[place + 1 :]
            try:
                assert (load(data) == good) == (data == der)
            except FormatError:
                continue
    for data in (b"", b"\x30", b"junk", b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"):
        with pytest.raises(FormatError, match="not a certificate"):
            load_file(data)
    damaged = b"-----BEGIN CERTIFICATE-----\nAAA=A\n-----END CERTIFICATE-----\n"
    with pytest.raises(FormatError, match="damaged"):
        load_file(damaged)


def test_keys_on_their_own_are_read() -> None:
    """The public key is the one that the certificate is of."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = load(made(key=RSA)).public_key
    assert key is not None
    assert key.public_bytes(*form) == RSA.public_key().public_bytes(*form)
