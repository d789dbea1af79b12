"""The TLS settings of a client: trusted authorities and the client certificate, from PEM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL.crypto import Error
from twisted.internet.ssl import PrivateCertificate

from digsigd.client._internal.errors import ClientSettingsError
from digsigd.client._internal.settings import ClientSettings
from digsigd.http.endpoints import CERTIFICATE, trust_root_of


def trust_root(settings: ClientSettings) -> Any:
    """Return the authorities in `ca_file`, or None for those of the system. Raises `ClientSettingsError`."""
    path = settings.ca_file
    if path is None:
        return None
    try:
        return trust_root_of(_read(path, "ca_file"))
    except ValueError as error:
        raise ClientSettingsError(f"ca_file: {path} {error}") from None


def own_certificate(settings: ClientSettings) -> PrivateCertificate | None:
    """Return the client certificate with its key, or None if none is set. Raises `ClientSettingsError`."""
    path, key_path = settings.client_certificate, settings.client_key
    if path is None:
        return None
    found = CERTIFICATE.search(_read(path, "client_certificate"))
    if found is None:
        raise ClientSettingsError(f"client_certificate: {path} has no certificate in PEM")
    where = f"client_key: {key_path}" if key_path else f"client_certificate: {path}"
    pem = _read(key_path, "client_key") if key_path else _read(path, "client_certificate")
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        # OpenSSL would ask for the pass phrase on the terminal.
        raise ClientSettingsError(
            f"{where}: the key has a pass phrase", hint="remove the pass phrase: openssl pkey -in KEY -out PLAIN-KEY"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ClientSettingsError(
            f"{where} has no private key in PEM", hint="set its file: --client-key, DIGSIGN_CLIENT_KEY, client_key"
        ) from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        certificate = x509.load_pem_x509_certificate(found[0])
        if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
            raise ClientSettingsError(f"{where}: the key does not belong to the certificate {path}")
        loaded: PrivateCertificate = PrivateCertificate.loadPEM(found[0] + b"\n" + pem)
    except (Error, ValueError, UnsupportedAlgorithm):
        raise ClientSettingsError(f"client_certificate: {path} has a certificate or key that cannot be used") from None
    return loaded


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientSettingsError(f"{key}: {path} cannot be read: {error.strerror}") from None
