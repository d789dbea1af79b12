"""What the line `signer: type=digsigd;…` of an SPSDK configuration says."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digsigd import ahab
from digsigd.client import ClientError, ClientSettings, load
from digsigd.spsdk.errors import ProviderError
from digsigd.text import one_line

# The keys that are settings of the client, and what makes their values.
_SETTINGS: dict[str, type] = {
    "server": str,
    "machine": str,
    "cst": str,
    "backend": str,
    "token_file": Path,
    "ca_file": Path,
    "client_certificate": Path,
    "client_key": Path,
    "timeout": float,
    "retries": int,
    "srk_table": str,
    "srk_certificate": str,
}
KEYS = (*_SETTINGS, "image", "soc", "config")
_LINE = "signer: type=digsigd;server=https://signer.example:9999;machine=M;image=flash.bin"
_NUMBERS = {float: "a number of seconds", int: "a whole number"}
# SPSDK's own keys of other providers, which ask for a signature over a digest.
_DIGESTS = {"prehash", "prehashed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration of a signer.

    `image` is the file with the images that the container names. `chip` is None if the host's settings know it.
    """

    settings: ClientSettings
    machine: str
    image: Path
    chip: ahab.AhabChip | None


def configured(values: Mapping[str, str], search_paths: Sequence[str], environ: Mapping[str, str]) -> Configuration:
    """Return the configuration that the signer's keys make, with the client's file and environment below them.

    Relative paths are looked up in `search_paths`, those of SPSDK, then in the working directory. Raises
    `ProviderError` for keys that do not exist, invalid values, and keys that are missing.
    """
    for name, value in values.items():
        _check_key(name)
        if not value:
            raise ProviderError(f"{name} has no value", hint=_LINE)
    settings = _settings(values, search_paths, environ)
    if not settings.server:
        raise ProviderError("no signing host is given", hint=f"set server=URL: {_LINE}")
    if settings.machine is None:
        raise ProviderError("no machine is given", hint=f"set machine=NAME: {_LINE}")
    if "image" not in values:
        raise ProviderError(
            "no file with the images is given, and the host signs no container without its images",
            hint="set image=FILE: the file that `nxpimage ahab sign -b` signs; for `nxpimage ahab export`,"
            " an export of the same configuration with srk_set: none",
        )
    return Configuration(
        settings=settings,
        machine=settings.machine,
        image=_found(values["image"], search_paths),
        chip=_chip(values["soc"]) if "soc" in values else None,
    )


def _check_key(name: str) -> None:
    if name in _DIGESTS:
        raise ProviderError(
            f"the host signs no digests, so {name} cannot be set", hint=f"remove {name}: the whole container is sent"
        )
    if name not in KEYS:
        near = difflib.get_close_matches(name, KEYS, 1, 0.6)
        raise ProviderError(
            f"{one_line(name)} is not a key of this signer",
            hint=f"did you mean {near[0]}?" if near else f"its keys are {', '.join(KEYS)}",
        )


def _settings(values: Mapping[str, str], search_paths: Sequence[str], environ: Mapping[str, str]) -> ClientSettings:
    given: dict[str, Any] = {}
    for name, kind in _SETTINGS.items():
        if name not in values:
            continue
        if kind is Path:
            given[name] = _found(values[name], search_paths)
            continue
        try:
            given[name] = kind(values[name])
        except ValueError:
            raise ProviderError(f"{name}: {one_line(values[name])} is not {_NUMBERS[kind]}") from None
    config = _found(values["config"], search_paths) if "config" in values else None
    try:
        return load(config, environ, server_needed=False, **given)
    except ClientError as error:
        raise ProviderError.of(error) from None


def _chip(name: str) -> ahab.AhabChip:
    try:
        return ahab.chip(name)
    except ahab.AhabError as error:
        raise ProviderError(f"soc: {error.what}", hint=error.hint) from None


def _found(name: str, search_paths: Sequence[str]) -> Path:
    """Return the path of a file as SPSDK finds its own: in its search paths, then in the working directory."""
    for folder in search_paths:
        path = Path(folder, name)
        try:
            if path.is_file():
                return path.absolute()
        except (OSError, ValueError):
            continue
    return Path(name).absolute()
