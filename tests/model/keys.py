"""Throw-away keys and certificates for random CSFs, and the tables of SRKs, all built here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from tests.model.asn1 import der, number, oid

HASHES: dict[str, Any] = {
    "sha1": hashes.SHA1(),  # noqa: S303 -- for what is to be refused
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_OIDS = {"sha1": "2b0e03021a", "sha256": "608648016503040201", "sha384": "608648016503040202",
         "sha512": "608648016503040203"}  # fmt: skip
_CURVES = {"p256": (ec.SECP256R1(), 0x4B, 32), "p384": (ec.SECP384R1(), 0x4D, 48), "p521": (ec.SECP521R1(), 0x4E, 66)}


@dataclass(frozen=True)
class Owner:
    """A private key with its certificate."""

    name: str
    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def issuer(self) -> bytes:
        return self.certificate.issuer.public_bytes()

    def signature(self, data: bytes, algorithm: str) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), HASHES[algorithm])
        result: bytes = self.key.sign(data, ec.ECDSA(HASHES[algorithm]))
        return result

    def cms(self, data: bytes, algorithm: str = "sha256") -> bytes:
        """A detached CMS signature with signed attributes, RFC 5652."""
        digest = hashlib.new(algorithm, data).digest()
        attributes = (
            der(0x30, oid("2a864886f70d010903"), der(0x31, oid("2a864886f70d010701"))),
            der(0x30, oid("2a864886f70d010904"), der(0x31, der(4, digest))),
        )
        signature = self.signature(der(0x31, *attributes), algorithm)
        named = der(0x30, oid(_OIDS[algorithm]))
        if isinstance(self.key, rsa.RSAPrivateKey):
            kind = der(0x30, oid("2a864886f70d010101"), der(5))
        else:
            kind = der(0x30, oid("2a8648ce3d0403" + {"sha256": "02", "sha384": "03", "sha512": "04"}[algorithm]))
        identity = der(0x30, self.issuer, number(self.certificate.serial_number))
        signer = der(0x30, der(2, b"\1"), identity, named, der(0xA0, *attributes), kind, der(4, signature))
        content = der(0x30, oid("2a864886f70d010701"))
        signed = der(0x30, der(2, b"\1"), der(0x31, named), content, der(0x31, signer))
        return der(0x30, oid("2a864886f70d010702"), der(0xA0, signed))


@dataclass(frozen=True)
class Pki:
    """SRKs in a table; below each a key for CSFs, and for data: plain ones, an intermediate CA, and one below that."""

    kind: str
    fast: bool
    srks: tuple[Owner, ...]
    csfks: tuple[Owner, ...]
    images: tuple[tuple[Owner, ...], ...]
    middle: tuple[Owner, ...]
    below: tuple[Owner, ...]
    hashed: int | None

    @property
    def table(self) -> bytes:
        """The SRK table; the one in `hashed` only as a hash."""
        entries = []
        for number_, srk in enumerate(self.srks):
            entry = _entry(srk.key.public_key(), ca=not self.fast)
            if number_ == self.hashed:
                entry = b"\xee\0\x24\x17" + hashlib.sha256(entry).digest()
            entries.append(entry)
        body = b"".join(entries)
        return b"\xd7" + (4 + len(body)).to_bytes(2, "big") + b"\x40" + body

    @property
    def fuses(self) -> bytes:
        """What the boards have."""
        digests = [hashlib.sha256(_entry(srk.key.public_key(), ca=not self.fast)).digest() for srk in self.srks]
        return hashlib.sha256(b"".join(digests)).digest()


def _entry(public: Any, *, ca: bool) -> bytes:
    flag = b"\x80" if ca else b"\0"
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        modulus, exponent = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"), b"\1\0\1"
        body = len(modulus).to_bytes(2, "big") + b"\0\3" + modulus + exponent
        algorithm = b"\x21"
    else:
        curve, code, size = next(one for one in _CURVES.values() if one[0].name == public.curve.name)
        point = public.public_numbers()
        body = bytes([code, 0]) + curve.key_size.to_bytes(2, "big")
        body += point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
        algorithm = b"\x27"
    return b"\xe1" + (8 + len(body)).to_bytes(2, "big") + algorithm + b"\0\0\0" + flag + body


def _new(kind: str) -> Any:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key(_CURVES[kind][0])


def _owner(kind: str, name: str, by: Owner | None, serial: int, *, ca: bool | None, algorithm: str = "sha256") -> Owner:
    key = _new(kind)
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return Owner(name, key, builder.sign(by.key if by else key, HASHES[algorithm]))


@cache
def pki(kind: str, *, fast: bool, number_of: int) -> Pki:
    """Keys of one kind, made once."""
    srks = tuple(_owner(kind, f"SRK{n}", None, n + 1, ca=not fast) for n in range(number_of))
    if fast:
        return Pki(kind, fast, srks, (), (), (), (), None)
    csfks = tuple(_owner(kind, f"CSF{n}", srk, 0x10 + n, ca=False) for n, srk in enumerate(srks))
    images = tuple(
        tuple(_owner(kind, f"IMG{n}{m}", srk, 0x20 + 4 * n + m, ca=(False, None, False)[m]) for m in range(3))
        for n, srk in enumerate(srks)
    )
    middle = tuple(_owner(kind, f"MID{n}", srk, 0x40 + n, ca=True) for n, srk in enumerate(srks))
    below = tuple(_owner(kind, f"LOW{n}", one, 0x50 + n, ca=False) for n, one in enumerate(middle))
    return Pki(kind, fast, srks, csfks, images, middle, below, None)
