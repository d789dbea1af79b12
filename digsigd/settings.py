"""The settings of a daemon: names, types and defaults. Read them from a TOML file and the environment.

`etc/digsigd.toml` documents every key for operators. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tempfile
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from digsigd import Error
from digsigd.names import MACHINE, MACHINE_FORM, VERSION, VERSION_FORM

Seconds = Annotated[float, Meta(gt=0)]
Size = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{64}\Z")]

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
}


class SettingsError(Error):
    """Mistakes in the configuration, one line each, with the file or variable, the key, and the expected value."""

    def diagnostics(self) -> str:
        """Return the mistakes, one line each, then the hint, indented."""
        return "\n".join([*self.what.splitlines(), *(f"  {line}" for line in self.hint.splitlines())])


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file. Unknown keys are errors."""


class ListenSettings(_Section, frozen=True):
    """Where the daemon listens: a Twisted endpoint string."""

    endpoint: str = "tcp:9999:interface=127.0.0.1"
    allow_anonymous: bool = False


class HttpStoreSettings(_Section, frozen=True):
    """Credentials and certificates for a key store on http(s)."""

    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class S3StoreSettings(_Section, frozen=True):
    """Where an S3-compatible key store is. Credentials come from botocore's chain."""

    endpoint_url: str | None = None
    region: str | None = None
    ca_file: Path | None = None


class KeysSettings(_Section, frozen=True):
    """Where key tarballs come from, and limits for fetching and keeping them."""

    uri: str | None = None
    keep: Annotated[float, Meta(ge=0)] = 300.0
    max_tarball: Size = 8 << 20
    max_unpacked: Size = 16 << 20
    connect_timeout: Seconds = 5.0
    idle_timeout: Seconds = 10.0
    timeout: Seconds = 30.0
    tries: Count = 3
    http: HttpStoreSettings = HttpStoreSettings()
    s3: S3StoreSettings = S3StoreSettings()


class CstSettings(_Section, frozen=True):
    """Where cst is, limits for one run, and how many run at a time."""

    base: Path = Path("/opt/NXP")
    versions: dict[str, Path] = field(default_factory=dict)
    timeout: Seconds = 120.0
    kill_after: Seconds = 5.0
    max_running: Count = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    max_waiting: Annotated[int, Meta(ge=0)] = 64
    cpu_seconds: Count = 120
    open_files: Annotated[int, Meta(ge=16)] = 64
    memory: Annotated[int, Meta(ge=32 << 20)] = 256 << 20


class UploadSettings(_Section, frozen=True):
    """Limits for what a client may send."""

    max_artifact: Size = 1 << 30
    max_at_once: Count = 128
    idle_timeout: Seconds = 60.0
    timeout: Seconds = 1800.0


class DaemonSettings(_Section, frozen=True):
    """Where the work directories are, and how the daemon stops."""

    workdir: Path | None = None
    shutdown_grace: Annotated[float, Meta(ge=0)] = 30.0


class TokenSettings(_Section, frozen=True):
    """One token: where its PIN is, its machines, and how many runs of cst may use it at a time."""

    pin_file: Path | None = None
    machines: tuple[str, ...] | None = None
    max_sessions: Count = 1


class Pkcs11Settings(_Section, frozen=True):
    """How cst reaches tokens, and the tokens by their labels."""

    module: Path | None = None
    engine: Path | None = None
    provider: Path | None = None
    login_timeout: Seconds = 60.0
    environment: dict[str, str] = field(default_factory=dict)
    ways: dict[str, typing.Literal["engine", "provider"]] = field(default_factory=dict)
    tokens: dict[str, TokenSettings] = field(default_factory=dict)


class PolicySettings(_Section, frozen=True):
    """Which commands CSF descriptions may have beyond the safe ones."""

    allow: tuple[str, ...] = ()
    require_ivt: bool = True


class MachineSettings(_Section, frozen=True):
    """What is pinned and allowed for one machine. None and () mean the general setting."""

    keys_sha256: Sha256 | None = None
    fuses: Sha256 | None = None
    allow: tuple[str, ...] = ()
    require_ivt: bool | None = None


class CallerSettings(_Section, frozen=True):
    """A caller who may sign: the file with its token, and the machines and backends that it may use (None: all)."""

    token_file: Path
    machines: tuple[str, ...] | None = None
    backends: tuple[typing.Literal["ssl", "pkcs11"], ...] | None = None


class Settings(_Section, frozen=True):
    """All settings of a daemon. `Settings()` has the defaults; `load` reads a file and the environment."""

    listen: ListenSettings = ListenSettings()
    keys: KeysSettings = KeysSettings()
    cst: CstSettings = field(default_factory=CstSettings)
    upload: UploadSettings = UploadSettings()
    daemon: DaemonSettings = DaemonSettings()
    policy: PolicySettings = PolicySettings()
    pkcs11: Pkcs11Settings = Pkcs11Settings()
    machines: dict[str, MachineSettings] = field(default_factory=dict)
    callers: dict[str, CallerSettings] = field(default_factory=dict)


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ, *, listen: str | None = None) -> Settings:
    """Read the settings from a TOML file (None: only defaults) and the environment, which overrides the file.

    `listen` is an endpoint string that overrides both. Raises `SettingsError` with one line for each unknown key, else
    with the first mistake.
    """
    raw: dict[str, Any] = {}
    origin = str(path) if path else "the configuration"
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingsError(f"{path}: is not TOML: {error}") from None
    mistakes = [f"{origin}: {mistake}" for mistake in _unknown_keys(raw, Settings)]
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    settings = _convert(raw, origin, path.parent if path else Path(), environ)
    for variable, (section, key) in ENVIRONMENT.items():
        if value := environ.get(variable):
            override = _convert({section: {key: value}}, f"the environment variable {variable}", Path(), environ)
            changed = msgspec.structs.replace(
                getattr(settings, section), **{key: getattr(getattr(override, section), key)}
            )
            settings = msgspec.structs.replace(settings, **{section: changed})
    if listen is not None:
        settings = msgspec.structs.replace(settings, listen=msgspec.structs.replace(settings.listen, endpoint=listen))
        origin = "--listen"
    _check(settings, origin)
    return settings


def workdir_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for work directories: the setting, else systemd's RUNTIME_DIRECTORY, else `own_workdir`."""
    # systemd separates several runtime directories by a colon: systemd.exec(5), RuntimeDirectory.
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return settings.daemon.workdir or (Path(runtime) if runtime else own_workdir())


def own_workdir() -> Path:
    """Return the default folder for work directories: private to this user, in the temporary directory.

    It is not in XDG_RUNTIME_DIR, which is removed when the user logs out, while a daemon may stay. Its name does not
    begin with `digsigd-`: earlier releases removed everything with that prefix from the temporary directory.
    """
    return Path(tempfile.gettempdir(), f"digsigd.{os.geteuid()}")


def read_secret(path: Path, key: str) -> str:
    """Return the secret in a file, without the newline at its end.

    Raises `SettingsError` with `key` if it cannot be read or is not one line of text. The error never shows it.
    """
    try:
        text = path.read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise SettingsError(f"{key}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{key}: {path} is not text") from None
    if not text or not text.isprintable():
        raise SettingsError(f"{key}: {path} must hold only the secret, in one line")
    return text


def _convert(raw: Mapping[str, Any], origin: str, folder: Path, environ: Mapping[str, str]) -> Settings:
    def decode(kind: type, value: Any) -> Any:
        if kind is not Path:
            raise NotImplementedError(kind)
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("expected a path")
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        if value.startswith("${CREDENTIALS_DIRECTORY}"):
            if not credentials:
                raise ValueError("expected $CREDENTIALS_DIRECTORY to be set (systemd sets it for LoadCredential=)")
            value = value.replace("${CREDENTIALS_DIRECTORY}", credentials, 1)
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
        raise SettingsError(f"{origin}: {key or 'the file'}: {_in_words(text)}") from None


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
        return "expected 64 hexadecimal digits"

    def in_words(types: re.Match[str]) -> str:
        # A key that may be left out is `... | null`; TOML has no null.
        return " or ".join(_TYPES.get(name, f"`{name}`") for name in types[1].split(" | ") if name != "null")

    text = re.sub(r"`([a-z]+(?: \| [a-z]+)*)`", in_words, text)
    return text[:1].lower() + text[1:]


def _unknown_keys(raw: object, kind: object, where: str = "") -> Iterator[str]:
    """Yield a text for each key of `raw` that `kind` does not have, with the nearest known key."""
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


def _check(settings: Settings, origin: str) -> None:
    """Check what the types cannot express. Raises `SettingsError`."""

    def wrong(key: str, text: str) -> SettingsError:
        return SettingsError(f"{origin}: {key}: {text}")

    http = settings.keys.http
    if http.token_file and http.user:
        raise wrong("keys.http", "has both token_file and user; set only one of them")
    if bool(http.user) != bool(http.password_file):
        raise wrong("keys.http", "user and password_file go together; set both or neither")
    if http.key_file and not http.certificate_file:
        raise wrong("keys.http.key_file", "needs certificate_file")
    for name in settings.machines:
        if not MACHINE.fullmatch(name):
            raise wrong(f"machines.{name}", f"is not a machine name: expected {MACHINE_FORM}")
    for version in settings.cst.versions:
        if not VERSION.fullmatch(version):
            raise wrong(f"cst.versions.{version}", f"is not a version: expected {VERSION_FORM}")
    for name in settings.callers:
        if not re.fullmatch(r"[A-Za-z0-9._+@-]{1,64}", name):
            raise wrong(f"callers.{name}", "is not a caller name: expected 1-64 of A-Z a-z 0-9 . _ + @ -")
    for name in settings.pkcs11.tokens:
        if not name.isprintable() or not 0 < len(name.encode()) <= 32:
            raise wrong(f"pkcs11.tokens.{name}", "is not a label: expected 1 to 32 bytes without control characters")
    names = [name for name, _ in _options(settings.listen.endpoint) if name is not None]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise wrong("listen.endpoint", f"{settings.listen.endpoint!r} has {' and '.join(sorted(repeated))} twice")
    if not (settings.callers or settings.listen.allow_anonymous or is_local(settings.listen.endpoint)):
        raise wrong(
            "listen.endpoint",
            f"{settings.listen.endpoint!r} is not loopback, and authentication is off;"
            " add [callers.NAME] with a token_file, or set listen.allow_anonymous = true if a proxy in front"
            " authenticates",
        )


def is_local(endpoint: str) -> bool:
    """Return whether an endpoint string certainly listens on loopback or a Unix socket only."""
    options = _options(endpoint)
    if options[0] == (None, "unix"):
        return True
    interfaces = [value for name, value in options if name == "interface"]
    return (
        options[0] in {(None, "tcp"), (None, "tcp6"), (None, "ssl")}
        and bool(interfaces)
        and all(map(_is_loopback, interfaces))
    )


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def _options(endpoint: str) -> list[tuple[str | None, str]]:
    """Return the parts of an endpoint string as (name, value), with None for parts without a name.

    The form: Twisted, `serverFromString`. Colons separate parts, the first equals sign ends a name, and a backslash
    escapes both. If an option is repeated, Twisted uses the last one.
    """
    parts: list[list[str]] = [[""]]
    for escaped, plain in re.findall(r"\\(.)|(.)", endpoint, re.DOTALL):
        if plain == ":":
            parts.append([""])
        elif plain == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += escaped or plain
    return [(part[0] if len(part) == 2 else None, part[-1]) for part in parts]
