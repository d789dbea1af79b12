"""What a configuration allows that is not safe, or means something else than it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from digsigd.callers.access import Access
from digsigd.callers.model import pattern_for
from digsigd.settings import CallerSettings, Settings, is_local
from digsigd.settings.endpoints import options
from digsigd.settings.permissions import Finding, readable_findings, secret_files

# How long before its end a token, a certificate or a revocation list is reported.
_SOON = timedelta(days=14)


def findings(settings: Settings, access: Access, certificate: x509.Certificate | None = None) -> list[Finding]:
    """Return what is not safe or will soon not work. `certificate` is the host's own, of `[listen.tls]`.

    It looks at the modes of files, and does not read them. A start logs each finding, and `--check` prints it.
    """
    return [
        *readable_findings(_secrets(settings, access)),
        *_in_clear(settings, access),
        *_ends(access, certificate),
        *_page(settings),
        *(found for name, caller in settings.callers.items() for found in _rights(name, caller, settings)),
    ]


def _secrets(settings: Settings, access: Access) -> Iterator[tuple[str, Path]]:
    yield from secret_files(settings)
    for token in access.tokens:
        if token.in_clear is not None:
            yield token.where, token.in_clear


def _in_clear(settings: Settings, access: Access) -> Iterator[Finding]:
    for token in access.tokens:
        if token.in_clear is not None:
            yield Finding(
                token.where,
                f"{token.in_clear} holds the token itself; replace it with sha256:{token.sha256.hex()}",
            )
    endpoint = settings.listen.endpoint
    has_tls = settings.listen.tls.certificate is not None or options(endpoint)[0] == (None, "ssl")
    if access.tokens and not has_tls and not is_local(endpoint):
        yield Finding(
            "listen.endpoint", f"tokens and images cross the network in clear on {endpoint!r}; use listen.tls"
        )


def _ends(access: Access, certificate: x509.Certificate | None) -> Iterator[Finding]:
    now = access.now()
    for token in access.tokens:
        if token.not_after is not None and token.not_after < now + _SOON:
            yield Finding(token.where, f"the token {_when(token.not_after, now)}; make a new one: digsigd token new")
    if certificate is not None and certificate.not_valid_after_utc < now + _SOON:
        yield Finding("listen.tls.certificate", f"the certificate {_when(certificate.not_valid_after_utc, now)}")
    for crl in access.crls:
        if crl.next_update_utc is not None and crl.next_update_utc < now + timedelta(days=1):
            yield Finding(
                "listen.tls.crl",
                f"the list of {crl.issuer.rfc4514_string()} {_when(crl.next_update_utc, now)}; then no client"
                " certificate is accepted",
            )


def _when(end: datetime, now: datetime) -> str:
    return f"{'has ended' if end < now else 'ends'} at {end:%Y-%m-%d %H:%M %Z}"


def _page(settings: Settings) -> Iterator[Finding]:
    page = settings.page
    if not page.enabled:
        return
    if settings.callers:
        if not any(pattern_for(name, page.callers) for name in settings.callers):
            yield Finding("page.callers", "no caller has such a name, so nobody can open the page")
    elif not is_local(settings.listen.endpoint):
        yield Finding("page.enabled", "everybody who can reach this host sees its record; add [callers.NAME]")


def _only_looks(name: str, caller: CallerSettings, settings: Settings) -> bool:
    """Return whether a caller is a person who looks at the page and signs nothing."""
    may_open = settings.page.enabled and pattern_for(name, settings.page.callers) is not None
    return may_open and bool(caller.machines) and not caller.backends and not caller.cst_versions


def _rights(name: str, caller: CallerSettings, settings: Settings) -> Iterator[Finding]:
    lacking = [key for key in ("machines", "backends", "cst_versions") if not getattr(caller, key)]
    # A scraper that reads metrics needs no right to sign.
    scrapes = caller.metrics and len(lacking) == 3
    if lacking and not scrapes and not _only_looks(name, caller, settings):
        missing = {"machines": '["MACHINE"]', "backends": '["ssl"]', "cst_versions": '["*"]'}
        lines = "; ".join(f"{key} = {missing[key]}" for key in lacking)
        yield Finding(f"callers.{name}", f"may sign nothing, because what is not listed is not allowed: add {lines}")
    allowed = {*settings.policy.allow, *(one for machine in settings.machines.values() for one in machine.allow)}
    for one in caller.csf.allow:
        if one not in allowed:
            yield Finding(
                f"callers.{name}.csf.allow", f"{one!r} has no effect: neither [policy] nor a machine allows it"
            )
