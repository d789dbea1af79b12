"""Makes `Access` from the settings and the files that they name."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from digsigd import csf
from digsigd.callers.access import Access, Proxy
from digsigd.callers.certificates import CertificateName
from digsigd.callers.hosts import allowed_hosts
from digsigd.callers.model import Caller, Rights
from digsigd.callers.tokens import CallerToken, tokens_of
from digsigd.settings import CallerSettings, Settings, SettingsError


def access_of(
    settings: Settings, crls: Sequence[x509.CertificateRevocationList] = (), *, listens: bool = True
) -> Access:
    """Return who may do what, with tokens read from their files. `crls` are the revocation lists of `[listen.tls]`.

    `listens` is false on the site of another program: its names are checked only if `listen.allowed_hosts` has some.

    Raises `SettingsError` if a file cannot be used, two callers have the same token or certificate, or a right or a
    certificate is not understood.
    """
    tokens: list[CallerToken] = []
    names: list[tuple[str, CertificateName]] = []
    callers = {}
    for name, caller in settings.callers.items():
        tokens += tokens_of(name, caller)
        names += [(name, _parsed(f"callers.{name}.certificate", one)) for one in caller.certificates]
        callers[name] = Caller(name, _rights_of(name, caller))
    _check_different(tokens, names)
    return Access(
        callers=callers,
        tokens=tuple(tokens),
        certificates=tuple(names),
        crls=tuple(crls),
        proxy=_proxy_of(settings),
        allowed_hosts=allowed_hosts(settings) if listens or settings.listen.allowed_hosts else None,
    )


def _rights_of(name: str, caller: CallerSettings) -> Rights:
    try:
        csf.Policy(frozenset(caller.csf.allow))
    except ValueError as error:
        raise SettingsError(f"callers.{name}.csf.allow: {error}") from None
    return Rights(caller.machines, caller.backends, caller.cst_versions, caller.csf.allow, caller.metrics)


def _parsed(key: str, text: str) -> CertificateName:
    try:
        return CertificateName.parse(text)
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from None


def _proxy_of(settings: Settings) -> Proxy | None:
    proxy = settings.listen.proxy
    if proxy.caller_header is None:
        return None
    pins = []
    for one in proxy.certificates:
        pin = _parsed("listen.proxy.certificate", one).value
        if not isinstance(pin, bytes):
            raise SettingsError("listen.proxy.certificate: expected sha256:FINGERPRINT of the proxy's certificate")
        pins.append(pin)
    return Proxy(proxy.caller_header, tuple(pins))


def _check_different(tokens: Sequence[CallerToken], names: Sequence[tuple[str, CertificateName]]) -> None:
    """Raise `SettingsError` if two tokens or certificates are the same: a request would have several callers."""
    known: dict[bytes, CallerToken] = {}
    for token in tokens:
        if (other := known.setdefault(token.sha256, token)) is not token:
            raise SettingsError(
                f"{token.where}: has the same token as caller {other.caller!r}; each caller needs a different one"
            )
    seen: dict[tuple[str, object], str] = {}
    for name, one in names:
        if (first := seen.setdefault((one.kind, one.value), name)) != name:
            raise SettingsError(f"callers.{name}.certificate: {one.text!r} belongs to caller {first!r} already")
