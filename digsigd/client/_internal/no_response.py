"""The texts of errors where no response arrived, with hints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twisted.web.client import ResponseNeverReceived

from digsigd.client._internal.errors import ClientError, ServerUnreachable
from digsigd.client._internal.form import ArtifactChanged
from digsigd.client._internal.responses import clean
from digsigd.http.causes import Cause, cause_of, causes_of
from digsigd.http.connection import HEAD_BYTES
from digsigd.http.probe import certificate_at

if TYPE_CHECKING:
    from digsigd.http.reactor import Reactor

_OUT_OF_DATE = "ask the operator of the signing host for a new certificate, and check the clock of this computer"
_CHECK_HOST = "check that the address is that of a signing host"
# What happened, and what to do about it.
_TEXTS = {
    Cause.WRONG_NAME: (
        "the certificate of {place} is for another host name",
        "use a name from the certificate: openssl s_client -connect {place} </dev/null | openssl x509 -noout -text",
    ),
    Cause.UNTRUSTED: (
        "the certificate of {place} is not trusted: its authority is unknown here, or has expired",
        "pass the authority that signed it: --ca-file FILE, DIGSIGN_CA_FILE, or ca_file in digsign.toml",
    ),
    Cause.NO_TLS: ("{place} does not speak TLS", "check the address: use http:// instead of https://, or another port"),
    Cause.CERTIFICATE_WANTED: (
        "{place} refuses the TLS connection: {reason}",
        "pass a client certificate that the server accepts: --client-cert FILE and --client-key FILE",
    ),
    Cause.OTHER_TLS: ("TLS with {place} failed: {reason}", ""),
    Cause.HEAD_TOO_LONG: (f"{{place}} answers with headers of more than {HEAD_BYTES} bytes", _CHECK_HOST),
    Cause.BODY_TOO_LONG: ("{place} answers with more bytes than expected", _CHECK_HOST),
    Cause.NO_HTTP: ("{place} does not answer in HTTP", _CHECK_HOST),
    Cause.NO_HOST: ("host {host!r} not found", "check the server's name"),
    Cause.REFUSED: (
        "{place} refuses connections",
        "check that the signing host runs, and its port (digsigd's default is 9999)",
    ),
    Cause.CONNECTING_TOO_LONG: ("{place} cannot be reached in time", "check the address and the network"),
    Cause.NOT_CONNECTED: ("{place} cannot be reached: {reason}", ""),
    Cause.STALLED: ("{place} does not answer in time: {reason}", ""),
    Cause.CLOSED: ("{place} closed the connection before it answered", ""),
    Cause.UNKNOWN: ("{place} does not answer: {reason}", ""),
}
# Added to the hint if the address is http://.
_OVER_PLAIN_HTTP = {
    Cause.NO_HTTP: "; if it uses TLS, use https://",
    Cause.CLOSED: "if the server uses TLS, use https:// instead of http://",
}


def explained(error: BaseException, url: str) -> tuple[ClientError, bool]:
    """Return the error with its text and hint, and whether another try can succeed."""
    for one in causes_of(error):
        if isinstance(one, ClientError):
            return one, False
        if isinstance(one, ArtifactChanged):
            return ClientError(f"the artifact {one}", hint="do not change the file while it is being signed"), False
    cause, reason = cause_of(error)
    parts = urlsplit(url)
    place = _place(url)
    what, hint = _TEXTS[cause]
    if parts.scheme == "http":
        hint += _OVER_PLAIN_HTTP.get(cause, "")
    reason = clean(reason) or "no reason given"
    what = what.format(place=place, host=parts.hostname, reason=reason)
    return ServerUnreachable(what, hint=hint.format(place=place)), cause.passing


async def looked_closer(error: BaseException, url: str, reactor: Reactor, *, seconds: float) -> ClientError | None:
    """Return what the port of `url` shows of the reason, in another connection; None if that is not more."""
    cause, parts = cause_of(error)[0], urlsplit(url)
    # A server that has begun to answer in HTTP has no TLS.
    silent = cause is Cause.CLOSED and isinstance(error, ResponseNeverReceived)
    if parts.hostname is None or not (silent if parts.scheme == "http" else cause is Cause.UNTRUSTED):
        return None
    certificate = await certificate_at(reactor, parts.hostname, _port(url), seconds=seconds)
    if certificate is None:
        return None
    place, now = _place(url), datetime.now(UTC)
    if parts.scheme == "http":
        return ServerUnreachable(f"{place} uses TLS", hint="use https:// instead of http:// in its address")
    if certificate.not_valid_after_utc < now:
        end = certificate.not_valid_after_utc
        return ServerUnreachable(f"the certificate of {place} expired on {end:%Y-%m-%d}", hint=_OUT_OF_DATE)
    if certificate.not_valid_before_utc > now:
        begin = certificate.not_valid_before_utc
        return ServerUnreachable(f"the certificate of {place} is not valid before {begin:%Y-%m-%d}", hint=_OUT_OF_DATE)
    return None


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def _place(url: str) -> str:
    """Return host and port of an address."""
    host = urlsplit(url).hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{_port(url)}"
