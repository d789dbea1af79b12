"""What keys look like from outside: SRK tables, fuse files, certificates. Never what is secret in them."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digsigd.cli.inspect_tree import Fact, Hex, Part, Table

if TYPE_CHECKING:
    from cryptography import x509

    from digsigd.hab import SrkTable
    from digsigd.hab.srk import PublicKey

MOST_LISTED = 256
# A certificate of a key of 4096 bits has 2 KiB.
LARGEST_PEM = 1 << 20
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


def key_kind(key: PublicKey) -> str:
    """RSA with its size, or the name of the curve."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else f"ECDSA {key.curve.name}"


def certificate_kind(certificate: x509.Certificate) -> str:
    """The kind of its key, whatever it is."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from digsigd.hab.chain import UNREADABLE

    try:
        key = certificate.public_key()
    except UNREADABLE:
        return "a key that cannot be read"
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return key_kind(key)
    return type(key).__name__.strip("_").removesuffix("PublicKey")


def describe_table(data: bytes, title: str = "SRK table") -> Part:
    """An SRK table, with whatever can be read of a damaged one."""
    from digsigd.hab import FormatError, SrkTable

    part = Part("srk-table", f"{title}, {len(data)} bytes")
    try:
        table = SrkTable.parse(data)
    except FormatError as error:
        from digsigd.cli.inspect_ahab import describe_srk_table

        if (other := describe_srk_table(data, title)) is not None:
            return other
        part.damage.append(str(error))
        whole = _readable(data, error.offset)
        if whole is None:
            return part
        # Its fuse value would be that of no board.
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
    """What a table is no good for."""
    from digsigd.hab.srk import why_not_hab

    found = []
    for number, record in enumerate(table.records, 1):
        if record.key is not None and (why := why_not_hab(record.key)):
            found.append(f"SRK {number} is {why}")
    if len({record.hash for record in table.records}) < len(table.records):
        found.append("the same key is in it twice: revoking one of them revokes nothing")
    return found


def _readable(data: bytes, offset: int | None) -> SrkTable | None:
    """The records before the damaged one, as a table of their own."""
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
    except (FormatError, struct.error):  # a sum of lengths that 16 bits do not hold
        return None


def describe_fuses(data: bytes) -> Part:
    """A fuse file, as srktool writes it for HAB4: the 32 bytes of the fuse value. Nothing in it says that it is one."""
    return Part(
        "fuse-file",
        "32 bytes, as a fuse file has",
        {"fuse_value": data.hex(), "fuse_words": [f"0x{word:X}" for word in struct.unpack("<8I", data)]},
    )


def describe_certificate(data: bytes, title: str = "certificate") -> Part:
    """A certificate in DER."""
    from cryptography import x509

    from digsigd.hab.chain import UNREADABLE

    part = Part("certificate", title)
    try:
        certificate = x509.load_der_x509_certificate(data)
        certificate.public_key()
        part.facts = _facts(certificate)
    except UNREADABLE as error:
        part.damage.append(f"a certificate that cannot be read: {str(error)[:200]}")
        return part
    part.notes += outdated(certificate, "it")
    return part


def _facts(certificate: x509.Certificate) -> dict[str, Fact]:
    algorithm = certificate.signature_hash_algorithm
    return {
        "subject": subject_of(certificate.subject),
        "issuer": subject_of(certificate.issuer),
        "serial": Hex(certificate.serial_number),
        "key": certificate_kind(certificate),
        "ca": is_ca(certificate),
        "signed_with": algorithm.name if algorithm else "no hash",
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }


def subject_of(name: x509.Name) -> str:
    """All of a name, for people."""
    return name.rfc4514_string()[:300]


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether its basic constraints say so."""
    from cryptography import x509

    from digsigd.hab.chain import UNREADABLE

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, *UNREADABLE):
        return False


def outdated(certificate: x509.Certificate, who: str) -> list[str]:
    """What its dates give to say."""
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        return [f"{who} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; the boot ROM does not look at that"]
    if certificate.not_valid_before_utc > now:
        return [f"{who} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"]
    return []


def pem_objects(data: bytes, most: int = MOST_LISTED) -> list[tuple[str, int, bytes]]:
    """What stands in a PEM file: label, offset, and the text from its BEGIN to its END line."""
    data = data[:LARGEST_PEM]
    found: list[tuple[str, int, bytes]] = []
    position = 0
    # So many are looked at, whole or not: time is bounded even where nothing but BEGIN lines stand.
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


def describe_pem(data: bytes) -> Part:
    """A PEM file: certificates, and whatever else there is by its name alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from digsigd.hab.chain import UNREADABLE

    part = Part("pem", "PEM file")
    found = pem_objects(data)
    if not found:
        part.damage.append("it has a BEGIN line, and no END line that belongs to it")
    for number, (label, offset, text) in enumerate(found, 1):
        where = f" {number}" if len(found) > 1 else ""
        if label != "CERTIFICATE":
            part.parts.append(Part("pem-object", secret_kind(label, text)))
            continue
        try:
            der = x509.load_pem_x509_certificate(text).public_bytes(Encoding.DER)
        except UNREADABLE as error:
            part.damage.append(f"certificate{where} at {offset:#x} cannot be read: {str(error)[:200]}")
            continue
        part.parts.append(describe_certificate(der, f"certificate{where}"))
    return part.parts[0] if len(part.parts) == 1 and not part.damage else part


def secret_kind(label: str, text: bytes) -> str:
    """A name for what is not shown."""
    if "PRIVATE KEY" not in label:
        return label.lower()
    encrypted = "ENCRYPTED" in label or b"\nProc-Type: 4,ENCRYPTED" in text[:200]
    return "private key, encrypted" if encrypted else "private key, in the clear"
