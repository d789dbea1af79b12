"""Why there was no answer, in words, with what to do about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from digsigd.client._internal.errors import ClientError, ServerUnreachable
from digsigd.client._internal.form import ArtifactChanged
from digsigd.client._internal.responses import clean
from digsigd.http.causes import Cause, cause_of, causes_of
from digsigd.http.connection import HEAD_BYTES

# What happened, and what to do about it.
_TEXTS = {
    Cause.WRONG_NAME: (
        "the certificate of {place} is for another name",
        "use a name that is in it: openssl s_client -connect {place} </dev/null | openssl x509 -noout -text",
    ),
    Cause.UNTRUSTED: (
        "the certificate of {place} is not trusted: its authority is not known here, or it is not valid now",
        "give the authority that signed it: --ca-file FILE, DIGSIGN_CA_FILE, or ca_file in digsign.toml",
    ),
    Cause.NO_TLS: ("{place} does not speak TLS", "is it http:// and not https://, or another port?"),
    Cause.CERTIFICATE_WANTED: (
        "{place} does not take our TLS: {told}",
        "it may want a client certificate, or another one: --client-cert FILE and --client-key FILE",
    ),
    Cause.OTHER_TLS: ("TLS with {place} failed: {told}", ""),
    Cause.HEAD_TOO_LONG: (f"{{place}} answers with headers of more than {HEAD_BYTES} bytes", "is it a signing host?"),
    Cause.BODY_TOO_LONG: ("{place} answers with more bytes than such an answer has", "is it a signing host?"),
    Cause.NO_HTTP: ("{place} does not answer in HTTP", "is it a signing host?"),
    Cause.NO_HOST: ("there is no host {host!r}", "is the server's name right?"),
    Cause.REFUSED: (
        "{place} refuses connections",
        "does the signing host run, and is that its port? digsigd's is 9999",
    ),
    Cause.CONNECTING_TOO_LONG: ("{place} cannot be reached in time", "is the address right, and a way there?"),
    Cause.NOT_CONNECTED: ("{place} cannot be reached: {told}", ""),
    Cause.STOOD_STILL: ("{place} gives no answer in time: {told}", ""),
    Cause.CLOSED: ("{place} closed the connection before it had answered", ""),
    Cause.UNKNOWN: ("{place} gives no answer: {told}", ""),
}
# What is said beside that where the address is http://.
_OVER_PLAIN_HTTP = {
    Cause.NO_HTTP: " With TLS it is https://.",
    Cause.CLOSED: "is it https:// and not http://?",
}


def explained(error: BaseException, url: str) -> tuple[ClientError, bool]:
    """Return the error for people, and whether another try may do."""
    for one in causes_of(error):
        if isinstance(one, ClientError):
            return one, False
        if isinstance(one, ArtifactChanged):
            return ClientError(f"the artifact {one}", hint="let nobody write it while it is signed"), False
    cause, told = cause_of(error)
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = f"{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"
    what, hint = _TEXTS[cause]
    if parts.scheme == "http":
        hint += _OVER_PLAIN_HTTP.get(cause, "")
    told = clean(told) or "no reason is told"
    what = what.format(place=place, host=parts.hostname, told=told)
    return ServerUnreachable(what, hint=hint.format(place=place)), cause.passing
