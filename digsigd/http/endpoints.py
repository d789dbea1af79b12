"""Endpoints for web servers over TCP or TLS."""

from __future__ import annotations

import re
from typing import Any

from OpenSSL.crypto import Error
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from digsigd.http.reactor import Reactor

CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Makes endpoints for `http` and `https` addresses that connect within `connect_timeout` seconds.

    `trust_root` holds the trusted authorities (None: the system's). `certificate` is the client certificate to present
    (None: no certificate).
    """

    def __init__(
        self, reactor: Reactor, *, connect_timeout: float, trust_root: Any, certificate: PrivateCertificate | None
    ) -> None:
        self._reactor = reactor
        self._connect_timeout = connect_timeout
        self._trust_root = trust_root
        self._certificate = certificate

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Implement `IAgentEndpointFactory.endpointForURI`: return the endpoint for an address."""
        host = uri.host.decode("ascii")
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, uri.port, timeout=self._connect_timeout)
        if uri.scheme == b"https":
            more = {} if self._trust_root is None else {"trustRoot": self._trust_root}
            endpoint = wrapClientTLS(optionsForClientTLS(host, clientCertificate=self._certificate, **more), endpoint)
        return endpoint


def trust_root_of(pem: bytes) -> Any:
    """Return the authorities in a PEM file as the `trust_root` of `Endpoints`.

    Raises `ValueError` if there is no certificate in it or one is damaged. The text continues the file's name.
    """
    pems = CERTIFICATE.findall(pem)
    if not pems:
        raise ValueError("has no certificate in PEM")
    try:
        return trustRootFromCertificates([Certificate.loadPEM(one) for one in pems])
    except (Error, ValueError):
        raise ValueError("has a damaged certificate") from None
