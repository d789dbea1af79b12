"""Reads signature blocks: SRKs, signatures, certificate, blob.

Sources: NXP cst, ahab_types.h; SPSDK, spsdk/image/ahab/ahab_sign_block.py, ahab_certificate.py, ahab_blob.py. That the
parts stand in this order, each on a multiple of 8 bytes or right behind the one before, was read from what cst 3.4.1
and 4.0.1 write and from what SPSDK 3.12 does.
"""

from __future__ import annotations

import struct

from digsigd.ahab.errors import FormatError
from digsigd.ahab.model import (
    BLOB_TAG,
    CERTIFICATE_TAG,
    SIGNATURE_TAG,
    Blob,
    Certificate,
    SignatureBlock,
)
from digsigd.ahab.srk import (
    SrkArray,
    SrkData,
    SrkRecord,
    SrkTable,
    parse_data,
    parse_record,
    parse_table,
    table_length,
    with_key,
)

ALIGNMENT = 8
# 8 bytes of header, 48 of the wrapping, the key: SPSDK, ahab_blob.py; cst prints the same.
BLOB_SIZES = (72, 80, 88)
_BLOCK = struct.Struct("<BHBHHHHI")
_SIGNATURE = struct.Struct("<BHB4s")
_CERTIFICATE = struct.Struct("<BHBHBB")
_CERTIFICATE_V2 = struct.Struct("<12sBB2s16s")
_BLOB = struct.Struct("<BHBBBBB")


def read_block(raw: bytes, start: int, version: int) -> SignatureBlock:
    """Return the signature block at `start` of a container, whose bytes are `raw`, to their end.

    `version` is the container's, whose header is good: 16 bytes of the block are there, with its tag. Raises
    `FormatError` with an offset that counts from the container's header. What is wrong with values alone (the block's
    version, padding that is not zero) is left to who verifies.
    """
    own, length, _, certificate_at, srk_at, signature_at, blob_at, key_id = _BLOCK.unpack_from(raw, start)
    if own not in (0, 1) or (own == 1 and version != 2):
        raise FormatError(f"a signature block has the version {own}", start)
    if start + length != len(raw):
        raise FormatError(
            f"the signature block at {start:#x} has {length:#x} bytes, but the container ends at {len(raw):#x}",
            start + 1,
        )
    walk = _Walk(raw, start, _BLOCK.size)
    srk: SrkTable | SrkArray | None = None
    if srk_at:
        place = walk.enter(srk_at, "SRK table")
        end = place + table_length(raw[place : place + 4])
        srk = _srk(raw, place, end, version)
        walk.leave(end)
    signatures: tuple[bytes, ...] = ()
    if signature_at:
        place = walk.enter(signature_at, "signature")
        signatures, end = _signatures(raw, place, len(srk.tables) if isinstance(srk, SrkArray) else 1)
        walk.leave(end)
    certificate = None
    if certificate_at:
        place = walk.enter(certificate_at, "certificate")
        tables = len(srk.tables) if isinstance(srk, SrkArray) else 1
        certificate, end = _certificate(raw, place, version, tables)
        walk.leave(end)
    blob = None
    if blob_at:
        place = walk.enter(blob_at, "blob")
        blob = _blob(raw, place)
        walk.leave(place + len(blob.raw))
    walk.finish()
    return SignatureBlock(
        start, own, length, certificate, srk, signatures, start + signature_at if signature_at else 0, blob, key_id,
        tuple(walk.padding),
    )  # fmt: skip


class _Walk:
    """Goes through the parts of a block in their order, so that none of its bytes belongs to two parts or to none."""

    def __init__(self, raw: bytes, start: int, size: int) -> None:
        self._raw = raw
        self._start = start
        self._position = start + size
        self.padding: list[tuple[int, bytes]] = []

    def enter(self, offset: int, name: str) -> int:
        """Return the place of the part that begins at `offset` of the block."""
        place = self._start + offset
        aligned = self._position + -self._position % ALIGNMENT
        if place not in (self._position, aligned):
            raise FormatError(
                f"the {name} of a signature block is at {offset:#x}, not at {aligned - self._start:#x} behind what"
                " is before it",
                self._start,
            )
        if place > self._position:
            self.padding.append((self._position, self._raw[self._position : place]))
        return place

    def leave(self, end: int) -> None:
        """Note where the part ends."""
        self._position = end

    def finish(self) -> None:
        """Check that nothing but padding follows."""
        rest = len(self._raw) - self._position
        if rest >= ALIGNMENT:
            raise FormatError(f"the signature block has {rest} bytes behind its last part", self._position)
        if rest:
            self.padding.append((self._position, self._raw[self._position :]))


def _srk(raw: bytes, place: int, end: int, version: int) -> SrkTable | SrkArray:
    if end > len(raw):
        raise FormatError("the SRK table ends outside of the signature block", place)
    try:
        found = parse_table(raw[place:end])
    except FormatError as error:
        raise FormatError(error.what, place + (error.offset or 0)) from None
    if isinstance(found, SrkArray) != (version == 2):
        kind = "an SRK array" if isinstance(found, SrkArray) else "an SRK table"
        raise FormatError(f"a container of version {version} has {kind}", place)
    return found


def _signatures(raw: bytes, place: int, count: int) -> tuple[tuple[bytes, ...], int]:
    """Return the raw signatures at `place`, one right behind the other, and where they end."""
    found = []
    for _ in range(count):
        if place + _SIGNATURE.size > len(raw):
            raise FormatError("a signature is not there", place)
        version, length, tag, reserved = _SIGNATURE.unpack_from(raw, place)
        if (version, tag) != (0, SIGNATURE_TAG) or any(reserved):
            raise FormatError(
                f"a signature begins with version 0, tag {SIGNATURE_TAG:#x} and zeros, not {version:#x}, {tag:#x} and"
                f" {reserved.hex()}",
                place,
            )
        if length <= _SIGNATURE.size or place + length > len(raw):
            raise FormatError(f"a signature of {length} bytes does not fit", place + 1)
        found.append(raw[place + _SIGNATURE.size : place + length])
        place += length
    return tuple(found), place


def _certificate(raw: bytes, start: int, version: int, tables: int) -> tuple[Certificate, int]:
    """Return the certificate at `start`, and where it ends."""
    if start + _CERTIFICATE.size > len(raw):
        raise FormatError("the container ends inside its certificate", start)
    own, length, tag, signature_at, inverted, permissions = _CERTIFICATE.unpack_from(raw, start)
    if tag != CERTIFICATE_TAG:
        raise FormatError(f"a certificate has the tag {CERTIFICATE_TAG:#x}, not {tag:#x}", start + 3)
    if own != version:
        raise FormatError(f"a certificate has the version {own}, its container {version}", start)
    end = start + length
    if end > len(raw):
        raise FormatError(f"a certificate of {length} bytes does not fit", start + 1)
    whole = raw[:end]
    position = start + _CERTIFICATE.size
    extra, fuse_version, extension, uuid = b"", 0, 0, b""
    if version == 2:
        if position + _CERTIFICATE_V2.size > end:
            raise FormatError("a certificate is too short", start + 1)
        extra, fuse_version, extension, reserved, uuid = _CERTIFICATE_V2.unpack_from(whole, position)
        if any(reserved):
            raise FormatError(f"a certificate has the reserved bytes {reserved.hex()}", position + 14)
        position += _CERTIFICATE_V2.size
    records: list[SrkRecord] = []
    data: list[SrkData] = []
    for _ in range(tables):
        record = parse_record(whole, position, with_data=version == 2)
        position += len(record.raw)
        if version == 2:
            key = parse_data(whole, position)
            position += len(key.raw)
            if key.number:
                raise FormatError(f"the SRK data of a certificate have the number {key.number}, not 0", position)
            data.append(key)
            record = with_key(record, key)
        records.append(record)
    aligned = position + -position % ALIGNMENT
    if start + signature_at not in (position, aligned):
        raise FormatError(f"the signature of a certificate is at {signature_at:#x}", start + 4)
    signatures, finish = _signatures(whole, start + signature_at, tables)
    if finish != end:
        raise FormatError(f"a certificate has {end - finish} bytes behind its signature", finish)
    return Certificate(
        start, own, permissions, inverted, tuple(records), tuple(data), raw[start : start + signature_at], signatures,
        raw[start:end], extra, extension, fuse_version, uuid,
    ), end  # fmt: skip


def _blob(raw: bytes, start: int) -> Blob:
    if start + _BLOB.size > len(raw):
        raise FormatError("the container ends inside its blob", start)
    version, length, tag, flags, size, algorithm, mode = _BLOB.unpack_from(raw, start)
    rest = raw[start:]
    if set(rest) == {0xCA} and len(rest) in BLOB_SIZES:
        # cst writes only its filler: the board makes the blob, which is put in afterwards.
        return Blob(start, 0, 0, 0, 0, rest, rest)
    if (version, tag) != (0, BLOB_TAG):
        raise FormatError(f"a blob begins with version 0 and tag {BLOB_TAG:#x}, not {version:#x} and {tag:#x}", start)
    if length not in BLOB_SIZES or start + length > len(raw):
        raise FormatError(f"a blob of {length} bytes does not fit, or has no key of 16, 24 or 32 bytes", start + 1)
    whole = raw[start : start + length]
    return Blob(start, flags, size, algorithm, mode, whole[_BLOB.size :], whole)
