"""Blobs that cst does not make: any commands, with real keys and real CMS signatures of another maker.

Offsets stand in the commands, and signatures over the commands cover those. Everything is therefore laid out twice,
first for the sizes alone, which for RSA do not depend on what is signed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from digsigd.hab.csf_blob import Authenticate, CsfBlob, InstallKey

SHA256 = 0x17
SIGNER = rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Piece:
    """A command, and what it points to: `make` gets the area of all commands and gives the object's contents."""

    start: bytes
    end: bytes = b""
    tag: int = 0
    make: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Named:
    """A key with its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def certificate_of(
    public_key: Any,
    name: str = "forged",
    issuer: tuple[str, rsa.RSAPrivateKey] | None = None,
    *,
    ca: bool | None = None,
    serial: int = 7,
    algorithm: hashes.HashAlgorithm | None = None,
    more: x509.ExtensionType | None = None,
) -> x509.Certificate:
    """A certificate of any key, by the module's own signer unless told otherwise; `ca` None leaves the flag out."""
    issuer_name, issuer_key = issuer or (name, SIGNER)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if more is not None:
        builder = builder.add_extension(more, critical=False)
    return builder.sign(issuer_key, algorithm or hashes.SHA256())  # type: ignore[arg-type]


def named(name: str, issuer: Named | None = None, *, ca: bool = False, serial: int = 7) -> Named:
    """A new key with a certificate, its own or by `issuer`."""
    key = rsa.generate_private_key(65537, 2048)
    by = (issuer.certificate.subject.rfc4514_string()[3:], issuer.key) if issuer else (name, key)
    return Named(key, certificate_of(key.public_key(), name, by, ca=ca, serial=serial))


def cms(data: bytes, by: Named, algorithm: hashes.SHA256 | hashes.SHA512 | None = None) -> bytes:
    """A detached CMS signature."""
    builder = (
        pkcs7.PKCS7SignatureBuilder().set_data(data).add_signer(by.certificate, by.key, algorithm or hashes.SHA256())
    )
    options = pkcs7.PKCS7Options
    chosen = [options.Binary, options.DetachedSignature, options.NoCerts, options.NoCapabilities]
    return builder.sign(serialization.Encoding.DER, chosen)


def install_srk(table: bytes, source: int = 0, *, target: int = 0, flags: int = 0, hashed: int = SHA256) -> Piece:
    """Install SRK; the table brings its own header."""
    return Piece(struct.pack(">BHBBBBB", 0xBE, 12, flags, 0x03, hashed, source, target), tag=-1, make=lambda _: table)


def install(
    certificate: bytes, source: int, target: int, *, flags: int = 0, protocol: int = 0x09, hashed: int = 0
) -> Piece:
    """Install Key, or Install CSFK with the flags 2."""
    start = struct.pack(">BHBBBBB", 0xBE, 12, flags, protocol, hashed, source, target)
    return Piece(start, tag=0xD7, make=lambda _: certificate)


def authenticate(
    key: int,
    make: Callable[[bytes], bytes],
    *blocks: tuple[int, int],
    flags: int = 0,
    protocol: int = 0xC5,
    engine: int = 0,
    configuration: int = 0,
) -> Piece:
    """Authenticate CSF, or Authenticate Data where there are blocks."""
    end = b"".join(struct.pack(">II", *block) for block in blocks)
    start = struct.pack(">BHBBBBB", 0xCA, 12 + len(end), flags, key, protocol, engine, configuration)
    return Piece(start, end, 0xAC if protocol == 0xA3 else 0xD8, make)


def decrypt(key: int, mac: bytes, *blocks: tuple[int, int], engine: int = 0x1D) -> Piece:
    """Decrypt Data."""
    return authenticate(key, lambda _: mac, *blocks, protocol=0xA3, engine=engine)


def secret_key(address: int, source: int, target: int, *, flags: int = 1, hashed: int = 0) -> Piece:
    """Install Secret Key, whose wrapped key stands at an address in memory."""
    return Piece(struct.pack(">BHBBBBBI", 0xBE, 12, flags, 0xBB, hashed, source, target, address))


def other(tag: int, parameter: int = 0, body: bytes = b"") -> Piece:
    """A command that points to nothing."""
    return Piece(struct.pack(">BHB", tag, 4 + len(body), parameter) + body)


def forge(*pieces: Piece, version: int = 0x43, loose: tuple[bytes, ...] = ()) -> bytes:
    """Lay the pieces out; `loose` are certificates that no command points to, behind everything else."""
    return _lay_out(pieces, _lay_out(pieces, b"", version, ())[0], version, loose)[1]


def unpadded(blob: bytes) -> bytes:
    """A blob of `forge` without loose certificates, cut where its last object ends. A signature may end with zeros."""
    last = max(one.data_offset for one in CsfBlob.parse(blob).commands if isinstance(one, InstallKey | Authenticate))
    return blob[: last + int.from_bytes(blob[last + 1 : last + 3], "big")]


def _lay_out(pieces: tuple[Piece, ...], area: bytes, version: int, loose: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    length = 4 + sum(len(piece.start) + len(piece.end) + 4 * (piece.make is not None) for piece in pieces)
    commands, objects = struct.pack(">BHB", 0xD4, length, version), b""
    for piece in pieces:
        commands += piece.start
        if piece.make is not None:
            commands += struct.pack(">I", length + len(objects))
            content = piece.make(area)
            header = b"" if piece.tag == -1 else struct.pack(">BHB", piece.tag, 4 + len(content), version)
            objects += padded(header + content)
        commands += piece.end
    for certificate in loose:
        objects += padded(struct.pack(">BHB", 0xD7, 4 + len(certificate), version) + certificate)
    return commands, commands + objects


def padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 4)
