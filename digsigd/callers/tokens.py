"""Tokens of callers: their form, the files that hold them, and when they end."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from digsigd.settings import CallerSettings, SettingsError, read_secret

# The form of new tokens. The prefix lets scanners of repositories find tokens that were committed by mistake.
PREFIX = "digsigd_"
RANDOM_BYTES = 32
# Shorter tokens could be guessed. 16 characters of base64 are 96 bits.
_SHORTEST = 16
_HASH = re.compile(r"sha256:([0-9A-Fa-f]{64})")


@dataclass(frozen=True, slots=True)
class CallerToken:
    """The SHA-256 of a caller's token, and when it ends. `where` is its place in the configuration.

    `in_clear` is the file that holds the token itself, which whoever reads the file can use.
    """

    caller: str
    where: str
    sha256: bytes = field(repr=False)
    not_after: datetime | None = None
    in_clear: Path | None = None

    @property
    def short_id(self) -> str:
        """The first digits of the hash, which tell tokens apart in logs."""
        return self.sha256.hex()[:8]


def new_token() -> str:
    """Return a new random token of 256 bits. Only its hash is kept on the host."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def sha256_of(token: bytes) -> bytes:
    """Return the SHA-256 of a token. A slow hash would gain nothing: nobody can guess 256 random bits."""
    return hashlib.sha256(token).digest()


def tokens_of(name: str, settings: CallerSettings) -> tuple[CallerToken, ...]:
    """Return the tokens of a caller, read from its files.

    Raises `SettingsError` if a file cannot be read, or holds neither a SHA-256 nor a token that is long enough.
    """
    found = []
    if settings.token_file is not None:
        found.append(_of_file(name, f"callers.{name}.token_file", settings.token_file, None))
    for number, token in enumerate(settings.tokens, 1):
        where = f"callers.{name}.tokens, number {number}"
        if token.file is not None:
            found.append(_of_file(name, where, token.file, token.not_after))
        elif token.sha256 is not None:
            found.append(CallerToken(name, where, bytes.fromhex(token.sha256), token.not_after))
    return tuple(found)


def _of_file(name: str, where: str, path: Path, not_after: datetime | None) -> CallerToken:
    text = read_secret(path, where)
    if found := _HASH.fullmatch(text.strip()):
        return CallerToken(name, where, bytes.fromhex(found[1]), not_after)
    if text.startswith("sha256:"):
        raise SettingsError(f"{where}: {path} must hold sha256: and 64 hexadecimal digits")
    if len(text) < _SHORTEST:
        raise SettingsError(
            f"{where}: the token in {path} has fewer than {_SHORTEST} characters; make a new one with:"
            f" digsigd token new {name}"
        )
    return CallerToken(name, where, sha256_of(text.encode()), not_after, path)
