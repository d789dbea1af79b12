"""SRK records, tables (version 1) and arrays (version 2) of AHAB: read, and their hashes.

Format: NXP cst, ahab_types.h; SPSDK, spsdk/image/ahab/ahab_srk.py; what they leave open was read from tables that NXP's
srktool 3.4.1 and 4.0.1 make.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from digsigd.ahab.digests import digest
from digsigd.ahab.errors import FormatError

TABLE_TAG, TABLE_VERSION, TABLE_V2_VERSION = 0xD7, 0x42, 0x43
ARRAY_TAG, DATA_TAG, RECORD_TAG = 0x5A, 0x5D, 0xE1
RSA, RSA_PSS, ECDSA, SM2, DILITHIUM, ML_DSA = 0x21, 0x22, 0x27, 0x28, 0xD1, 0xD2
FLAG_CA = 0x80
RECORDS = 4
# In version 2 a record has this many bytes: the hash of its SRK data stands in place of the key.
RECORD_V2_SIZE, DATA_HASH_SIZE = 76, 64
_RECORD = struct.Struct("<BHBBBBBHH")
_DATA = struct.Struct("<BHBB3s")
_ARRAY = struct.Struct("<BHBB3s")
ALGORITHMS = {
    RSA: "RSA", RSA_PSS: "RSA-PSS", ECDSA: "ECDSA", SM2: "SM2", DILITHIUM: "Dilithium", ML_DSA: "ML-DSA",
}  # fmt: skip
SIGNATURE_HASHES = {0: "sha256", 1: "sha384", 2: "sha512", 3: "sm3", 4: "sha3-256", 5: "sha3-384", 6: "sha3-512"}
# Those that containers of version 0 have: SPSDK, spsdk/image/ahab/ahab_data.py.
HASHES_V0 = (0, 1, 2, 3)
# Code of a size -> name, and the lengths in bytes of the key's two parts: modulus and exponent, X and Y, the whole key.
CURVES: dict[int, tuple[type[ec.EllipticCurve], int]] = {
    1: (ec.SECP256R1, 32),
    2: (ec.SECP384R1, 48),
    3: (ec.SECP521R1, 66),
}
RSA_SIZES = {5: 2048, 6: 3072, 7: 4096}
ML_DSA_SIZES = {9: (65, 1952, 3309), 0xA: (87, 2592, 4627)}  # level, key, signature: FIPS 204, table 2
_CURVE_NAMES = {1: "P-256", 2: "P-384", 3: "P-521"}
PublicKey: TypeAlias = Any  # RSA, ECDSA, or ML-DSA where cryptography has it


@dataclass(frozen=True, slots=True)
class SrkRecord:
    """One key of a table or a certificate.

    `algorithm`, `hash_code`, `size_code` and `flags` are the numbers in the record. `lengths` are those of the key's
    two parts in bytes, `crypto` the parts; both parts are empty in a record of version 2 whose SRK data are not there.
    `data_hash` are the 64 bytes that stand in place of the key in version 2, and empty else.
    """

    algorithm: int
    hash_code: int
    size_code: int
    flags: int
    lengths: tuple[int, int]
    crypto: tuple[bytes, bytes] = field(repr=False)
    data_hash: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def hash_name(self) -> str:
        """The hash of its signatures."""
        return SIGNATURE_HASHES.get(self.hash_code, f"hash {self.hash_code}")

    @property
    def is_ca(self) -> bool:
        """Whether the key signs certificates."""
        return bool(self.flags & FLAG_CA)

    @property
    def name(self) -> str:
        """The kind of key for people: "ECDSA P-384", "RSA-PSS 2048"."""
        kind = ALGORITHMS.get(self.algorithm, f"algorithm {self.algorithm:#x}")
        return f"{kind} {self._size()}"

    @property
    def type(self) -> tuple[int, int, int, int]:
        """What all four records of a table have in common: algorithm, hash, size, flags."""
        return self.algorithm, self.hash_code, self.size_code, self.flags

    @property
    def signature_size(self) -> int:
        """The number of bytes of its signatures."""
        if self.algorithm in (RSA, RSA_PSS):
            return RSA_SIZES[self.size_code] // 8
        if self.algorithm in (ECDSA, SM2):
            return 2 * CURVES[self.size_code][1]
        return ML_DSA_SIZES[self.size_code][2]

    def public_key(self) -> PublicKey:
        """Return the key. Raises `FormatError` if it is not valid, not there, or not of a kind that is known here."""
        if not any(self.crypto):
            raise FormatError("the SRK record has only the hash of its key")
        try:
            if self.algorithm in (RSA, RSA_PSS):
                modulus, exponent = (int.from_bytes(part, "big") for part in self.crypto)
                return rsa.RSAPublicNumbers(exponent, modulus).public_key()
            if self.algorithm == ECDSA:
                x, y = (int.from_bytes(part, "big") for part in self.crypto)
                return ec.EllipticCurvePublicNumbers(x, y, CURVES[self.size_code][0]()).public_key()
        except ValueError as error:
            raise FormatError(f"the {self.name} key of an SRK record is not valid: {error}") from None
        return _ml_dsa_key(self)

    def _size(self) -> str:
        if self.size_code in RSA_SIZES:
            return str(RSA_SIZES[self.size_code])
        if self.size_code in ML_DSA_SIZES:
            return str(ML_DSA_SIZES[self.size_code][0])
        return _CURVE_NAMES.get(self.size_code, f"size {self.size_code:#x}")


@dataclass(frozen=True, slots=True)
class SrkData:
    """A key of version 2 with the number of its record. `raw` has its 8 bytes of header."""

    number: int
    key: bytes = field(repr=False)
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SrkTable:
    """The four SRKs of a container of version 0."""

    records: tuple[SrkRecord, ...]
    raw: bytes = field(repr=False)

    def hash(self, name: str) -> bytes:
        """Return the hash "sha256" or "sha512" of the table, which is in the fuses."""
        return hashlib.new(name, self.raw).digest()


@dataclass(frozen=True, slots=True)
class TableV2:
    """One table of an SRK array: four records, and the SRK data of the one that signs.

    In the file that srktool writes, the data are zeros.
    """

    records: tuple[SrkRecord, ...]
    data: SrkData
    raw: bytes = field(repr=False)

    def hash(self, name: str) -> bytes:
        """Return the hash "sha256" or "sha512" of the table, without its SRK data. SHA-512 is in the fuses."""
        return hashlib.new(name, self.raw).digest()

    @property
    def used(self) -> SrkRecord:
        """The record of the SRK data, with the key. Raises `FormatError` if they do not belong together."""
        return with_key(self.records[self.data.number], self.data)


@dataclass(frozen=True, slots=True)
class SrkArray:
    """The SRKs of a container of version 2: one table, or two of which the second is for ML-DSA."""

    tables: tuple[TableV2, ...]
    raw: bytes = field(repr=False)

    def hash(self, name: str) -> bytes:
        """Return the hash of the first table."""
        return self.tables[0].hash(name)


def parse_table(raw: bytes) -> SrkTable | SrkArray:
    """Read an SRK table or an SRK array, which must fill `raw`. Raises `FormatError`."""
    return _parsed(bytes(raw))


# A machine's table is read several times for every image.
@lru_cache(maxsize=32)
def _parsed(raw: bytes) -> SrkTable | SrkArray:
    if raw[:1] == bytes([TABLE_TAG]):
        return SrkTable(_records(raw, TABLE_VERSION), raw)
    return _array(raw)


def table_length(raw: bytes) -> int:
    """Return the length in bytes that the header of a table or an array at the start of `raw` gives."""
    if len(raw) < 4:
        raise FormatError(f"an SRK table has at least 4 bytes, not {len(raw)}", 0)
    return int.from_bytes(raw[1:3], "little")


def _records(raw: bytes, version: int) -> tuple[SrkRecord, ...]:
    """Return the four records of a table that fills `raw`."""
    if len(raw) < 4:
        raise FormatError(f"an SRK table has at least 4 bytes, not {len(raw)}", 0)
    if raw[0] != TABLE_TAG:
        raise FormatError(f"an SRK table begins with the byte {TABLE_TAG:#x}, not {raw[0]:#x}", 0)
    if raw[3] != version:
        raise FormatError(f"the SRK table has the version {raw[3]:#x}, not {version:#x}", 3)
    if (length := table_length(raw)) != len(raw):
        raise FormatError(f"the SRK table has {length} bytes according to its header, but {len(raw)} are given", 1)
    found: list[SrkRecord] = []
    position = 4
    for _ in range(RECORDS):
        record = parse_record(raw, position, with_data=version == TABLE_V2_VERSION)
        found.append(record)
        position += len(record.raw)
    if position != len(raw):
        raise FormatError(f"the SRK table has {len(raw) - position} bytes behind its {RECORDS} records", position)
    return tuple(found)


def parse_record(raw: bytes, start: int, *, with_data: bool) -> SrkRecord:
    """Return the record at `start`. `with_data` is the form of version 2. Raises `FormatError`."""
    if start + _RECORD.size > len(raw):
        raise FormatError(f"the SRK table ends inside a record; it must have {RECORDS}", start)
    tag, length, algorithm, code, size, reserved, flags, first, second = _RECORD.unpack_from(raw, start)
    if tag != RECORD_TAG:
        raise FormatError(f"an SRK record begins with the byte {RECORD_TAG:#x}, not {tag:#x}", start)
    if algorithm not in ALGORITHMS:
        raise FormatError(f"an SRK record has the unknown algorithm {algorithm:#x}", start + 3)
    if code not in SIGNATURE_HASHES:
        raise FormatError(f"an SRK record has the unknown hash {code:#x}", start + 4)
    if reserved or flags & ~FLAG_CA:
        raise FormatError(f"an SRK record has the unknown flags {reserved:02x} {flags:02x}", start + 6)
    _check_lengths(algorithm, size, first, second, start)
    expected = RECORD_V2_SIZE if with_data else _RECORD.size + first + second
    if length != expected:
        raise FormatError(f"an SRK record has {length} bytes, not {expected}", start + 1)
    if start + length > len(raw):
        raise FormatError("the SRK table ends inside a record", start)
    whole = raw[start : start + length]
    body = whole[_RECORD.size :]
    lengths = (first, second)
    if with_data:
        return SrkRecord(algorithm, code, size, flags, lengths, (b"", b""), body, whole)
    return SrkRecord(algorithm, code, size, flags, lengths, (body[:first], body[first:]), b"", whole)


def _check_lengths(algorithm: int, size: int, first: int, second: int, start: int) -> None:
    if algorithm in (RSA, RSA_PSS) and size in RSA_SIZES:
        good = first == RSA_SIZES[size] // 8 and 1 <= second <= 4
    elif algorithm in (ECDSA, SM2) and size in CURVES:
        good = first == second == CURVES[size][1]
    elif algorithm in (DILITHIUM, ML_DSA) and size in ML_DSA_SIZES:
        good = (first, second) == (ML_DSA_SIZES[size][1], 0)
    else:
        raise FormatError(f"an SRK record for {ALGORITHMS[algorithm]} has the unknown size {size:#x}", start + 5)
    if not good:
        raise FormatError(
            f"the key of an SRK record for {ALGORITHMS[algorithm]} of size {size:#x} has {first} and {second} bytes",
            start + 8,
        )


def _array(raw: bytes) -> SrkArray:
    if len(raw) < _ARRAY.size:
        raise FormatError(f"an SRK array has at least {_ARRAY.size} bytes, not {len(raw)}", 0)
    version, length, tag, count, reserved = _ARRAY.unpack_from(raw)
    if (version, tag) != (0, ARRAY_TAG):
        raise FormatError(f"neither an SRK table nor an SRK array: version {version:#x}, tag {tag:#x}", 0)
    if length != len(raw):
        raise FormatError(f"the SRK array has {length} bytes according to its header, but {len(raw)} are given", 1)
    # A loop over no table at all would find nothing wrong.
    if count not in (1, 2):
        raise FormatError(f"an SRK array has 1 or 2 tables, not {count}", 4)
    if any(reserved):
        raise FormatError(f"the SRK array has the reserved bytes {reserved.hex()}, not zeros", 5)
    tables: list[TableV2] = []
    position = _ARRAY.size
    for _ in range(count):
        end = position + table_length(raw[position : position + 4])
        if end > len(raw):
            raise FormatError("the SRK array ends inside a table", position)
        table = raw[position:end]
        data = parse_data(raw, end)
        tables.append(TableV2(_records(table, TABLE_V2_VERSION), data, table))
        position = end + len(data.raw)
    if position != len(raw):
        raise FormatError(f"the SRK array has {len(raw) - position} bytes behind its tables", position)
    return SrkArray(tuple(tables), raw)


def parse_data(raw: bytes, start: int) -> SrkData:
    """Return the SRK data at `start`. Raises `FormatError`."""
    if start + _DATA.size > len(raw):
        raise FormatError("the SRK data are not there", start)
    version, length, tag, number, reserved = _DATA.unpack_from(raw, start)
    if (version, tag) != (0, DATA_TAG):
        raise FormatError(f"SRK data begin with version 0 and tag {DATA_TAG:#x}, not {version:#x} and {tag:#x}", start)
    if length <= _DATA.size or start + length > len(raw):
        raise FormatError(f"SRK data of {length} bytes do not fit", start + 1)
    if number >= RECORDS or any(reserved):
        raise FormatError(f"SRK data are for the record {number}, reserved bytes {reserved.hex()}", start + 4)
    whole = raw[start : start + length]
    return SrkData(number, whole[_DATA.size :], whole)


def with_key(record: SrkRecord, data: SrkData) -> SrkRecord:
    """Return a record of version 2 with the key from its SRK data. Raises `FormatError` if they do not belong together.

    The record has the hash of the whole SRK data, the header with the record's number too, with the hash of its
    signatures, padded with zeros.
    """
    if sum(record.lengths) != len(data.key):
        raise FormatError(f"the SRK data have {len(data.key)} bytes of key, their record has {sum(record.lengths)}")
    if record.data_hash != data_hash(record.hash_name, data.raw):
        raise FormatError("the SRK data are not those whose hash is in the record")
    first = record.lengths[0]
    return SrkRecord(
        record.algorithm, record.hash_code, record.size_code, record.flags, record.lengths,
        (data.key[:first], data.key[first:]), record.data_hash, record.raw,
    )  # fmt: skip


def data_hash(name: str, raw: bytes) -> bytes:
    """Return the 64 bytes for SRK data that stand in a record. Raises `FormatError` for a hash that Python lacks."""
    try:
        return digest(name, [raw]).ljust(DATA_HASH_SIZE, b"\0")
    except ValueError:
        raise FormatError(f"the hash {name} of an SRK record is not known here") from None


def _ml_dsa_key(record: SrkRecord) -> PublicKey:
    if record.algorithm != ML_DSA:
        raise FormatError(f"keys for {record.name} are not known here")
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        raise FormatError(
            "this version of cryptography has no ML-DSA", hint="Install a newer version of cryptography."
        ) from None
    kind = mldsa.MLDSA65PublicKey if record.size_code == 9 else mldsa.MLDSA87PublicKey
    try:
        return kind.from_public_bytes(record.crypto[0])
    except ValueError as error:
        raise FormatError(f"the {record.name} key of an SRK record is not valid: {error}") from None
