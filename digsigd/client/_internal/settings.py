"""The settings of a client: their names and defaults, and how digsign.toml, the environment and options become them.

docs/client.md has them for people. Nothing heavy is imported here: the command line is built from it.
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
from digsigd.names import MACHINE, MACHINE_FORM, VERSION, VERSION_FORM

FILE = "digsign.toml"
# Which environment variable sets what.
ENVIRONMENT = {
    "DIGSIGN_SERVER": "server",
    "DIGSIGN_MACHINE": "machine",
    "DIGSIGN_CST": "cst",
    "DIGSIGN_BACKEND": "backend",
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
# What goes together: who sets the first says that what others set for the second does not count.
_INSTEAD = {"token": "token_file", "token_file": "token", "client_certificate": "client_key"}
_OPTIONS = {
    "token_file": "--token-file",
    "ca_file": "--ca-file",
    "client_certificate": "--client-cert",
    "client_key": "--client-key",
}
# docs/api.md.
# RFC 3986, 3.2, of what a host of http can be.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LONGEST = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """The settings of a client. Raises `ClientSettingsError` for a value that cannot be, or values that do not fit.

    `server` is an http(s) address, with the path below which digsigd is mounted, if any. `timeout` bounds one call with
    all its tries, in seconds; `retries` is how many tries may follow the first. `allow_plain_http` lets the token go
    over http to another computer. The last four name keys on the host, for hosts that do not tell them.
    """

    server: str = ""
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    machine: str | None = None
    cst: str | None = None
    backend: str | None = None
    timeout: float = 1800.0
    retries: int = 4
    allow_plain_http: bool = False
    srk_table: str | None = None
    csf_certificate: str | None = None
    image_certificate: str | None = None
    srk_certificate: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            if wrong := wrong_with(one.name, getattr(self, one.name)):
                raise ClientSettingsError(f"{one.name}: {wrong}")
        if self.client_key is not None and self.client_certificate is None:
            raise ClientSettingsError(
                "client_key: there is no client_certificate that it belongs to",
                hint="say both: --client-cert, DIGSIGN_CLIENT_CERT, or client_certificate in digsign.toml",
            )
        if self.token is not None and not self.allow_plain_http and _is_open(self.server):
            raise ClientSettingsError(
                f"the token would go to {self.server} over plain http, for everybody on the way to read",
                hint="use https://; where the way is safe in itself, set allow_plain_http = true in digsign.toml,"
                " or DIGSIGN_ALLOW_PLAIN_HTTP=true",
            )


def add_server_arguments(parser: ArgumentParser) -> None:
    """Add the options of all commands that ask a signing host. Each overrides the environment and the file."""
    group = parser.add_argument_group("signing host", f"Each of these can be set in {FILE} or the environment too.")
    group.add_argument("--server", metavar="URL", help="its address, e.g. https://signer.example:9999")
    group.add_argument("--machine", metavar="M", help="whose keys sign")
    group.add_argument("--cst", metavar="VERSION", help="the version of cst that signs, e.g. 3.4.1")
    group.add_argument("--backend", choices=("ssl", "pkcs11"), help="where the keys are: in files, or on a token")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="the file with the token that says who asks")
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="the authorities to trust, in PEM")
    group.add_argument(
        "--client-cert", type=Path, dest="client_certificate", metavar="FILE", help="our certificate, in PEM"
    )
    group.add_argument("--client-key", type=Path, metavar="FILE", help="its key, where it is not in the same file")
    group.add_argument("--config", type=Path, metavar="FILE", help=f"instead of {FILE} here or in ~/.config")
    group.add_argument("--timeout", type=float, metavar="SECONDS", help="give up on a request after so long")


def from_options(options: Namespace, environ: Mapping[str, str], *, server_needed: bool = True) -> ClientSettings:
    """Return the settings of a command line, with the options of `add_server_arguments`, the environment and the file.

    Raises `ClientSettingsError`; also where no server is named, unless it is not needed.
    """
    names = ("server", "machine", "cst", "backend", "timeout", *_OPTIONS)
    given = {name: getattr(options, name, None) for name in names}
    return load(getattr(options, "config", None), environ, server_needed=server_needed, **given)


def load(
    config: Path | None, environ: Mapping[str, str], *, server_needed: bool = True, **overrides: Any
) -> ClientSettings:
    """Return the settings of a file, the environment, and `overrides`: the later count before the earlier.

    `overrides` are named as the fields of `ClientSettings`, and `token_file`, a `Path`; None means not given. The file
    is `config`, else what DIGSIGN_CONFIG names, else digsign.toml here, else in the folder for configuration
    ($XDG_CONFIG_HOME, ~/.config), else none. Raises `ClientSettingsError`, also where no server is named unless
    `server_needed` is False, and `TypeError` for an override of no such name.
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
            "no signing host is named", hint=f'say --server URL, set DIGSIGN_SERVER, or write server = "URL" in {FILE}'
        )
    if "token_file" in values:
        values["token"] = _secret(values.pop("token_file"), origins["token_file"])
    return ClientSettings(**values)


def _file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if named := environ.get("DIGSIGN_CONFIG"):
        return Path(named)
    # XDG Base Directory Specification: a relative path there does not count.
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        folder = f"{environ['HOME']}/.config" if environ.get("HOME") else ""
    places = [Path(FILE), Path(folder) / FILE] if folder else [Path(FILE)]
    return next((place for place in places if _is_there(place)), None)


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # somebody else's home
        return False


def _of_file(path: Path, environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    import tomllib

    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ClientSettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ClientSettingsError(f"{path}: is not TOML: {error}") from None
    known = [one.name for one in fields(ClientSettings) if one.name != "token"] + ["token_file"]
    layer: dict[str, tuple[Any, str]] = {}
    for name, value in raw.items():
        origin = f"{path}: {name}"
        if name == "token":
            raise ClientSettingsError(
                f"{origin}: tokens do not stand in {FILE}",
                hint="put it into a file of its own, and name that: token_file",
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.6)
            raise ClientSettingsError(
                f"{origin}: unknown key", hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            )
        if name in _PATHS and isinstance(value, str) and value:
            home = environ.get("HOME", "")
            place = f"{home}{value[1:]}" if home and value.startswith("~/") else value
            # Relative to the file: it means the same wherever one stands.
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
            "the environment has both DIGSIGN_TOKEN and DIGSIGN_TOKEN_FILE", hint="leave one of them out"
        )
    return layer


def _of_options(overrides: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    known = {one.name for one in fields(ClientSettings)} | {"token_file"}
    if unknown := overrides.keys() - known:
        raise TypeError(f"no setting of a client: {', '.join(sorted(unknown))}")
    return {
        name: (value, _OPTIONS.get(name, f"--{name.replace('_', '-')}"))
        for name, value in overrides.items()
        if value is not None
    }


def wrong_with(name: str, value: Any) -> str:
    """Return what is wrong with the value of a setting, in words without secrets; "" where nothing is."""
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
        return f"{value!r} is no machine name: {MACHINE_FORM}"
    if name == "cst" and not VERSION.fullmatch(value):
        return f"{value!r} is no version: {VERSION_FORM}"
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
    """Return what is wrong with an address, without what may be a password in it; "" where nothing is."""
    expected = "expected http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"is no address; {expected}"
    if parts.scheme not in {"http", "https"} or not url.isascii() or not url.isprintable() or " " in url:
        return f"is no address; {expected}"
    if "@" in parts.netloc:
        return "has a user or a password in it; a token belongs into a file: --token-file"
    if not _AUTHORITY.fullmatch(parts.netloc):
        return f"has no host; {expected}"
    if "?" in url or "#" in url:
        return "has a query or a fragment, which no signing host has"
    return ""


def _is_open(server: str) -> bool:
    """Return whether an address is on another computer, and the way there is not encrypted."""
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
    """Return the token in a file, without the newline at its end."""
    try:
        text = path.read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ClientSettingsError(f"{origin}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClientSettingsError(f"{origin}: {path} is not text") from None
    if not text or not text.isprintable() or text.strip() != text:
        raise ClientSettingsError(f"{origin}: {path} must hold the token in one line and nothing else")
    return text
