"""The texts of errors where no response arrived, with hints."""

from __future__ import annotations

from urllib.parse import urlsplit

from digsigd.client._internal.errors import ClientError, ServerUnreachable
from digsigd.client._internal.form import ArtifactChanged
from digsigd.client._internal.responses import clean
from digsigd.http.causes import Cause, cause_of, causes_of
from digsigd.http.connection import HEAD_BYTES

_CHECK_HOST = "check that the address is that of a signing host"
# What happened, and what to do about it.
_TEXTS = {
    Cause.WRONG_NAME: (
        "the certificate of {place} is for another host name",
        "use a name from the certificate: openssl s_client -connect {place} </dev/null | openssl x509 -noout -text",
    ),
    Cause.UNTRUSTED: (
        "the certificate of {place} is not trusted: its authority is unknown here, or it is expired or not valid yet",
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
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = f"{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"
    what, hint = _TEXTS[cause]
    if parts.scheme == "http":
        hint += _OVER_PLAIN_HTTP.get(cause, "")
    reason = clean(reason) or "no reason given"
    what = what.format(place=place, host=parts.hostname, reason=reason)
    return ServerUnreachable(what, hint=hint.format(place=place)), cause.passing
