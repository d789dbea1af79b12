"""Read a certificate with a strict X.509 parser or, if that fails, with one that reads only what HAB4 uses.

NXP's own certificates (in HDMI firmware) and those of its older scripts have names or serial numbers that strict
parsers refuse. Boot ROMs and cst accept them, so they do not count as damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Hex, Part

if TYPE_CHECKING:
    from cryptography import x509

    from digsigd.hab import SrkTable
    from digsigd.hab.certificate import Certificate

_LONGEST_NAME = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What is shown of a certificate. `issuer` is empty if only HAB4's parser can read it."""

    subject: str
    issuer: str
    kind: str
    serial: int
    ca: bool
    signed_with: str
    not_before: datetime
    not_after: datetime
    strict: x509.Certificate | None
    own: Certificate | None

    def place(self, table: SrkTable | None) -> tuple[int | None, int | None]:
        """Return the number of the SRK that it certifies and of the SRK that signed it, from 1, or None."""
        from digsigd.hab.chain import is_srk, signing_srk

        certificate = self.own if self.strict is None else self.strict
        if table is None or certificate is None:
            return None, None
        return is_srk(certificate, table), signing_srk(certificate, table)

    def outdated(self, who: str) -> list[str]:
        """Return notes on a validity that has ended or not begun; `who` names the certificate."""
        now = datetime.now(UTC)
        if self.not_after < now:
            return [f"{who} expired on {self.not_after:%Y-%m-%d}; the boot ROM does not check that"]
        if self.not_before > now:
            return [f"{who} is not valid before {self.not_before:%Y-%m-%d}"]
        return []


def read_certificate(der: bytes) -> Seen:
    """Read a certificate in DER. Raises `FormatError` if neither parser can."""
    from digsigd.hab.certificate import load
    from digsigd.hab.errors import FormatError

    own: Certificate | None = None
    problem = None
    try:
        own = load(der)
    except FormatError as error:
        problem = error
    if (strict := _strict(der)) is not None:
        return _of_strict(strict, own)
    if own is None:
        raise problem or FormatError("not a certificate")
    kind = "another kind of key" if own.public_key is None else _key_kind(own.public_key)
    return Seen(own.name, "", kind, own.serial, own.is_ca, own.algorithm, own.not_before, own.not_after, None, own)


def _strict(der: bytes) -> x509.Certificate | None:
    from cryptography import x509

    from digsigd.hab.chain import UNREADABLE

    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.public_key()
        # Some fields are only parsed on access.
        certificate.not_valid_before_utc, certificate.not_valid_after_utc  # noqa: B018
        certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
        certificate.signature_hash_algorithm  # noqa: B018
    except UNREADABLE:
        return None
    return certificate


def _of_strict(certificate: x509.Certificate, own: Certificate | None) -> Seen:
    algorithm = certificate.signature_hash_algorithm
    return Seen(
        certificate.subject.rfc4514_string()[:_LONGEST_NAME],
        certificate.issuer.rfc4514_string()[:_LONGEST_NAME],
        _key_kind(certificate.public_key()),
        certificate.serial_number,
        _is_ca(certificate),
        algorithm.name if algorithm else "no hash",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate,
        own,
    )


def _key_kind(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from digsigd.cli.inspect.keys import key_kind

    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return key_kind(key)
    return type(key).__name__.strip("_").removesuffix("PublicKey")


def _is_ca(certificate: x509.Certificate) -> bool:
    """Return whether its basic constraints have the CA flag."""
    from cryptography import x509

    from digsigd.hab.chain import UNREADABLE

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, *UNREADABLE):
        return False


def describe_certificate(data: bytes, title: str = "certificate") -> Part:
    """Return a description of a certificate in DER."""
    from digsigd.hab.errors import FormatError

    part = Part("certificate", title)
    try:
        one = read_certificate(data)
    except FormatError as error:
        part.damage.append(f"a certificate that cannot be read: {str(error)[:200]}")
        return part
    facts: dict[str, Fact] = {
        "subject": one.subject,
        "issuer": one.issuer or None,
        "serial": Hex(one.serial),
        "key": one.kind,
        "ca": one.ca,
        "signed_with": one.signed_with or None,
        "not_before": one.not_before,
        "not_after": one.not_after,
    }
    part.facts = facts
    part.notes += one.outdated("it")
    return part
