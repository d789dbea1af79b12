"""Why there was no answer: in words, with what to do about it, and whether another try may get one."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from OpenSSL.SSL import Error as TlsError
from service_identity import VerificationError
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    TCPTimedOutError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.web._newclient import ParseError

from digsigd.client._internal.errors import ClientError, ServerUnreachable
from digsigd.client._internal.exchange import StoodStill
from digsigd.client._internal.form import ArtifactChanged
from digsigd.client._internal.responses import clean
from digsigd.keys.body import TooLong
from digsigd.keys.connection import HEAD_BYTES, HeadTooLong

# What OpenSSL calls what: the third of the texts of an error, and alerts of RFC 8446, 6.2.
_UNTRUSTED = ("certificate verify failed",)
_NO_TLS = ("wrong version number", "packet length too long", "record layer failure", "http request", "unknown protocol")
_WANTS_CERTIFICATE = (
    "certificate required",
    "handshake failure",
    "bad certificate",
    "unknown ca",
    "certificate unknown",
    "certificate expired",
    "unsupported certificate",
)


def explained(error: BaseException, url: str) -> tuple[ClientError, bool]:
    """The error for people, and whether another try may do."""
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, ClientError):
            return cause, False
        if isinstance(cause, ArtifactChanged):
            return ClientError(f"the artifact {cause}", hint="let nobody write it while it is signed"), False
        if found := _of_tls(cause, url) or _of_nonsense(cause, url):
            return found, False
    for cause in causes:
        if found := _of_connection(cause, url):
            return found, True
    why = "; ".join(dict.fromkeys(map(_in_words, causes)))
    return ServerUnreachable(f"{_place(url)} gives no answer: {clean(why)}"), True


def _of_tls(cause: BaseException, url: str) -> ClientError | None:
    """TLS that cannot come about."""
    place = _place(url)
    if isinstance(cause, VerificationError):
        return ServerUnreachable(
            f"the certificate of {place} is for another name",
            hint=f"use a name that is in it: openssl s_client -connect {place} </dev/null | openssl x509 -noout -text",
        )
    if not isinstance(cause, TlsError):
        return None
    told = ", ".join(str(text) for part in cause.args if isinstance(part, list) for *_, text in part)
    if any(text in told for text in _UNTRUSTED):
        return ServerUnreachable(
            f"the certificate of {place} is not trusted: its authority is not known here, or it is not valid now",
            hint="give the authority that signed it: --ca-file FILE, DIGSIGN_CA_FILE, or ca_file in digsign.toml",
        )
    if any(text in told for text in _NO_TLS):
        return ServerUnreachable(f"{place} does not speak TLS", hint="is it http:// and not https://, or another port?")
    if any(text in told for text in _WANTS_CERTIFICATE):
        return ServerUnreachable(
            f"{place} does not take our TLS: {clean(told)}",
            hint="it may want a client certificate, or another one: --client-cert FILE and --client-key FILE",
        )
    return ServerUnreachable(f"TLS with {place} failed: {clean(told) or 'no reason is told'}")


def _of_nonsense(cause: BaseException, url: str) -> ClientError | None:
    """An answer that is none, and would be none again."""
    place = _place(url)
    hint = "is it a signing host?"
    if isinstance(cause, HeadTooLong):
        return ServerUnreachable(f"{place} answers with headers of more than {HEAD_BYTES} bytes", hint=hint)
    if isinstance(cause, TooLong):
        return ServerUnreachable(f"{place} answers with more bytes than such an answer has", hint=hint)
    if isinstance(cause, ParseError | ValueError | KeyError):
        more = " With TLS it is https://." if url.startswith("http://") else ""
        return ServerUnreachable(f"{place} does not answer in HTTP", hint=hint + more)
    return None


def _of_connection(cause: BaseException, url: str) -> ClientError | None:
    """A connection that does not come about, breaks or stands still."""
    place = _place(url)
    if isinstance(cause, DNSLookupError):
        return ServerUnreachable(f"there is no host {urlsplit(url).hostname!r}", hint="is the server's name right?")
    if isinstance(cause, Refused):
        return ServerUnreachable(
            f"{place} refuses connections", hint="does the signing host run, and is that its port? digsigd's is 9999"
        )
    if isinstance(cause, ConnectTimeout | TCPTimedOutError):
        return ServerUnreachable(f"{place} cannot be reached in time", hint="is the address right, and a way there?")
    if isinstance(cause, ConnectError):
        return ServerUnreachable(f"{place} cannot be reached: {clean(str(cause))}")
    if isinstance(cause, StoodStill | LateError):
        return ServerUnreachable(f"{place} gives no answer in time: {clean(str(cause)) or 'it stood still'}")
    if isinstance(cause, ConnectionClosed):
        more = "is it https:// and not http://?" if url.startswith("http://") else ""
        return ServerUnreachable(f"{place} closed the connection before it had answered", hint=more)
    return None


def _place(url: str) -> str:
    """Host and port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """What is below Twisted's wrappers, of which there may be several."""
    reasons = getattr(error, "reasons", None)
    if not reasons:
        yield error
        return
    for reason in reasons:
        yield from causes_of(reason.value)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
