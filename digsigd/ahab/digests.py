"""The hashes of images and SRK data, by the names that containers' numbers have here (SPSDK, ahab_data.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

# SHAKE has no length of its own: the bytes of its hash.
_SHAKES = {"shake128-256": ("shake_128", 32), "shake256-512": ("shake_256", 64)}


class Running(Protocol):
    """A hash of what it is updated with."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes that follow those before."""

    def digest(self) -> bytes:
        """Return the hash of all that was taken."""


class _Shake:
    def __init__(self, name: str, size: int) -> None:
        self._sponge: Any = hashlib.new(name)
        self._size = size

    def update(self, data: bytes | memoryview, /) -> None:
        self._sponge.update(data)

    def digest(self) -> bytes:
        found: bytes = self._sponge.digest(self._size)
        return found


def new(name: str) -> Running:
    """Return a running hash with this name.

    Raises `ValueError` for a hash that Python does not have here: SM3 is not in all builds of OpenSSL.
    """
    if name in _SHAKES:
        return _Shake(*_SHAKES[name])
    return hashlib.new(name.replace("sha3-", "sha3_"))


def digest(name: str, parts: Iterable[bytes]) -> bytes:
    """Return the hash with this name of parts that follow each other. Raises `ValueError` as `new` does."""
    running = new(name)
    for part in parts:
        running.update(part)
    return running.digest()
