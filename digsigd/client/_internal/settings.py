"""The settings of a client: their names and defaults, read from digsign.toml, the environment and options.

docs/client.md documents them. Nothing heavy is imported here, since every command line is built from this module.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from digsigd.client._internal.errors import ClientSettingsError as ClientSettingsError
from digsigd.config_files import read_secret_text, read_toml
from digsigd.names import MACHINE, MACHINE_FORM, VERSION, VERSION_FORM

FILE = "digsign.toml"
# Which environment variable sets what.
ENVIRONMENT = {
    "DIGSIGN_SERVER": "server",
    "DIGSIGN_MACHINE": "machine",
    "DIGSIGN_CST": "cst",
    "DIGSIGN_BACKEND": "backend",
    "DIGSIGN_SOC": "soc",
    "DIGSIGN_TOKEN": "token",
    "DIGSIGN_TOKEN_FILE": "token_file",
    "DIGSIGN_CA_FILE": "ca_file",
    "DIGSIGN_CLIENT_CERT": "client_certificate",
    "DIGSIGN_CLIENT_KEY": "client_key",
    "DIGSIGN_ALLOW_PLAIN_HTTP": "allow_plain_http",
}
# What each setting is, in the file and elsewhere.
_PATHS = frozenset({"token_file", "ca_file", "client_certificate", "client_key"})
_NUMBERS = frozenset({"timeout", "retries"})
_FLAGS = frozenset({"allow_plain_http"})
# Setting the first drops a value of the second from an earlier layer.
_INSTEAD = {"token": "token_file", "token_file": "token", "client_certificate": "client_key"}
_OPTIONS = {
    "token_file": "--token-file",
    "ca_file": "--ca-file",
    "client_certificate": "--client-cert",
    "client_key": "--client-key",
}
# RFC 3986, 3.2, of what a host of http can be.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONGEST = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """The settings of a client. Raises `ClientSettingsError` for an invalid value or values that contradict each other.

    `server` is an http(s) address, with the path where digsigd is mounted, if any. `timeout` limits one call with all
    its tries, in seconds; `retries` is the number of tries after the first. `allow_plain_http` lets the token go over
    http to another computer. `soc` is the boards' chip, for AHAB, by any of its names. The last five name keys on the
    host, for hosts that do not report them.
    """

    server: str = ""
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    machine: str | None = None
    cst: str | None = None
    backend: str | None = None
    soc: str | None = None
    timeout: float = 1800.0
    retries: int = 4
    allow_plain_http: bool = False
    srk_table: str | None = None
    csf_certificate: str | None = None
    image_certificate: str | None = None
    srk_certificate: str | None = None
    sgk_certificate: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            if wrong := wrong_with(one.name, getattr(self, one.name)):
                raise ClientSettingsError(f"{one.name}: {wrong}")
        if self.client_key is not None and self.client_certificate is None:
            raise ClientSettingsError(
                "client_key: its client_certificate is missing",
                hint="set both: --client-cert, DIGSIGN_CLIENT_CERT, or client_certificate in digsign.toml",
            )
        if self.token is not None and not self.allow_plain_http and _is_open(self.server):
            raise ClientSettingsError(
                f"the token would go to {self.server} over plain http, readable by everyone on the network",
                hint="use https://; if the network is trusted, set allow_plain_http = true in digsign.toml,"
                " or DIGSIGN_ALLOW_PLAIN_HTTP=true",
            )


def add_server_arguments(parser: ArgumentParser) -> None:
    """Add the options of the commands that use a signing host. Each overrides the environment and the file."""
    group = parser.add_argument_group("signing host", f"Each of these can also be set in {FILE} or the environment.")
    group.add_argument("--server", metavar="URL", help="its address, such as https://signer.example:9999")
    group.add_argument("--machine", metavar="M", help="the machine whose keys sign")
    group.add_argument("--cst", metavar="VERSION", help="the version of cst that signs, such as 3.4.1")
    group.add_argument(
        "--backend", choices=("ssl", "pkcs11"), help="where the keys are: in files (ssl) or on a token (pkcs11)"
    )
    group.add_argument("--token-file", type=Path, metavar="FILE", help="the file with the access token of the caller")
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="the CA certificates to trust, in PEM")
    group.add_argument(
        "--client-cert", type=Path, dest="client_certificate", metavar="FILE", help="the client's certificate, in PEM"
    )
    group.add_argument("--client-key", type=Path, metavar="FILE", help="its private key, if it is not in the same file")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help=f"the configuration file, instead of {FILE} here or in ~/.config"
    )
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="give up on a request after this time")


def from_options(options: Namespace, environ: Mapping[str, str], *, server_needed: bool = True) -> ClientSettings:
    """Return the settings from the options of `add_server_arguments`, the environment and the file.

    Raises `ClientSettingsError`, also if no server is given, unless `server_needed` is False.
    """
    names = ("server", "machine", "cst", "backend", "timeout", *_OPTIONS)
    given = {name: getattr(options, name, None) for name in names}
    return load(getattr(options, "config", None), environ, server_needed=server_needed, **given)


def load(
    config: Path | None, environ: Mapping[str, str], *, server_needed: bool = True, **overrides: Any
) -> ClientSettings:
    """Return the settings of a file, the environment, and `overrides`: later ones take precedence.

    `overrides` have the names of the fields of `ClientSettings`, or `token_file`, a `Path`; None means not given. The
    file is `config`, else the one that DIGSIGN_CONFIG names, else digsign.toml in the working directory, else in
    $XDG_CONFIG_HOME or ~/.config, else none. Raises `ClientSettingsError`, also if no server is given unless
    `server_needed` is False, and `TypeError` for an override with an unknown name.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    path = _file(config, environ)
    layers = [_of_file(path, environ) if path is not None else {}, _of_environment(environ), _of_options(overrides)]
    for layer in layers:
        for name in layer:
            if name in _INSTEAD:
                values.pop(_INSTEAD[name], None)
        for name, (value, origin) in layer.items():
            values[name], origins[name] = value, origin
    for name, value in values.items():
        if wrong := wrong_with(name, value):
            raise ClientSettingsError(f"{origins[name]}: {wrong}")
    if server_needed and not values.get("server"):
        raise ClientSettingsError(
            "no signing host is given", hint=f'set --server URL, DIGSIGN_SERVER, or server = "URL" in {FILE}'
        )
    if "token_file" in values:
        values["token"] = _secret(values.pop("token_file"), origins["token_file"])
    return ClientSettings(**values)


def _file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if named := environ.get("DIGSIGN_CONFIG"):
        return Path(named)
    # XDG Base Directory Specification: a relative path there is ignored.
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        folder = f"{environ['HOME']}/.config" if environ.get("HOME") else ""
    places = [Path(FILE), Path(folder) / FILE] if folder else [Path(FILE)]
    return next((place for place in places if _is_there(place)), None)


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # no access to that folder
        return False


def _of_file(path: Path, environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    try:
        raw = read_toml(path)
    except ValueError as error:
        raise ClientSettingsError(str(error)) from None
    known = [one.name for one in fields(ClientSettings) if one.name != "token"] + ["token_file"]
    layer: dict[str, tuple[Any, str]] = {}
    for name, value in raw.items():
        origin = f"{path}: {name}"
        if name == "token":
            raise ClientSettingsError(
                f"{origin}: a token is not allowed in {FILE}",
                hint="put the token into a separate file and set token_file to its path",
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.6)
            raise ClientSettingsError(
                f"{origin}: unknown key", hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            )
        if name in _PATHS and isinstance(value, str) and value:
            home = environ.get("HOME", "")
            place = f"{home}{value[1:]}" if home and value.startswith("~/") else value
            # Relative to the file, not to the working directory.
            value = path.absolute().parent / place
        layer[name] = (value, origin)
    return layer


def _of_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    layer: dict[str, tuple[Any, str]] = {}
    for variable, name in ENVIRONMENT.items():
        text = environ.get(variable)
        if not text:
            continue
        value: Any = text
        if name in _PATHS:
            value = Path(text)
        elif name in _FLAGS:
            value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        layer[name] = (value, f"the environment variable {variable}")
    if "token" in layer and "token_file" in layer:
        raise ClientSettingsError(
            "the environment has both DIGSIGN_TOKEN and DIGSIGN_TOKEN_FILE", hint="unset one of them"
        )
    return layer


def _of_options(overrides: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    known = {one.name for one in fields(ClientSettings)} | {"token_file"}
    if unknown := overrides.keys() - known:
        raise TypeError(f"unknown settings of a client: {', '.join(sorted(unknown))}")
    return {
        name: (value, _OPTIONS.get(name, f"--{name.replace('_', '-')}"))
        for name, value in overrides.items()
        if value is not None
    }


def wrong_with(name: str, value: Any) -> str:
    """Return what is wrong with the value of a setting, without secrets; "" if it is valid."""
    if value is None or (name == "server" and value == ""):
        return ""
    if name in _FLAGS:
        return "" if isinstance(value, bool) else "expected true or false"
    if name in _NUMBERS:
        return _wrong_number(name, value)
    if name in _PATHS:
        return "" if isinstance(value, Path) and "\0" not in str(value) else "expected a path in quotes"
    if not isinstance(value, str) or not value:
        return "expected text in quotes"
    if name == "server":
        return _wrong_address(value)
    if name == "machine" and not MACHINE.fullmatch(value):
        return f"{value!r} is not a machine name: {MACHINE_FORM}"
    if name == "cst" and not VERSION.fullmatch(value):
        return f"{value!r} is not a version: {VERSION_FORM}"
    if name == "backend" and value not in {"ssl", "pkcs11"}:
        return f"{value!r} is neither ssl nor pkcs11"
    if not value.isprintable():
        return "expected one line without control characters"
    if name == "token" and value.strip() != value:
        return "begins or ends with a space"
    return ""


def _wrong_number(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int if name == "retries" else int | float):
        return "expected a whole number" if name == "retries" else "expected a number of seconds"
    if name == "retries" and not 0 <= value <= 100:
        return "expected 0 to 100"
    if name == "timeout" and not (math.isfinite(value) and 0 < value <= _LONGEST):
        return f"expected more than 0 and at most {_LONGEST:.0f} seconds"
    return ""


def _wrong_address(url: str) -> str:
    """Return what is wrong with an address, without a password in it; "" if it is valid."""
    expected = "expected http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"is not an address; {expected}"
    if parts.scheme not in {"http", "https"} or not url.isascii() or not url.isprintable() or " " in url:
        return f"is not an address; {expected}"
    if "@" in parts.netloc:
        return "contains a user or password; put a token into a file: --token-file"
    if not _AUTHORITY.fullmatch(parts.netloc):
        return f"has no host; {expected}"
    if "?" in url or "#" in url:
        return "has a query or a fragment, which the address of a signing host cannot have"
    return ""


def _is_open(server: str) -> bool:
    """Return whether an address is on another computer and not encrypted."""
    parts = urlsplit(server)
    if parts.scheme != "http":
        return False
    host = (parts.hostname or "").lower()
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _secret(path: Path, origin: str) -> str:
    """Return the token from a file, without the newline at its end."""
    try:
        text = read_secret_text(path)
    except ValueError as error:
        raise ClientSettingsError(f"{origin}: {error}") from None
    if not text or not text.isprintable() or text.strip() != text:
        raise ClientSettingsError(f"{origin}: {path} must contain the token on one line and nothing else")
    return text
