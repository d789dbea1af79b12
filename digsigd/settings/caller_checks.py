"""Checks the settings of callers, TLS and a proxy for what their types cannot express."""

from __future__ import annotations

import re
from collections.abc import Callable

from digsigd.settings.endpoints import options
from digsigd.settings.errors import SettingsError
from digsigd.settings.tables import CallerSettings, Settings

CALLER = r"[A-Za-z0-9._+@-]{1,64}"
CALLER_FORM = "1-64 of A-Z a-z 0-9 . _ + @ -"
# RFC 9110, 5.1, without the characters that some proxies drop.
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
# Headers with a meaning of their own. A proxy that passes them on does not say by them who the caller is.
_TAKEN = {"authorization", "cookie", "host", "origin", "content-type", "content-length", "connection", "x-request-id"}

Wrong = Callable[[str, str], SettingsError]


def check_callers(settings: Settings, wrong: Wrong) -> None:
    """Check `[callers]`, `[listen.tls]` and `[listen.proxy]`. Raises what `wrong` builds from a key and a text."""
    for name, caller in settings.callers.items():
        if not re.fullmatch(CALLER, name):
            raise wrong(f"callers.{name}", f"is not a caller name: expected {CALLER_FORM}")
        _check_caller(f"callers.{name}", caller, settings, wrong)
    _check_tls(settings, wrong)
    _check_proxy(settings, wrong)


def _check_caller(key: str, caller: CallerSettings, settings: Settings, wrong: Wrong) -> None:
    for number, token in enumerate(caller.tokens, 1):
        if (token.sha256 is None) == (token.file is None):
            raise wrong(f"{key}.tokens", f"token {number} must have either sha256 or file")
    if caller.certificates and settings.listen.tls.client_ca is None:
        raise wrong(f"{key}.certificate", "needs listen.tls.client_ca, the authority of clients' certificates")
    known = caller.token_file or caller.tokens or caller.certificates or settings.listen.proxy.caller_header
    if not known:
        raise wrong(
            key,
            "has nothing to prove who it is: add the lines that `digsigd token new` prints, a token_file, or a"
            " certificate",
        )


def _check_tls(settings: Settings, wrong: Wrong) -> None:
    tls = settings.listen.tls
    if (tls.certificate is None) != (tls.key is None):
        raise wrong("listen.tls", "certificate and key go together; set both or neither")
    if tls.client_ca is not None and tls.certificate is None:
        raise wrong("listen.tls.client_ca", "needs certificate and key, the host's own")
    if tls.crl is not None and tls.client_ca is None:
        raise wrong("listen.tls.crl", "needs client_ca")
    kind = options(settings.listen.endpoint)[0][1]
    if tls.certificate is not None and kind not in {"tcp", "tcp6", "unix", "systemd"}:
        raise wrong(
            "listen.tls",
            f"cannot be used with the endpoint {settings.listen.endpoint!r}; expected tcp:, tcp6: or unix:",
        )


def _check_proxy(settings: Settings, wrong: Wrong) -> None:
    proxy = settings.listen.proxy
    if proxy.caller_header is None:
        if proxy.certificates:
            raise wrong("listen.proxy.certificate", "needs caller_header")
        return
    if not _HEADER.fullmatch(proxy.caller_header) or proxy.caller_header.lower() in _TAKEN:
        raise wrong("listen.proxy.caller_header", "is not usable; expected a header such as X-Digsigd-Caller")
    if not settings.callers:
        raise wrong("listen.proxy.caller_header", "needs [callers.NAME], a table for each caller that the proxy names")
    is_unix = options(settings.listen.endpoint)[0] == (None, "unix")
    if not proxy.certificates and not is_unix:
        raise wrong(
            "listen.proxy",
            "needs certificate, the fingerprint of the proxy's client certificate, or an endpoint unix:;"
            " anybody else could send the header",
        )
    if not proxy.certificates and _mode(settings.listen.endpoint) & 0o007:
        raise wrong(
            "listen.endpoint",
            f"{settings.listen.endpoint!r} lets every user of this host send the header; add :mode=660",
        )
    if proxy.certificates and settings.listen.tls.client_ca is None:
        raise wrong("listen.proxy.certificate", "needs listen.tls.client_ca, the authority of the proxy's certificate")


def _mode(endpoint: str) -> int:
    """Return the mode of a Unix socket; Twisted's default is 666."""
    mode = dict(options(endpoint)).get("mode", "666")
    return int(mode, 8) if re.fullmatch("[0-7]{1,4}", mode) else 0o666
