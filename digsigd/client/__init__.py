"""A client of signing hosts: sign whole images, verify them, and ask hosts what they have.

The names below are the whole of it for programs; docs/client.md shows how they are used. They are imported when first
used: `import digsigd.client` installs no reactor, and loads no Twisted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digsigd.client._internal.api import SignedBlob, SignedFile, SigningClient
    from digsigd.client._internal.errors import (
        AhabVerificationFailed,
        ClientError,
        ClientSettingsError,
        ServerFailed,
        ServerRefused,
        ServerUnreachable,
        VerificationFailed,
    )
    from digsigd.client._internal.form import Progress
    from digsigd.client._internal.image_signing.ahab import SignedContainer, sign_ahab
    from digsigd.client._internal.image_signing.ahab_keys import ahab_key_names
    from digsigd.client._internal.image_signing.ahab_verify import verify_ahab
    from digsigd.client._internal.image_signing.key_names import KeyNames, key_names
    from digsigd.client._internal.image_signing.sign import SignedPart, sign_image
    from digsigd.client._internal.image_signing.verify import verify_image
    from digsigd.client._internal.machine_keys import AhabTableInfo, CertificateInfo, MachineKeys, SrkTableInfo
    from digsigd.client._internal.run import run
    from digsigd.client._internal.settings import ClientSettings, load
    from digsigd.image.ahab_report import AhabReport
    from digsigd.image.errors import ImageError
    from digsigd.image.report import Report

__all__ = [
    "AhabReport",
    "AhabTableInfo",
    "AhabVerificationFailed",
    "CertificateInfo",
    "ClientError",
    "ClientSettings",
    "ClientSettingsError",
    "ImageError",
    "KeyNames",
    "MachineKeys",
    "Progress",
    "Report",
    "ServerFailed",
    "ServerRefused",
    "ServerUnreachable",
    "SignedBlob",
    "SignedContainer",
    "SignedFile",
    "SignedPart",
    "SigningClient",
    "SrkTableInfo",
    "VerificationFailed",
    "ahab_key_names",
    "key_names",
    "load",
    "run",
    "sign_ahab",
    "sign_image",
    "verify_ahab",
    "verify_image",
]

_WHERE = {
    "AhabReport": "digsigd.image.ahab_report",
    "AhabTableInfo": "digsigd.client._internal.machine_keys",
    "AhabVerificationFailed": "digsigd.client._internal.errors",
    "CertificateInfo": "digsigd.client._internal.machine_keys",
    "ClientError": "digsigd.client._internal.errors",
    "ClientSettings": "digsigd.client._internal.settings",
    "ClientSettingsError": "digsigd.client._internal.errors",
    "ImageError": "digsigd.image.errors",
    "KeyNames": "digsigd.client._internal.image_signing.key_names",
    "MachineKeys": "digsigd.client._internal.machine_keys",
    "Progress": "digsigd.client._internal.form",
    "Report": "digsigd.image.report",
    "ServerFailed": "digsigd.client._internal.errors",
    "ServerRefused": "digsigd.client._internal.errors",
    "ServerUnreachable": "digsigd.client._internal.errors",
    "SignedBlob": "digsigd.client._internal.api",
    "SignedContainer": "digsigd.client._internal.image_signing.ahab",
    "SignedFile": "digsigd.client._internal.api",
    "SignedPart": "digsigd.client._internal.image_signing.sign",
    "SigningClient": "digsigd.client._internal.api",
    "SrkTableInfo": "digsigd.client._internal.machine_keys",
    "VerificationFailed": "digsigd.client._internal.errors",
    "ahab_key_names": "digsigd.client._internal.image_signing.ahab_keys",
    "key_names": "digsigd.client._internal.image_signing.key_names",
    "load": "digsigd.client._internal.settings",
    "run": "digsigd.client._internal.run",
    "sign_ahab": "digsigd.client._internal.image_signing.ahab",
    "sign_image": "digsigd.client._internal.image_signing.sign",
    "verify_ahab": "digsigd.client._internal.image_signing.ahab_verify",
    "verify_image": "digsigd.client._internal.image_signing.verify",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    """Return the public names, those that were not imported yet among them."""
    return sorted({*globals(), *_WHERE})
