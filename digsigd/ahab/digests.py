"""The hashes of images and SRK data, by the names that containers' numbers have here (SPSDK, ahab_data.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_SHAKES = {"shake128-256": (hashlib.shake_128, 32), "shake256-512": (hashlib.shake_256, 64)}


def digest(name: str, parts: Iterable[bytes]) -> bytes:
    """Return the hash with this name of parts that follow each other.

    Raises `ValueError` for a hash that Python does not have here: SM3 is not in all builds of OpenSSL.
    """
    if name in _SHAKES:
        kind, size = _SHAKES[name]
        sponge = kind()
        for part in parts:
            sponge.update(part)
        return sponge.digest(size)
    hashed = hashlib.new(name.replace("sha3-", "sha3_"))
    for part in parts:
        hashed.update(part)
    return hashed.digest()
