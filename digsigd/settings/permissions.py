"""Files that other users of this host may read or write."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from digsigd.settings.errors import SettingsError
from digsigd.settings.tables import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that works, but is not safe: the key of the configuration, and what is wrong with what to do."""

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


def others_may_read(path: Path) -> bool:
    """Return whether every user of this host may read a file: its mode allows it, and those of all its folders.

    Raises `OSError` if it cannot be looked at.
    """
    real = path.resolve(strict=True)
    return bool(real.stat().st_mode & stat.S_IROTH) and _is_reachable(real)


def others_may_write(path: Path) -> bool:
    """Return whether every user may change a file or a folder, or put another in its place.

    Raises `OSError` if it cannot be looked at.
    """
    real = path.resolve(strict=True)
    if real.stat().st_mode & stat.S_IWOTH and _is_reachable(real):
        return True
    return any(_others_may_rename_in(folder) and _is_reachable(folder / "x") for folder in real.parents)


def _is_reachable(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _others_may_rename_in(folder: Path) -> bool:
    # In a folder with the sticky bit, only the owner of a file may rename or remove it.
    return folder.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the key and the path of each file with a secret, except for tokens of callers."""
    http, tls = settings.keys.http, settings.listen.tls
    for key, path in (
        ("listen.tls.key", tls.key),
        ("keys.http.token_file", http.token_file),
        ("keys.http.password_file", http.password_file),
        ("keys.http.key_file", http.key_file),
        *((f"pkcs11.tokens.{name}.pin_file", token.pin_file) for name, token in settings.pkcs11.tokens.items()),
    ):
        if path is not None:
            yield key, path


def _trusted_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the key and the path of each file that decides who may sign."""
    tls = settings.listen.tls
    yield from secret_files(settings)
    for key, path in (
        ("listen.tls.certificate", tls.certificate),
        ("listen.tls.client_ca", tls.client_ca),
        ("listen.tls.crl", tls.crl),
    ):
        if path is not None:
            yield key, path
    for name, caller in settings.callers.items():
        if caller.token_file is not None:
            yield f"callers.{name}.token_file", caller.token_file
        for token in caller.tokens:
            if token.file is not None:
                yield f"callers.{name}.tokens", token.file


def check_writable(settings: Settings) -> None:
    """Raise `SettingsError` if every user may write a file that decides who may sign."""
    for key, path in _trusted_files(settings):
        try:
            writable = others_may_write(path)
        except OSError:
            continue  # whoever needs the file reports it
        if writable:
            raise SettingsError(
                f"{key}: every user of this host may write {path}, or replace it; change its mode and that of its"
                " folders: chmod o-w"
            )


def writable_findings(files: Iterable[tuple[str, Path]]) -> list[Finding]:
    """Return a finding for each program or library that every user may change: what runs there has the keys."""
    found = []
    for key, path in files:
        try:
            writable = others_may_write(path)
        except OSError:
            continue
        if writable:
            found.append(
                Finding(
                    key, f"every user of this host may write {path}, or replace it: chmod o-w {path}, or its folders"
                )
            )
    return found


def readable_findings(files: Iterator[tuple[str, Path]]) -> list[Finding]:
    """Return a finding for each file with a secret that every user may read."""
    found = []
    for key, path in files:
        try:
            readable = others_may_read(path)
        except OSError:
            continue
        if readable:
            found.append(Finding(key, f"every user of this host may read {path}: chmod o-r {path}"))
    return found
