"""TLS of the port: contexts made from files, and a factory that looks up the current one for each connection."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from digsigd.settings import SettingsError, TlsSettings
from digsigd.web.failed_tls import ToldTransport

# TLS 1.2: ephemeral key exchange and authenticated encryption. All of TLS 1.3 has both. RFC 9325, 4.2.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_TICKET
_HTTP = b"http/1.1"
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A context for connections, with what it was made from. `certificate` is the host's own."""

    context: SSL.Context
    certificate: x509.Certificate
    crls: tuple[x509.CertificateRevocationList, ...] = ()


def server_tls(settings: TlsSettings, now: datetime | None = None) -> ServerTls | None:
    """Return the TLS of `[listen.tls]`; None if it has no certificate. Reads files.

    Raises `SettingsError` if a file cannot be read or is malformed, the key is of another certificate, or the
    certificate or a revocation list is not valid at this time.
    """
    if settings.certificate is None or settings.key is None:
        return None
    now = now or datetime.now(UTC)
    certificate = _certificates(settings.certificate, "listen.tls.certificate")[0]
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SettingsError(
            f"listen.tls.certificate: {settings.certificate} is not valid now, only from"
            f" {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        )
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    # A resumed session would keep a certificate that was revoked meanwhile.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"digsigd")
    context.set_alpn_select_callback(lambda _, offered: _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS)
    _use(context, certificate, settings)
    crls = _ask_for_certificates(context, settings, now)
    # Last: it makes a connection to check the list, and a used context cannot be changed.
    context.set_cipher_list(CIPHERS)
    return ServerTls(context, certificate, crls)


def _use(context: SSL.Context, certificate: x509.Certificate, settings: TlsSettings) -> None:
    key_file, certificate_file = str(settings.key), str(settings.certificate)
    try:
        key = load_pem_private_key(_read(Path(key_file), "listen.tls.key"), None)
    except TypeError:
        # OpenSSL would ask for it on the terminal.
        raise SettingsError(f"listen.tls.key: {key_file} has a pass phrase; remove it with: openssl pkey") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"listen.tls.key: {key_file} is not a private key in PEM") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise SettingsError(f"listen.tls.key: {key_file} is not the key of the certificate in {certificate_file}")
    try:
        context.use_certificate_chain_file(certificate_file)
        context.use_privatekey_file(key_file)
        context.check_privatekey()
    except SSL.Error as error:
        raise SettingsError(f"listen.tls: the certificate or its key cannot be used: {_reason(error)}") from None


def _ask_for_certificates(
    context: SSL.Context, settings: TlsSettings, now: datetime
) -> tuple[x509.CertificateRevocationList, ...]:
    """Ask clients for certificates, if the settings have an authority for them, and return the revocation lists."""
    if settings.client_ca is None:
        context.set_verify(SSL.VERIFY_NONE)
        return ()
    authorities = _certificates(settings.client_ca, "listen.tls.client_ca")
    try:
        context.load_verify_locations(str(settings.client_ca))
        context.load_client_ca(str(settings.client_ca).encode())
    except SSL.Error as error:
        raise SettingsError(f"listen.tls.client_ca: {settings.client_ca} cannot be used: {_reason(error)}") from None
    context.set_verify(SSL.VERIFY_PEER)
    if settings.crl is None:
        return ()
    crls = _crls(settings.crl, now)
    _check_lists(authorities, crls, settings.crl)
    store = context.get_cert_store()
    if store is None:  # pragma: no cover - only after a context has lost its store
        raise SettingsError("listen.tls.crl: OpenSSL has no store for revocation lists")
    for crl in crls:
        store.add_crl(crl)
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    return crls


def _certificates(path: Path, key: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, key))
    except ValueError:
        raise SettingsError(f"{key}: {path} has no certificate in PEM that can be read") from None


def _crls(path: Path, now: datetime) -> tuple[x509.CertificateRevocationList, ...]:
    try:
        crls = tuple(x509.load_pem_x509_crl(pem) for pem in _CRL.findall(_read(path, "listen.tls.crl")))
    except ValueError:
        crls = ()
    if not crls:
        raise SettingsError(f"listen.tls.crl: {path} has no revocation list in PEM that can be read")
    for crl in crls:
        if crl.last_update_utc > now:
            raise SettingsError(
                f"listen.tls.crl: the list of {crl.issuer.rfc4514_string()} in {path} is not valid before"
                f" {crl.last_update_utc:%Y-%m-%d %H:%M} UTC; check the clocks of this host and of the authority"
            )
        if crl.next_update_utc is not None and crl.next_update_utc < now:
            raise SettingsError(
                f"listen.tls.crl: the list of {crl.issuer.rfc4514_string()} in {path} has expired at"
                f" {crl.next_update_utc:%Y-%m-%d %H:%M} UTC; get a new one from the authority"
            )
    return crls


def _check_lists(
    authorities: Iterable[x509.Certificate], crls: Iterable[x509.CertificateRevocationList], path: Path
) -> None:
    """Raise `SettingsError` if an authority has no revocation list: OpenSSL would refuse all its certificates."""
    for authority in authorities:
        if not any(crl.issuer == authority.subject and _has_signed(authority, crl) for crl in crls):
            raise SettingsError(
                f"listen.tls.crl: {path} has no list that {authority.subject.rfc4514_string()} of listen.tls.client_ca"
                " has signed, so no certificate of it would be accepted"
            )


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{key}: {path} cannot be read: {error.strerror}") from None


def _reason(error: SSL.Error) -> str:
    """Return OpenSSL's words for an error."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in entries) or "OpenSSL does not say why"


@implementer(IOpenSSLServerConnectionCreator)
class CurrentTls:
    """Makes each connection with the `ServerTls` that holds now. A reload sets `value`; open connections stay."""

    def __init__(self, value: ServerTls | None) -> None:
        self.value = value

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002, N803
        """Implement `IOpenSSLServerConnectionCreator.serverConnectionForTLS`."""
        if self.value is None:
            raise RuntimeError("this port has no TLS")
        return SSL.Connection(self.value.context, None)

    def around(self, factory: IProtocolFactory, clock: IReactorTime) -> IProtocolFactory:
        """Return a factory for the port: the given one, behind TLS if there is TLS."""
        if self.value is None:
            return factory
        wrapped = TLSMemoryBIOFactory(self, False, factory, clock)
        wrapped.protocol = ToldTransport
        made: IProtocolFactory = wrapped
        return made
