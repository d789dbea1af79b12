"""digsigd signs NXP i.MX boot and kernel images with NXP's cst, and proves every signature before it answers.

The names below are the public API for programs that embed digsigd; docs/embedding.md shows how to use them. Each is
imported on first use: `import digsigd` installs no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digsigd.errors import DigsigError
    from digsigd.service import SigningService
    from digsigd.settings import (
        CallerCsfSettings,
        CallerSettings,
        CallerTokenSettings,
        CanarySettings,
        CstSettings,
        DaemonSettings,
        HttpStoreSettings,
        KeysSettings,
        ListenSettings,
        MachineSettings,
        MetricsSettings,
        PageSettings,
        Pkcs11Settings,
        PolicySettings,
        ProxySettings,
        RecordSettings,
        S3StoreSettings,
        Settings,
        SettingsError,
        TelemetrySettings,
        TlsSettings,
        TokenSettings,
        UploadSettings,
        load,
    )
    from digsigd.signing.request import Signed, SigningRequest

    __version__: str

__all__ = [
    "CallerCsfSettings",
    "CallerSettings",
    "CallerTokenSettings",
    "CanarySettings",
    "CstSettings",
    "DaemonSettings",
    "DigsigError",
    "Error",
    "HttpStoreSettings",
    "KeysSettings",
    "ListenSettings",
    "MachineSettings",
    "MetricsSettings",
    "PageSettings",
    "Pkcs11Settings",
    "PolicySettings",
    "ProxySettings",
    "RecordSettings",
    "S3StoreSettings",
    "Settings",
    "SettingsError",
    "Signed",
    "SigningRequest",
    "SigningService",
    "TelemetrySettings",
    "TlsSettings",
    "TokenSettings",
    "UploadSettings",
    "load",
]

_WHERE = {name: "digsigd.settings" for name in __all__ if "Settings" in name} | {
    "DigsigError": "digsigd.errors",
    "SigningService": "digsigd.service",
    "load": "digsigd.settings",
    "Signed": "digsigd.signing.request",
    "SigningRequest": "digsigd.signing.request",
}


class Error(Exception):
    """Base of every error that digsigd, its client and its pure parts raise on purpose.

    `what` says what happened, `hint` what to do about it. Both may be shown to the client that caused the error, so
    they hold no secret. The class is here because the pure parts and the client import nothing else in common.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def summary(self) -> str:
        """Return what happened and where (a line, an offset, a request) in one sentence, without the hint."""
        return self.what

    def diagnostics(self) -> str:
        """Return text for people: what happened and where, then the hint, indented, one line each.

        Control characters are escaped, so that text from a file or a server cannot control a terminal.
        """
        from digsigd.text import one_line

        lines = [self.summary(), *(f"  {line}" for line in self.hint.splitlines())]
        return "\n".join(one_line(line) for line in lines)

    def __str__(self) -> str:
        return self.summary()


if not TYPE_CHECKING:  # with it, a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import and return a public name. `__version__` is the version of the installed distribution.

        Raises `AttributeError` for any other name.
        """
        if name == "__version__":
            from importlib.metadata import version

            return version("digsigd")
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    """Return all names, including public names that have not been imported yet."""
    return sorted({*globals(), *_WHERE, "__version__"})
