"""The class that SPSDK finds by the entry point `digsigd` of the group `spsdk.sp`.

It is made when it is asked for: this module can be imported without SPSDK.
"""

from __future__ import annotations

from functools import cache
from logging import getLogger
from typing import Any

from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.provider import Provider

# What SPSDK adds to the keys of the line: how to pad RSA and to hash. The container says both itself.
_SPSDKS = ("pss_padding", "hash_alg")


@cache
def _provider_class() -> type[Any]:
    from spsdk.crypto.signature_provider import SignatureProvider
    from spsdk.exceptions import SPSDKError

    class DigsigdSP(SignatureProvider):
        """Signs AHAB containers with the keys of a machine on a signing host: docs/spsdk.md."""

        identifier = "digsigd"

        def __init__(self, search_paths: list[str] | None = None, **keys: Any) -> None:
            given = {name: str(value) for name, value in keys.items() if name not in _SPSDKS}
            try:
                self._provider = Provider(given, search_paths or ())
            except ProviderError as error:
                raise SPSDKError(str(error)) from None

        @property
        def signature_length(self) -> int:
            """The length of a signature in bytes."""
            try:
                return self._provider.signature_length
            except ProviderError as error:
                raise SPSDKError(str(error)) from None

        def sign(self, data: bytes) -> bytes:
            """Return the raw signature over `data`, a whole container up to its signature."""
            try:
                signature = self._provider.sign(data)
            except ProviderError as error:
                raise SPSDKError(str(error)) from None
            for note in self._provider.notes:
                getLogger(__name__).warning("the signing host: %s", note)
            return signature

        def info(self) -> str:
            """Return text that says whose keys sign."""
            return f"{super().info()}\n{self._provider.info()}\n"

    return DigsigdSP


def __getattr__(name: str) -> Any:
    """Make the class when SPSDK loads the entry point. Raises `AttributeError` for any other name."""
    if name != "DigsigdSP":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _provider_class()
