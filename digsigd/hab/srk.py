"""SRK tables: read and build them, and their fuse value.

Format: HABv4 API Reference Manual, "Super Root Key table" and "Public key"; what it leaves open (the layout of ECDSA
keys, the place of the flag) was read from tables that NXP's srktool makes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from digsigd.hab.errors import FormatError

TAG_TABLE = 0xD7  # HAB_TAG_CRT
VERSION = 0x40
TAG_KEY = 0xE1  # HAB_KEY_PUBLIC
TAG_HASH = 0xEE  # HAB_KEY_HASH
RSA = 0x21  # HAB_ALG_PKCS1
ECDSA = 0x27  # HAB_ALG_ECDSA
SHA256 = 0x17  # HAB_ALG_SHA256
FLAG_CA = 0x80  # HAB_KEY_FLG_CA
MAX_RECORDS = 4

# Curve id -> curve, size of a coordinate in bytes.
CURVES: dict[int, tuple[type[ec.EllipticCurve], int]] = {
    0x4B: (ec.SECP256R1, 32),
    0x4D: (ec.SECP384R1, 48),
    0x4E: (ec.SECP521R1, 66),
}
# In bits: the sizes that NXP's hab4_pki_tree.sh makes. Newer versions leave out 1024, but boards with such keys exist.
RSA_SIZES = (1024, 2048, 3072, 4096)
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class SrkRecord:
    """One Super Root Key of a table.

    `data` are the bytes of the record. `key` is None if the record has only a hash. `ca`: the key can sign
    certificates; without the flag it signs data (fast authentication). A record with only a hash counts as a CA.
    """

    data: bytes = field(repr=False)
    hash: bytes
    key: PublicKey | None
    ca: bool


@dataclass(frozen=True, slots=True)
class SrkTable:
    """One to four Super Root Keys, whose fuse value is in the board's fuses."""

    data: bytes = field(repr=False)
    records: tuple[SrkRecord, ...]

    @classmethod
    def parse(cls, data: bytes) -> SrkTable:
        """Read a table, which must fill `data` to the end. Raises `FormatError`."""
        return _table(bytes(data))

    @property
    def fuse_value(self) -> bytes:
        """The 32 bytes burnt into the fuses: SHA-256 over the hashes of all records, in order."""
        return hashlib.sha256(b"".join(record.hash for record in self.records)).digest()

    @property
    def fuse_words(self) -> tuple[int, ...]:
        """The fuse value as eight 32-bit words, in the order and form of U-Boot's `fuse prog`."""
        return struct.unpack("<8I", self.fuse_value)


def why_not_hab(key: PublicKey) -> str | None:
    """Return why HAB4 does not support a key, by its curve or its size, or None."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in RSA_SIZES:
            return None
        return f"an RSA key of {key.key_size} bits; HAB4 has {', '.join(str(size) for size in RSA_SIZES)}"
    if any(isinstance(key.curve, curve) for curve, _ in CURVES.values()):
        return None
    return f"an ECDSA key on {key.curve.name}; HAB4 has {', '.join(curve().name for curve, _ in CURVES.values())}"


# A machine's table is read several times for every image.
@lru_cache(maxsize=32)
def _table(data: bytes) -> SrkTable:
    if len(data) < 4:
        raise FormatError(f"an SRK table has at least 4 bytes, not {len(data)}", 0)
    tag, length, version = struct.unpack_from(">BHB", data)
    if tag != TAG_TABLE:
        raise FormatError(f"an SRK table begins with the byte {TAG_TABLE:#x}, not {tag:#x}", 0)
    if version & 0xF0 != VERSION:
        raise FormatError(f"the SRK table has version {version:#x}; HAB4's is {VERSION:#x}", 3)
    if length != len(data):
        raise FormatError(f"the SRK table has {length} bytes according to its header, but {len(data)} are given", 1)
    records: list[SrkRecord] = []
    position = 4
    while position < length:
        if len(records) == MAX_RECORDS:
            raise FormatError(f"an SRK table has at most {MAX_RECORDS} keys", position)
        record, position = _record(data, position)
        records.append(record)
    if not records:
        raise FormatError("the SRK table has no key", 4)
    return SrkTable(data, tuple(records))


def _record(data: bytes, start: int) -> tuple[SrkRecord, int]:
    """Return the record at `start`, and where the next one begins."""
    if start + 4 > len(data):
        raise FormatError("the SRK table ends inside a record", start)
    tag, length, algorithm = struct.unpack_from(">BHB", data, start)
    end = start + length
    if length < 4 or end > len(data):
        raise FormatError(f"an SRK record of {length} bytes does not fit the table", start + 1)
    record = data[start:end]
    if tag == TAG_HASH:
        if algorithm != SHA256 or length != 4 + 32:
            raise FormatError(
                f"an SRK record with a hash has the algorithm {algorithm:#x} and {length} bytes, not 0x17 and 36",
                start,
            )
        return SrkRecord(record, record[4:], None, ca=True), end
    if tag != TAG_KEY:
        raise FormatError(f"an SRK record begins with {TAG_KEY:#x} or {TAG_HASH:#x}, not {tag:#x}", start)
    if length < 12:
        raise FormatError(f"an SRK record with a key has more than {length} bytes", start + 1)
    if algorithm == RSA:
        key: PublicKey = _rsa_key(record, start)
    elif algorithm == ECDSA:
        key = _ec_key(record, start)
    else:
        raise FormatError(f"an SRK record has the unknown algorithm {algorithm:#x}", start + 3)
    return SrkRecord(record, hashlib.sha256(record).digest(), key, ca=bool(record[7] & FLAG_CA)), end


def _rsa_key(record: bytes, start: int) -> rsa.RSAPublicKey:
    modulus_size, exponent_size = struct.unpack_from(">HH", record, 8)
    if 12 + modulus_size + exponent_size != len(record):
        raise FormatError("the sizes of an SRK record's modulus and exponent do not add up", start + 8)
    modulus = int.from_bytes(record[12 : 12 + modulus_size], "big")
    exponent = int.from_bytes(record[12 + modulus_size :], "big")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise FormatError(f"the RSA key of an SRK record is invalid: {error}", start + 12) from None


def _ec_key(record: bytes, start: int) -> ec.EllipticCurvePublicKey:
    curve_id, _, bits = struct.unpack_from(">BBH", record, 8)
    if curve_id not in CURVES:
        raise FormatError(f"an SRK record has the unknown curve {curve_id:#x}", start + 8)
    curve, size = CURVES[curve_id]
    if bits != curve.key_size or len(record) != 12 + 2 * size:
        raise FormatError(f"the {curve.name} key of an SRK record has {bits} bits in {len(record)} bytes", start + 8)
    x, y = (int.from_bytes(part, "big") for part in (record[12 : 12 + size], record[12 + size :]))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError as error:
        raise FormatError(f"the ECDSA key of an SRK record is invalid: {error}", start + 12) from None


def build_srk_table(certificates: Sequence[x509.Certificate]) -> bytes:
    """Build the SRK table of one to four certificates, byte for byte as srktool makes it.

    A certificate with the CA flag in its basic constraints gives a record with the flag. Raises `ValueError` for
    another number of certificates, and for a kind of key that HAB4 does not support.
    """
    if not 1 <= len(certificates) <= MAX_RECORDS:
        raise ValueError(f"an SRK table has 1 to {MAX_RECORDS} keys, not {len(certificates)}")
    body = b"".join(_build_record(certificate) for certificate in certificates)
    return struct.pack(">BHB", TAG_TABLE, 4 + len(body), VERSION) + body


def _build_record(certificate: x509.Certificate) -> bytes:
    try:
        ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        ca = False
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        algorithm = RSA
        body = struct.pack(">HH", len(modulus), len(exponent)) + modulus + exponent
    elif isinstance(key, ec.EllipticCurvePublicKey):
        for curve_id, (curve, size) in CURVES.items():
            if isinstance(key.curve, curve):
                point = key.public_numbers()
                algorithm = ECDSA
                body = struct.pack(">BBH", curve_id, 0, curve.key_size)
                body += point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
                break
        else:
            raise ValueError(f"HAB4 does not support the curve {key.curve.name}")
    else:
        raise ValueError("an SRK must be an RSA or ECDSA key")  # noqa: TRY004 - a wrong value, not a wrong type
    flags = FLAG_CA if ca else 0
    return struct.pack(">BHB3xB", TAG_KEY, 8 + len(body), algorithm, flags) + body
