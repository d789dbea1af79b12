"""Client certificates of callers: by fingerprint, subject or subject alternative name, and whether they are revoked."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from digsigd.errors import NotAuthenticated

_FORMS = "expected sha256:FINGERPRINT, dns:NAME, uri:URI, email:ADDRESS, ip:ADDRESS, or a subject (CN=ci,O=Example)"
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{2}:?){32}")


@dataclass(frozen=True, slots=True)
class CertificateName:
    """What a caller's certificate must have: `kind` is sha256, subject, dns, uri, email or ip."""

    kind: str
    value: bytes | str | x509.Name
    text: str

    @classmethod
    def parse(cls, text: str) -> CertificateName:
        """Read a name as it is written in the configuration. Raises `ValueError` with the forms that are possible."""
        kind, _, value = text.partition(":")
        match kind:
            case "sha256" if _FINGERPRINT.fullmatch(value):
                return cls("sha256", bytes.fromhex(value.replace(":", "")), text)
            case "dns" | "email" if value:
                return cls(kind, value.lower() if kind == "dns" else value, text)
            case "uri" if value:
                return cls(kind, value, text)
            case "ip" if value:
                try:
                    return cls(kind, str(ip_address(value)), text)
                except ValueError:
                    raise ValueError(f"{text!r} has no IP address; {_FORMS}") from None
        try:
            name = x509.Name.from_rfc4514_string(text, {"emailAddress": x509.NameOID.EMAIL_ADDRESS})
        except ValueError:
            raise ValueError(f"{text!r} is not understood; {_FORMS}") from None
        if not list(name):
            raise ValueError(f"{text!r} is empty; {_FORMS}")
        return cls("subject", name, text)

    def fits(self, certificate: x509.Certificate) -> bool:
        """Return whether a certificate has this name. Subjects are compared whole, names without wildcards."""
        if isinstance(self.value, bytes):
            return hmac.compare_digest(self.value, certificate.fingerprint(SHA256()))
        if isinstance(self.value, x509.Name):
            return self.value == certificate.subject
        return (self.kind, self.value) in _alternative_names(certificate)


def _alternative_names(certificate: x509.Certificate) -> set[tuple[str, str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return {
        *(("dns", one.lower()) for one in names.get_values_for_type(x509.DNSName)),
        *(("uri", one) for one in names.get_values_for_type(x509.UniformResourceIdentifier)),
        *(("email", one) for one in names.get_values_for_type(x509.RFC822Name)),
        *(("ip", str(one)) for one in names.get_values_for_type(x509.IPAddress)),
    }


def check_current(certificate: x509.Certificate, crls: Sequence[x509.CertificateRevocationList], now: datetime) -> None:
    """Raise `NotAuthenticated` if a certificate has ended or is revoked.

    TLS has checked both, but only when the connection was made, which may be long ago.
    """
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise NotAuthenticated("the client certificate is not valid at this time", hint="renew it")
    for crl in crls:
        if crl.issuer != certificate.issuer:
            continue
        if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise NotAuthenticated("the client certificate is revoked")


def shown(certificate: x509.Certificate) -> str:
    """Return how logs name a certificate: the first digits of its fingerprint."""
    return certificate.fingerprint(SHA256()).hex()[:16]
