"""`${CREDENTIALS_DIRECTORY}` in a configuration: the folder in which systemd puts the credentials of a unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from digsigd.settings.errors import SettingsError

_NAME = "CREDENTIALS_DIRECTORY"
_VARIABLE = f"${{{_NAME}}}"


def with_credentials(raw: Mapping[str, Any], origin: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables of a configuration with the folder in place of the variable, in every text.

    In an endpoint string and in a URI, the folder is escaped as these need it. Raises `SettingsError` with the key if
    the variable is used and not set.
    """
    replaced: dict[str, Any] = _replaced(raw, "", origin, environ.get(_NAME, ""))
    return replaced


def _replaced(value: Any, key: str, origin: str, folder: str) -> Any:
    if isinstance(value, Mapping):
        below = f"{key}." if key else ""
        return {name: _replaced(one, f"{below}{name}", origin, folder) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, key, origin, folder) for one in value]
    if not isinstance(value, str) or _VARIABLE not in value:
        return value
    if not folder:
        raise SettingsError(f"{origin}: {key}: expected ${_NAME} to be set (systemd sets it for LoadCredential=)")
    return value.replace(_VARIABLE, _FORMS.get(key, str)(folder))


def _in_endpoint(folder: str) -> str:
    # Twisted, `quoteStringArgument`.
    return re.sub(r"[\\:=]", lambda found: "\\" + found[0], folder)


# How the folder is written in a value that is not a path.
_FORMS: dict[str, Callable[[str], str]] = {
    "listen.endpoint": _in_endpoint,
    "keys.uri": quote,
    "record.url": quote,
    "record.checkpoints": quote,
}
