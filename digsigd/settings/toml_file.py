"""Reads the settings from a TOML file and the environment."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from digsigd.config_files import read_toml
from digsigd.settings.checks import check
from digsigd.settings.credentials import with_credentials
from digsigd.settings.errors import SettingsError
from digsigd.settings.tables import Settings

# The environment variables of the existing servers, and the key that each sets.
ENVIRONMENT = {
    "DIGSIGSERVER_KEYFILE_URI": ("keys", "uri"),
    "DIGSIGSERVER_IMX_CST_BASE": ("cst", "base"),
}

_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "str": "text in quotes",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "datetime": "a time such as 2030-01-31T00:00:00Z",
    "date": "a date without a time",
}


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ, *, listen: str | None = None) -> Settings:
    """Read the settings from a TOML file (None: only defaults) and the environment, which overrides the file.

    `listen` is an endpoint string that overrides both. Raises `SettingsError` with one line for each unknown key, else
    with the first mistake.
    """
    raw: dict[str, Any] = {}
    origin = str(path) if path else "the configuration"
    if path is not None:
        try:
            raw = read_toml(path)
        except ValueError as error:
            raise SettingsError(str(error)) from None
    mistakes = [f"{origin}: {mistake}" for mistake in _unknown_keys(raw, Settings)]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    settings = _convert(with_credentials(raw, origin, environ), origin, path.parent if path else Path())
    for variable, (section, key) in ENVIRONMENT.items():
        if value := environ.get(variable):
            named = f"the environment variable {variable}"
            override = _convert(with_credentials({section: {key: value}}, named, environ), named, Path())
            changed = msgspec.structs.replace(
                getattr(settings, section), **{key: getattr(getattr(override, section), key)}
            )
            settings = msgspec.structs.replace(settings, **{section: changed})
    if listen is not None:
        origin = "--listen"
        endpoint = with_credentials({"listen": {"endpoint": listen}}, origin, environ)["listen"]["endpoint"]
        settings = msgspec.structs.replace(settings, listen=msgspec.structs.replace(settings.listen, endpoint=endpoint))
    check(settings, origin)
    return settings


def _convert(raw: Mapping[str, Any], origin: str, folder: Path) -> Settings:
    def decode(kind: type, value: Any) -> Any:
        if kind is not Path:
            raise NotImplementedError(kind)
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("expected a path")
        return folder.absolute() / value

    try:
        return msgspec.convert(raw, Settings, dec_hook=decode)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".")
        # msgspec writes [...] instead of the entry's name. Find the name by converting each entry alone.
        table, bracket, rest = key.partition("[...]")
        if bracket:
            entries: Any = raw
            for name in table.split("."):
                entries = entries[name]
            wrong = [name for name, entry in entries.items() if not _alone(table, name, entry, decode)]
            key = f"{table}.{' and '.join(wrong)}{rest}"
        words = _choices(place.rstrip("`")) if text.startswith("Invalid enum value") else ""
        raise SettingsError(f"{origin}: {key or 'the file'}: {_in_words(text)}{words}") from None


def _choices(place: str) -> str:
    """Return what the setting at a place in msgspec's form may be: `; expected a number or 'auto'`."""
    kind: inspect.Type = inspect.type_info(Settings)
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", place):
        if isinstance(kind, inspect.StructType):
            kind = next(field.type for field in kind.fields if field.encode_name == step)
        elif isinstance(kind, inspect.DictType):
            kind = kind.value_type
        elif isinstance(kind, inspect.VarTupleType):
            kind = kind.item_type
        else:
            return ""
    choices: list[str] = []
    for one in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if isinstance(one, inspect.IntType):
            choices.append("a number")
        elif isinstance(one, inspect.LiteralType):
            choices += [repr(value) for value in one.values]
    return f"; expected {' or '.join(choices)}" if choices else ""


def _alone(table: str, name: str, entry: object, decode: Callable[[type, Any], Any]) -> bool:
    """Return whether one entry of a table converts without the others."""
    raw: dict[str, Any] = {name: entry}
    for part in reversed(table.split(".")):
        raw = {part: raw}
    try:
        msgspec.convert(raw, Settings, dec_hook=decode)
    except msgspec.ValidationError:
        return False
    return True


def _in_words(text: str) -> str:
    """Return msgspec's text about a value, with the words of a configuration file."""
    if "matching regex" in text and "{64}" in text:
        return "expected 64 hexadecimal digits" + (", or 128" if "{128}" in text else "")

    def in_words(types: re.Match[str]) -> str:
        # A key that may be left out is `... | null`; TOML has no null.
        return " or ".join(_TYPES.get(name, f"`{name}`") for name in types[1].split(" | ") if name != "null")

    text = re.sub(r"`([a-z]+(?: \| [a-z]+)*)`", in_words, text)
    return text[:1].lower() + text[1:]


def _unknown_keys(raw: object, kind: object, where: str = "") -> Iterator[str]:
    """Yield a text for each key of `raw` that `kind` does not have, with the nearest known key."""
    if isinstance(raw, list) and typing.get_origin(kind) is tuple:
        for entry in raw:
            yield from _unknown_keys(entry, typing.get_args(kind)[0], where)
    if not isinstance(raw, Mapping):
        return
    for option in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        if typing.get_origin(option) is dict:
            for name, entry in raw.items():
                yield from _unknown_keys(entry, typing.get_args(option)[1], f"{where}{name}.")
        elif isinstance(option, type) and issubclass(option, msgspec.Struct):
            known = {field.name: field.type for field in msgspec.structs.fields(option)}
            for name, entry in raw.items():
                if name in known:
                    yield from _unknown_keys(entry, known[name], f"{where}{name}.")
                else:
                    near = difflib.get_close_matches(name, known, 1, 0.6)
                    advice = f"did you mean {near[0]!r}?" if near else f"the keys are: {', '.join(known)}"
                    yield f"{where}{name}: unknown key; {advice}"
