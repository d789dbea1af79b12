"""X.509 certificates, the parts that HAB4 uses. RFC 5280, 4.1.

They are read here, with the strict DER of `der`, because cryptography warns of serial numbers of 0 or less and will
refuse them some day. Boot ROMs and cst accept them, and NXP's older scripts start with 0.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from digsigd.hab.der import CONTEXT_0, INTEGER, NULL, OCTET_STRING, OID, SEQUENCE, SET, Element, elements, integer, take
from digsigd.hab.errors import FormatError
from digsigd.hab.srk import PublicKey

BOOLEAN, BIT_STRING, UTC_TIME, GENERALIZED_TIME = 0x01, 0x03, 0x17, 0x18
# [1] and [2], primitive: ids of issuer and subject; [3], constructed: the extensions.
_UNIQUE_IDS, _EXTENSIONS = {0x81, 0x82}, 0xA3
_COMMON_NAME = bytes.fromhex("550403")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
# Object identifiers, DER without tag and length: RFC 8017 (RSA, PKCS #1 v1.5), RFC 5758 and RFC 3279 (ECDSA).
# For each: the kind of signature, and its hash.
SIGNATURES = {
    bytes.fromhex("2a864886f70d010105"): ("rsa", "sha1"),
    bytes.fromhex("2a864886f70d01010b"): ("rsa", "sha256"),
    bytes.fromhex("2a864886f70d01010c"): ("rsa", "sha384"),
    bytes.fromhex("2a864886f70d01010d"): ("rsa", "sha512"),
    bytes.fromhex("2a8648ce3d0401"): ("ecdsa", "sha1"),
    bytes.fromhex("2a8648ce3d040302"): ("ecdsa", "sha256"),
    bytes.fromhex("2a8648ce3d040303"): ("ecdsa", "sha384"),
    bytes.fromhex("2a8648ce3d040304"): ("ecdsa", "sha512"),
}
# RFC 4514, 3: the attributes that names of keys have besides the common name.
_SHORT_NAMES = {
    bytes.fromhex("550406"): "C",
    bytes.fromhex("550407"): "L",
    bytes.fromhex("550408"): "ST",
    bytes.fromhex("55040a"): "O",
    bytes.fromhex("55040b"): "OU",
}
# The encodings of the kinds of strings that a name can have: X.680, 41, and RFC 5280, 4.1.2.4.
_ENCODINGS = {0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be"}
_ENCODINGS[0x1E] = "utf-16-be"
_MAX_NAME = 100
_ARMOUR = re.compile(
    rb"^-----BEGIN ((?:X509 )?CERTIFICATE)-----[ \t\r]*\n([A-Za-z0-9+/=\s]+)^-----END \1-----", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate.

    `version` is 1 to 3. `issuer` and `subject` are the DER of the names. `public_key` is None if it is neither RSA nor
    ECDSA. `kind` ("rsa", which is PKCS #1 v1.5, or "ecdsa") and `algorithm` (the hash) are those of the `signature`
    over `tbs`, and empty if HAB4 does not have them.
    """

    der: bytes = field(repr=False)
    version: int
    serial: int
    issuer: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    public_key: PublicKey | None = field(repr=False)
    is_ca: bool
    tbs: bytes = field(repr=False)
    kind: str
    algorithm: str
    signature: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The subject's name for people: the common name, or the whole name without one."""
        try:
            text = _name(self.subject)
        except (FormatError, UnicodeDecodeError):
            return "a certificate without a readable subject"
        return "".join(c if c.isprintable() else "?" for c in text)[:_MAX_NAME]


def load(der: bytes) -> Certificate:
    """Read a certificate, which must fill `der`. Raises `FormatError` if it is damaged."""
    try:
        return _load(der)
    except FormatError as error:
        raise FormatError(f"not a certificate: {error}") from None


def load_file(data: bytes) -> Certificate:
    """Read a certificate file of cst: DER, or the first certificate in PEM. Raises `FormatError`."""
    if data[:1] == bytes([SEQUENCE]):
        return load(data)
    found = _ARMOUR.search(data)
    if found is None:
        raise FormatError("not a certificate: neither DER nor PEM")
    try:
        return load(binascii.a2b_base64(b"".join(found[2].split()), strict_mode=True))
    except binascii.Error:
        raise FormatError("not a certificate: its PEM is damaged") from None


# The same few certificates are read again for every image that is signed with their keys: from the tarball and from the
# CSF. Reading one takes longer than all that is done with it.
@lru_cache(maxsize=128)
def _load(der: bytes) -> Certificate:
    (whole,) = take(der, SEQUENCE)
    body, outer, signature = take(whole.content, SEQUENCE, SEQUENCE, BIT_STRING)
    if signature.content[:1] != b"\0":
        raise FormatError("its signature has unused bits")
    parts = elements(body.content)
    version = 1
    if parts and parts[0].tag == CONTEXT_0:
        (number,) = take(parts.pop(0).content, INTEGER)
        version = integer(number.content) + 1
        if not 1 <= version <= 3:
            raise FormatError(f"its version is {version}")
    if [one.tag for one in parts[:6]] != [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]:
        raise FormatError("a part is missing")
    serial, inner, issuer, validity, subject, key = parts[:6]
    if inner.whole != outer.whole:
        # It stands there twice, only once under the signature: RFC 5280, 4.1.1.2.
        raise FormatError("it names two different signature algorithms")
    not_before, not_after = (_time(one) for one in _pair(validity))
    kind, algorithm = _algorithm(outer.content)
    return Certificate(
        der=der,
        version=version,
        serial=integer(serial.content),
        issuer=issuer.whole,
        subject=subject.whole,
        not_before=not_before,
        not_after=not_after,
        public_key=_key(key.whole),
        is_ca=_is_ca(parts[6:], version),
        tbs=body.whole,
        kind=kind,
        algorithm=algorithm,
        signature=signature.content[1:],
    )


def _pair(validity: Element) -> list[Element]:
    found = elements(validity.content)
    if len(found) != 2:
        raise FormatError("its validity does not have two dates")
    return found


def _time(element: Element) -> datetime:
    """Read a date, to the second and in UTC (RFC 5280, 4.1.2.5)."""
    text = element.content.decode("ascii", "replace")
    if element.tag == UTC_TIME and re.fullmatch("[0-9]{12}Z", text):
        text = ("19" if text[0] >= "5" else "20") + text
    elif element.tag != GENERALIZED_TIME or not re.fullmatch("[0-9]{14}Z", text):
        raise FormatError("one of its dates is not valid")
    try:
        return datetime(*(int(text[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14))), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        raise FormatError("one of its dates is not valid") from None


def _algorithm(identifier: bytes) -> tuple[str, str]:
    """Return the kind of signature and its hash; both empty if HAB4 does not have it."""
    parts = elements(identifier)
    if not parts or parts[0].tag != OID:
        raise FormatError("its signature algorithm is not valid")
    if [one.whole for one in parts[1:]] not in ([], [bytes([NULL, 0])]):
        return "", ""
    return SIGNATURES.get(parts[0].content, ("", ""))


def _key(info: bytes) -> PublicKey | None:
    try:
        key = load_der_public_key(info)
    except UnsupportedAlgorithm:
        return None
    except ValueError:
        raise FormatError("its public key is not valid") from None
    return key if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else None


def _is_ca(rest: list[Element], version: int) -> bool:
    """Return the CA flag of the basic constraints (RFC 5280, 4.2.1.9). `rest` are the parts after the key."""
    while rest and version > 1 and rest[0].tag in _UNIQUE_IDS:
        rest = rest[1:]
    if not rest:
        return False
    if version != 3 or len(rest) != 1 or rest[0].tag != _EXTENSIONS:
        raise FormatError("it has parts that its version does not allow")
    (listed,) = take(rest[0].content, SEQUENCE)
    values: dict[bytes, bytes] = {}
    for one in elements(listed.content):
        name, *critical, value = _extension(one)
        if name.content in values:
            raise FormatError("it has an extension twice")
        if [flag.whole for flag in critical] not in ([], [b"\1\1\xff"], [b"\1\1\0"]):
            raise FormatError("one of its extensions is not valid")
        values[name.content] = value.content
    if _BASIC_CONSTRAINTS not in values:
        return False
    (constraints,) = take(values[_BASIC_CONSTRAINTS], SEQUENCE)
    fields = elements(constraints.content)
    is_ca = bool(fields) and fields[0].whole == b"\1\1\xff"
    if [one.tag for one in fields] not in ([], [BOOLEAN], [BOOLEAN, INTEGER], [INTEGER]) or (
        fields and fields[0].tag == BOOLEAN and fields[0].content not in {b"\0", b"\xff"}
    ):
        raise FormatError("its basic constraints are not valid")
    return is_ca


def _extension(element: Element) -> list[Element]:
    found = elements(element.content)
    if element.tag != SEQUENCE or [one.tag for one in found] not in (
        [OID, OCTET_STRING],
        [OID, BOOLEAN, OCTET_STRING],
    ):
        raise FormatError("one of its extensions is not valid")
    return found


def _name(der: bytes) -> str:
    """Return a name as text: its common name, else all of it in the order of RFC 4514."""
    (sequence,) = take(der, SEQUENCE)
    parts: list[tuple[bytes, str]] = []
    for part in elements(sequence.content):
        if part.tag != SET:
            raise FormatError("a name with invalid parts")
        for attribute in elements(part.content):
            pair = elements(attribute.content)
            if len(pair) != 2 or pair[0].tag != OID:
                raise FormatError("a name with invalid parts")
            parts.append((pair[0].content, _text(pair[1])))
    common = next((text for kind, text in parts if kind == _COMMON_NAME), None)
    if common is not None:
        return common
    return ",".join(f"{_SHORT_NAMES.get(kind) or _dotted(kind)}={text}" for kind, text in reversed(parts))


def _text(element: Element) -> str:
    encoding = _ENCODINGS.get(element.tag)
    if encoding is None:
        raise FormatError("a name that is not text")
    return element.content.decode(encoding)


def _dotted(identifier: bytes) -> str:
    """Return an object identifier in decimal, with dots (X.690, 8.19)."""
    numbers = [0]
    for byte in identifier:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(str(one) for one in (first, numbers[0] - 40 * first, *numbers[1:-1]))
