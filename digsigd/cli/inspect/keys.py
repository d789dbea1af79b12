"""Describe the public part of keys: SRK tables, fuse files, certificates. Secrets are never shown."""

from __future__ import annotations

import binascii
import re
import struct
from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Part, Table

if TYPE_CHECKING:
    from digsigd.hab import SrkTable
    from digsigd.hab.srk import PublicKey

MOST_LISTED = 256
# A certificate of a key of 4096 bits has 2 KiB.
LARGEST_PEM = 1 << 20
# The second is OpenSSL's old label.
CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


def key_kind(key: PublicKey) -> str:
    """Return the kind of a key: RSA with its bits, or ECDSA with its curve."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else f"ECDSA {key.curve.name}"


def describe_table(data: bytes, title: str = "SRK table") -> Part:
    """Return a description of an SRK table; of a damaged one, what can be read."""
    from digsigd.hab import FormatError, SrkTable

    part = Part("srk-table", f"{title}, {len(data)} bytes")
    try:
        table = SrkTable.parse(data)
    except FormatError as error:
        from digsigd.cli.inspect.ahab_keys import describe_srk_table

        if (other := describe_srk_table(data, title)) is not None:
            return other
        part.damage.append(str(error))
        whole = _readable(data, error.offset)
        if whole is None:
            return part
        # No fuse value: that of a damaged table is wrong.
        part.tables.append(_records(whole))
        return part
    part.facts = {
        "version": f"{data[3] >> 4}.{data[3] & 0xF}",
        "fuse_value": table.fuse_value.hex(),
        "fuse_words": [f"0x{word:X}" for word in table.fuse_words],
    }
    part.tables.append(_records(table))
    part.notes += weaknesses(table)
    return part


def _records(table: SrkTable) -> Table:
    rows: list[tuple[Fact, ...]] = []
    for number, record in enumerate(table.records, 1):
        kind = "only its hash" if record.key is None else key_kind(record.key)
        rows.append((number, kind, None if record.key is None else record.ca, record.hash.hex()))
    return Table("SRKs", ("number", "key", "CA flag", "SHA-256"), rows)


def weaknesses(table: SrkTable) -> list[str]:
    """Return the weaknesses of a table, one line each."""
    from digsigd.hab.srk import why_not_hab

    found = []
    for number, record in enumerate(table.records, 1):
        if record.key is not None and (why := why_not_hab(record.key)):
            found.append(f"SRK {number} is {why}")
    if len({record.hash for record in table.records}) < len(table.records):
        found.append("two SRKs are the same key: revoking one of them has no effect")
    return found


def _readable(data: bytes, offset: int | None) -> SrkTable | None:
    """Return the records before the damaged one as a table; None if there are none."""
    from digsigd.hab import FormatError, SrkTable
    from digsigd.hab.srk import MAX_RECORDS

    limit = len(data) if offset is None or offset < 4 else min(offset, len(data))
    position = 4
    for _ in range(MAX_RECORDS):
        if position + 4 > limit:
            break
        length = struct.unpack_from(">H", data, position + 1)[0]
        if length < 4 or position + length > limit:
            break
        position += length
    try:
        return SrkTable.parse(data[:1] + struct.pack(">H", position) + data[3:position])
    except (FormatError, struct.error):  # the sum of the lengths exceeds 16 bits
        return None


def describe_fuses(data: bytes) -> Part:
    """Return a description of a fuse file, as srktool writes it for HAB4: the 32 bytes of the fuse value, no header."""
    return Part(
        "fuse-file",
        "32 bytes, the size of a fuse file",
        {"fuse_value": data.hex(), "fuse_words": [f"0x{word:X}" for word in struct.unpack("<8I", data)]},
    )


def pem_objects(data: bytes, most: int = MOST_LISTED) -> list[tuple[str, int, bytes]]:
    """Return the objects in a PEM file: (label, offset, text from its BEGIN to its END line)."""
    data = data[:LARGEST_PEM]
    found: list[tuple[str, int, bytes]] = []
    position = 0
    # Incomplete objects count too: the time is bounded even for a file full of BEGIN lines.
    for _ in range(most):
        begin = _BEGIN.search(data, position)
        if begin is None:
            break
        end_line = b"-----END " + begin[1] + b"-----"
        end = data.find(end_line, begin.end())
        position = begin.end()
        if end >= 0:
            position = end + len(end_line)
            found.append((begin[1].decode("ascii"), begin.start(), data[begin.start() : position]))
    return found


def certificate_in(text: bytes) -> bytes | None:
    """Return the DER of a certificate in PEM; None if the text is damaged."""
    inner = re.sub(rb"-----(BEGIN|END) [A-Z0-9 ]{1,40}-----|\s", b"", text)
    try:
        return binascii.a2b_base64(inner, strict_mode=True)
    except binascii.Error:
        return None


def describe_pem(data: bytes) -> Part:
    """Return a description of a PEM file: its certificates, and only the kind of other objects."""
    from digsigd.cli.inspect.certificate import describe_certificate

    part = Part("pem", "PEM file")
    found = pem_objects(data)
    if not found:
        part.damage.append("it has a BEGIN line without its END line")
    for number, (label, offset, text) in enumerate(found, 1):
        where = f" {number}" if len(found) > 1 else ""
        if label not in CERTIFICATES:
            part.parts.append(Part("pem-object", secret_kind(label, text)))
            continue
        der = certificate_in(text)
        one = describe_certificate(der or b"", f"certificate{where}")
        if one.damage:
            part.damage.append(f"certificate{where} at {offset:#x} cannot be read: {one.damage[0].partition(': ')[2]}")
            continue
        part.parts.append(one)
    return part.parts[0] if len(part.parts) == 1 and not part.damage else part


def secret_kind(label: str, text: bytes) -> str:
    """Return a name for a PEM object that is not shown."""
    if "PRIVATE KEY" not in label:
        return label.lower()
    encrypted = "ENCRYPTED" in label or b"\nProc-Type: 4,ENCRYPTED" in text[:200]
    return "private key, encrypted" if encrypted else "private key, in the clear"
