"""Endpoints to listen on: made from the settings, with the mistakes in them as `SettingsError`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.crypto import Error as OpenSslError
from OpenSSL.SSL import Error as TlsError
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError, VerifyError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from digsigd.adopted import from_systemd
from digsigd.reactor import SigningReactor
from digsigd.settings import SettingsError, with_backlog
from digsigd.settings.endpoints import options

# How many days before the end of a certificate `--check` begins to warn.
_SOON = 30


def server_endpoint(reactor: SigningReactor, endpoint: str, *, key: str = "listen.endpoint") -> IStreamServerEndpoint:
    """Return the endpoint that the string of a setting describes. For `ssl:` this reads the key and the certificate.

    Raises `SettingsError` with the setting's `key` if the string is malformed, or a file in it cannot be used.
    """
    try:
        if options(endpoint)[0] == (None, "systemd"):
            return from_systemd(reactor, endpoint)
        made: IStreamServerEndpoint = serverFromString(reactor, endpoint)
    except LookupError:
        # Of the kinds that there are, only `systemd:` looks something up.
        raise SettingsError(
            f"{key}: {endpoint!r}: systemd has not passed this socket; start the daemon by its socket unit"
        ) from None
    except (ValueError, TypeError, AttributeError, OSError, OpenSslError, TlsError, VerifyError) as error:
        reason = _mistake_in_files(endpoint) or str(error)
        raise SettingsError(f"{key}: {endpoint!r}: {reason}") from None
    return made


def begin_listening(
    endpoint: str,
    backlog: int,
    made: Callable[[str], IStreamServerEndpoint],
    factory: IProtocolFactory,
    *,
    key: str = "listen.endpoint",
) -> Deferred[IListeningPort]:
    """Listen on an endpoint that `made` makes from its string. Returns a Deferred, which most kinds have fired already.

    Raises `SettingsError` for an endpoint that cannot work, and `CannotListenError`.
    """
    try:
        listening: Deferred[IListeningPort] = made(with_backlog(endpoint, backlog)).listen(factory)
    except (ValueError, TypeError, OSError) as error:
        raise SettingsError(f"{key}: {endpoint!r}: {error}") from None
    if isinstance(result := getattr(listening, "result", None), Failure):
        listening.addErrback(lambda _: None)
        if result.check(OverflowError, OSError):
            raise SettingsError(f"{key}: {endpoint!r}: {result.getErrorMessage()}")
        result.raiseException()
    return listening


def address_of(port: IListeningPort) -> str:
    """Return where a port listens, as a text."""
    host: Any = port.getHost()
    return f"{host.host}:{host.port}" if hasattr(host, "port") else str(getattr(host, "name", host))


async def try_to_listen(reactor: SigningReactor, endpoint: str, *, key: str = "listen.endpoint") -> str:
    """Listen for a moment. Return a text if the address is in use, as while the daemon runs, else an empty one.

    What systemd has opened is not tried. Raises `SettingsError` with the setting's `key` if a start could not listen.
    """
    if options(endpoint)[0] == (None, "systemd"):
        return ""
    try:
        port = await server_endpoint(reactor, endpoint, key=key).listen(Factory.forProtocol(_Closed))
    except (OSError, OverflowError, CannotListenError) as error:
        if isinstance(error, OverflowError):
            raise SettingsError(f"{key}: {endpoint!r}: {error}") from None
        cause = error.socketError if isinstance(error, CannotListenError) else error
        # With a lock file, as for Unix sockets, Twisted has only a text.
        if not isinstance(cause, OSError) or cause.errno == errno.EADDRINUSE:
            return f"{endpoint} is in use: a start would fail, unless this daemon is what uses it"
        raise SettingsError(f"{key}: {endpoint!r}: {cause.strerror or cause}") from None
    await maybeDeferred(port.stopListening)
    return ""


def certificate_state(endpoint: str) -> tuple[bool, str] | None:
    """Return whether the certificate of an `ssl:` endpoint is valid now, with a text; None for other endpoints.

    The text is empty if there is nothing to say. Raises `SettingsError` if the certificate cannot be read.
    """
    if options(endpoint)[0] != (None, "ssl"):
        return None
    path = _file(endpoint, "certKey")
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"listen.endpoint: certKey {path}: {_why(error)}") from None
    now = datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return False, f"the certificate {path} is not valid before {begins:%Y-%m-%d}"
    if now > ends:
        return False, f"the certificate {path} expired on {ends:%Y-%m-%d}"
    days = (ends - now).days
    return True, f"the certificate {path} expires on {ends:%Y-%m-%d}, in {days} days" if days < _SOON else ""


class _Closed(Protocol):
    """A connection that came while it was tried to listen."""

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _mistake_in_files(endpoint: str) -> str:
    """Return which file of an `ssl:` endpoint cannot be used, and why; empty if it is none of them."""
    if options(endpoint)[0] != (None, "ssl"):
        return ""
    certificate_path, key_path = _file(endpoint, "certKey"), _file(endpoint, "privateKey")
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (OSError, ValueError) as error:
        return f"certKey {certificate_path}: {_why(error)}"
    try:
        key = load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        return f"privateKey {key_path}: {_why(error)}"
    if key.public_key() != certificate.public_key():
        return f"privateKey {key_path} is not the key of the certificate {certificate_path}"
    return ""


def _file(endpoint: str, option: str) -> Path:
    """Return the file that an option names. Twisted reads both from privateKey unless certKey is given."""
    named = {name: value for name, value in options(endpoint) if name is not None}
    return Path(named.get(option) or named.get("privateKey", "server.pem"))


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if isinstance(error, TypeError):
        return "is encrypted: a daemon cannot ask for a pass phrase"
    return "is not a PEM file with what is expected"
