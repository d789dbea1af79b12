"""Who may do what: one immutable value, made from the settings and the files that they name.

A reload makes a new value and puts it in the place of the old one. A request keeps the `Caller` that it was given.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from digsigd.callers.certificates import CertificateName, check_current, shown
from digsigd.callers.credentials import credentials_in
from digsigd.callers.hosts import check_host, check_origin
from digsigd.callers.model import ANONYMOUS, Caller
from digsigd.callers.tokens import CallerToken, sha256_of
from digsigd.errors import DigsigError, NotAuthenticated


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request shows of who is asking.

    `header` returns the values of a header. `certificate` is the client's, checked by TLS; `address` is where the
    connection arrived, without its port; `is_unix` means a Unix socket.
    """

    header: Callable[[str], list[str]]
    certificate: x509.Certificate | None = None
    address: str = ""
    is_unix: bool = False


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that says in the header `header` who the caller is.

    It is known by the SHA-256 of one of its certificates; none means that it alone can reach the Unix socket.
    """

    header: str
    certificates: tuple[bytes, ...] = ()

    def sent(self, asking: Asking) -> bool:
        """Return whether a request comes from the proxy."""
        if not self.certificates:
            return asking.is_unix
        given = asking.certificate.fingerprint(SHA256()) if asking.certificate is not None else b""
        return any(hmac.compare_digest(given, one) for one in self.certificates)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """All callers, and by what each is known. Without callers, authentication is off and everybody is `ANONYMOUS`.

    `allowed_hosts` is None on the site of another program, which knows its own names.
    """

    callers: dict[str, Caller]
    tokens: tuple[CallerToken, ...] = ()
    certificates: tuple[tuple[str, CertificateName], ...] = ()
    crls: Sequence[x509.CertificateRevocationList] = ()
    proxy: Proxy | None = None
    allowed_hosts: frozenset[str] | None = None
    now: Callable[[], datetime] = _now

    def identify(self, asking: Asking) -> Caller:
        """Return the caller of a request: by its token, else by the proxy's word, else by its certificate.

        Raises `NotAuthenticated` if it proves nothing or something wrong, `NotAllowed` for requests of web pages.
        """
        host = ",".join(asking.header("Host"))
        check_origin(asking.header("Origin"), host)
        if not self.callers:
            if self.allowed_hosts is not None:
                check_host(host, self.allowed_hosts, asking.address)
            return ANONYMOUS
        if asking.certificate is not None:
            check_current(asking.certificate, self.crls, self.now())
        named = self._named_by_proxy(asking)
        authorization = ",".join(asking.header("Authorization"))
        if authorization:
            return self._by_token(authorization)
        if named is not None:
            return named
        # The proxy's certificate says nothing about the client behind it, even if it has the name of a caller.
        if asking.certificate is not None and not (self.proxy is not None and self.proxy.sent(asking)):
            return self._by_certificate(asking.certificate)
        raise NotAuthenticated(
            "authentication required",
            hint="send Authorization: Bearer TOKEN, or the caller's name and token as user name and password",
        )

    def _by_token(self, authorization: str) -> Caller:
        name, token = credentials_in(authorization)
        given = sha256_of(token)
        found = None
        # All tokens are compared even after a match, so that the time taken reveals nothing.
        for one in self.tokens:
            if hmac.compare_digest(given, one.sha256) and name in {None, one.caller}:
                found = one
        if found is None:
            raise NotAuthenticated("wrong caller name or token")
        if found.not_after is not None and self.now() > found.not_after:
            raise NotAuthenticated("the token has expired", hint="ask the operator of the signing host for a new one")
        return replace(self.callers[found.caller], proof=f"token {found.short_id}")

    def _named_by_proxy(self, asking: Asking) -> Caller | None:
        if self.proxy is None or not (names := asking.header(self.proxy.header)):
            return None
        if not self.proxy.sent(asking):
            raise NotAuthenticated(f"the header {self.proxy.header} is accepted from the trusted proxy only")
        if len(names) != 1 or names[0] not in self.callers:
            raise NotAuthenticated(f"the header {self.proxy.header} does not name a caller of this signing host")
        return replace(self.callers[names[0]], proof="proxy")

    def _by_certificate(self, certificate: x509.Certificate) -> Caller:
        found = {name for name, one in self.certificates if one.fits(certificate)}
        if not found:
            raise NotAuthenticated(
                "the client certificate belongs to no caller",
                hint="ask the operator of the signing host to add it to [callers]",
            )
        if len(found) > 1:
            raise NotAuthenticated(f"the client certificate belongs to several callers: {', '.join(sorted(found))}")
        return replace(self.callers[found.pop()], proof=f"certificate {shown(certificate)}")


class CurrentAccess:
    """The place of the `Access` that holds now. A reload sets `value`."""

    def __init__(self, value: Access) -> None:
        self.value = value

    def identify(self, asking: Asking) -> Caller:
        """Call `Access.identify` of the current value."""
        return self.value.identify(asking)

    def is_known(self, asking: Asking) -> bool:
        """Return whether a request is from a caller, or authentication is off."""
        try:
            self.identify(asking)
        except DigsigError:
            return False
        return True
