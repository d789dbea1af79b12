"""What a request of Twisted shows of who is asking."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport
from twisted.web.http_headers import Headers

from digsigd.callers.access import Asking


def asking_of(channel: Any, headers: Headers) -> Asking:
    """Return what the connection of a channel and the headers of a request show."""

    def header(name: str) -> list[str]:
        return [value.decode("utf-8", "replace") for value in headers.getRawHeaders(name.encode(), [])]

    host = channel.getHost() if hasattr(channel, "getHost") else None
    return Asking(
        header, _certificate_of(channel), address=getattr(host, "host", ""), is_unix=isinstance(host, UNIXAddress)
    )


def _certificate_of(channel: Any) -> x509.Certificate | None:
    """Return the client's certificate; None without TLS, without a certificate, and with HTTP/2."""
    transport: Any = ISSLTransport(getattr(channel, "transport", None), None)
    certificate = transport.getPeerCertificate() if transport is not None else None
    return certificate.to_cryptography() if certificate is not None else None
