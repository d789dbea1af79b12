"""The configuration: its file, the environment, and mistakes in either."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.internet import endpoints

from digsigd.csf import Policy
from digsigd.settings import Settings, SettingsError, is_local, load, read_secret, workdir_of
from digsigd.settings.endpoints import options

FILE = Path(__file__).parent.parent / "etc/digsigd.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "digsigd.toml"
    path.write_text(text)
    return path


def test_defaults_need_nothing() -> None:
    """No file, no variables."""
    settings = load(None, {})
    assert settings == Settings()
    assert settings.listen.endpoint == "tcp:9999:interface=127.0.0.1"
    assert settings.cst.base == Path("/opt/NXP")
    assert (settings.keys.keep, settings.cst.timeout, settings.upload.max_artifact) == (300, 120, 1 << 30)


def test_the_file_we_ship_is_right_and_changes_nothing() -> None:
    """As it is, every key in it is commented out."""
    assert load(FILE, {}) == Settings()


def uncommented() -> str:
    """The file we ship with every example in force."""
    return re.sub(r"^#(?=[\[a-z\"])", "", FILE.read_text(), flags=re.MULTILINE)


def keys_of(kind: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key of the settings; entries of tables have any name."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys_of(field.type, (*where, field.name))
        elif field.name in {"machines", "callers"} and not where:
            (entry,) = [one for one in field.type.__args__ if one is not str]
            yield from keys_of(entry, (field.name, "*"))
        else:
            yield (*where, field.name)


def test_the_file_we_ship_documents_every_key_with_its_default() -> None:
    """Each key is there; each default is the real one, but for those that have none."""
    raw: Any = tomllib.loads(uncommented())
    defaults: Any = msgspec.to_builtins(Settings(), enc_hook=str)
    no_default = {"uri", "workdir", "token_file", "user", "password_file", "ca_file", "certificate_file", "key_file"}
    no_default |= {"endpoint_url", "region", "max_running", "versions", "paths", "writable", "ports"}
    no_default |= {"module", "engine", "provider", "environment", "ways"}
    no_default |= {"url", "folder", "checkpoints"}
    for path in keys_of(Settings):
        value, default = raw, defaults
        for part in path:
            value = next(iter(value.values())) if part == "*" else value[part]
            default = {} if part == "*" else default.get(part, {})
        if path[:2] in {("listen", "tls"), ("listen", "proxy")}:
            continue
        # What is off by default is shown as it would be.
        if path[0] in {"metrics", "canary", "telemetry"} and path[-1] not in {"allow_anonymous", "every", "backend"}:
            continue
        if path[-1] == "allow":
            Policy(frozenset(value))  # what is shown can be allowed
        if path in {("policy", "allow"), ("listen", "allowed_hosts")}:
            assert value == list(default)
        elif not {"machines", "callers", "tokens"}.intersection(path) and path[-1] not in no_default:
            assert value == default, path


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """The variables of the existing servers."""
    path = written(tmp_path, '[keys]\nuri = "file:///a"\nkeep = 5\n[cst]\nbase = "/a"\n')
    settings = load(path, {"DIGSIGSERVER_KEYFILE_URI": "file:///b", "DIGSIGSERVER_IMX_CST_BASE": "/b"})
    assert (settings.keys.uri, settings.keys.keep, settings.cst.base) == ("file:///b", 5, Path("/b"))


def test_the_command_line_overrides_both(tmp_path: Path) -> None:
    """--listen."""
    path = written(tmp_path, '[listen]\nendpoint = "tcp:1:interface=127.0.0.1"\n')
    assert load(path, {}, listen="unix:/run/x").listen.endpoint == "unix:/run/x"


def test_paths_are_relative_to_the_file_and_may_be_credentials(tmp_path: Path) -> None:
    """Systemd says where its credentials are."""
    path = written(
        tmp_path,
        '[callers.a]\ntoken_file = "tokens/a"\n[callers.b]\ntoken_file = "${CREDENTIALS_DIRECTORY}/b"\n'
        '[callers.c]\ntoken_file = "/abs/c"\n',
    )
    callers = load(path, {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}).callers
    assert callers["a"].token_file == tmp_path / "tokens/a"
    assert callers["b"].token_file == Path("/run/credentials/x/b")
    assert callers["c"].token_file == Path("/abs/c")
    with pytest.raises(SettingsError, match=r"callers\.b\.token_file.*CREDENTIALS_DIRECTORY"):
        load(path, {})


def test_a_credential_may_be_in_every_text(tmp_path: Path) -> None:
    """In an endpoint and in a URI it is written as these need it; on the command line and in the environment, too."""
    folder = "/run/credentials/digsigd@a\\x2d:b.service"
    path = written(
        tmp_path,
        '[listen]\nendpoint = "ssl:9999:interface=127.0.0.1:privateKey=${CREDENTIALS_DIRECTORY}/key"\n'
        '[keys]\nuri = "file://${CREDENTIALS_DIRECTORY}/keys"\n'
        '[record]\nurl = "postgresql://u@h/d?sslkey=${CREDENTIALS_DIRECTORY}/key"\n'
        'checkpoints = ["file://${CREDENTIALS_DIRECTORY}/c"]\n'
        '[cst]\npaths = ["${CREDENTIALS_DIRECTORY}/p"]\n[cst.versions]\n"1" = "${CREDENTIALS_DIRECTORY}/cst"\n',
    )
    settings = load(path, {"CREDENTIALS_DIRECTORY": folder})
    assert options(settings.listen.endpoint)[0] == (None, "ssl")
    assert dict(options(settings.listen.endpoint))["privateKey"] == f"{folder}/key"
    assert settings.keys.uri is not None
    assert unquote(urlsplit(settings.keys.uri).path) == f"{folder}/keys"
    assert settings.record.url is not None
    assert parse_qs(urlsplit(settings.record.url).query) == {"sslkey": [f"{folder}/key"]}
    assert [unquote(urlsplit(one).path) for one in settings.record.checkpoints] == [f"{folder}/c"]
    assert settings.cst.paths == (Path(f"{folder}/p"),)
    assert settings.cst.versions == {"1": Path(f"{folder}/cst")}
    given = load(
        None,
        {"CREDENTIALS_DIRECTORY": "/c", "DIGSIGSERVER_KEYFILE_URI": "file://${CREDENTIALS_DIRECTORY}/k"},
        listen="unix:${CREDENTIALS_DIRECTORY}/s",
    )
    assert (given.keys.uri, given.listen.endpoint) == ("file:///c/k", "unix:/c/s")
    with pytest.raises(SettingsError, match=r"digsigd.toml: listen\.endpoint: expected \$CREDENTIALS_DIRECTORY"):
        load(path, {})
    with pytest.raises(SettingsError, match=r"--listen: listen\.endpoint: expected \$CREDENTIALS_DIRECTORY"):
        load(None, {}, listen="unix:${CREDENTIALS_DIRECTORY}/s")


PROXY = "[callers.a]\ntoken_file = 'x'\n[listen.proxy]\n"
MISTAKES = {
    '[daemon]\nworkers = "two"': ("daemon.workers", "'two'; expected a number or 'auto'"),
    '[callers.a]\nbackends = ["ssl", "x"]': ("callers.a.backends", "'x'; expected 'pkcs11' or 'ssl'"),
    '[pkcs11.ways]\n"3.4.1" = "x"': ("pkcs11.ways.3.4.1", "'x'; expected 'engine' or 'provider'"),
    "[cst]\ntimout = 3": ["cst.timout: unknown key; did you mean 'timeout'?"],
    "[sct]\ntimeout = 3": ["sct: unknown key; did you mean 'cst'?"],
    "[keys]\nxyzzy = 3": ["keys.xyzzy: unknown key; the keys are: uri, keep"],
    "[keys]\nxyzzy = 3\n[cst]\nplugh = 1": ["keys.xyzzy", "cst.plugh"],
    "[machines.a]\nfusses = '1'": ["machines.a.fusses: unknown key; did you mean 'fuses'?"],
    "[cst]\ntimeout = 'x'": ["cst.timeout: expected a number, got text in quotes"],
    "[cst]\ntimeout = 0": ["cst.timeout", "> 0"],
    "[cst]\nmax_running = 1.5": ["cst.max_running", "whole number"],
    "[cst]\nmemory = 1": ["cst.memory", "33554432"],
    "[keys]\nkeep = -1": ["keys.keep", ">= 0"],
    "[listen]\nallow_anonymous = 'yes'": ["listen.allow_anonymous", "true or false"],
    "[machines.a]\nfuses = 'abc'": ["machines.a.fuses: expected 64 hexadecimal digits"],
    f"[machines.a]\nfuses = '{'0' * 63}'": ["machines.a.fuses: expected 64 hexadecimal digits"],
    f'[machines.a]\nfuses = "{"0" * 64}\\n"': ["machines.a.fuses: expected 64 hexadecimal digits"],
    f'[machines.a]\nkeys_sha256 = "{"0" * 64}\\n"': ["machines.a.keys_sha256: expected 64 hexadecimal digits"],
    f"[machines.a]\nfuses = '{'0' * 127}'": ["machines.a.fuses: expected 64 hexadecimal digits, or 128"],
    "[machines.a]\nsoc = 'mx8m'": ["machines.a.soc: 'mx8m' is no chip with AHAB: expected one of mx8, mx8x"],
    "[machines.a]\nkeys_sha256 = 1": ["machines.a.keys_sha256: expected text in quotes, got a whole number"],
    "[machines.a]\nrequire_ivt = 1": ["machines.a.require_ivt: expected true or false, got a whole number"],
    "[keys]\nuri = ['x']": ["keys.uri: expected text in quotes, got a list"],
    "[machines.good]\n[machines.bad]\nfuses = 'abc'": ["machines.bad.fuses"],
    "[machines.'../x']": ["machines.../x", "is not a machine name"],
    "[cst.versions]\n'../x' = '/bin/sh'": ["cst.versions.../x", "not a version"],
    "[callers.'a b']\ntoken_file = 'x'": ["callers.a b", "not a caller name"],
    "[callers.a]\nbackends = ['gpg']\ntoken_file = 'x'": ["callers.a.backends", "gpg"],
    "[callers.a]": ["callers.a", "token_file", "digsigd token new"],
    "[[callers.a.tokens]]\nsha256 = 'x'": ["callers.a.tokens", "64 hexadecimal digits"],
    "[[callers.a.tokens]]\nsha25 = 'x'": ["callers.a.tokens.sha25: unknown key; did you mean 'sha256'?"],
    "[[callers.a.tokens]]\nnot_after = 2030-01-01T00:00:00Z": ["callers.a.tokens", "token 1", "sha256 or file"],
    f"[[callers.a.tokens]]\nfile = 'x'\nsha256 = '{'0' * 64}'": ["callers.a.tokens", "sha256 or file"],
    "[[callers.a.tokens]]\nfile = 'x'\nnot_after = 2030-01-01": ["callers.a.tokens", "a date without a time"],
    "[[callers.a.tokens]]\nfile = 'x'\nnot_after = 2030-01-01T00:00:00": ["callers.a.tokens", "timezone"],
    "[callers.a]\ncertificate = 'CN=a'": ["callers.a.certificate", "listen.tls.client_ca"],
    "[callers.a]\ncertificate = 1": ["callers.a.certificate", "text in quotes or a list"],
    "[listen.tls]\ncertificate = 'a'": ["listen.tls", "certificate and key go together"],
    "[listen.tls]\nclient_ca = 'a'": ["listen.tls.client_ca", "needs certificate and key"],
    "[listen.tls]\ncertificate = 'a'\nkey = 'b'\ncrl = 'c'": ["listen.tls.crl", "needs client_ca"],
    "[listen]\nendpoint = 'ssl:1:interface=127.0.0.1'\n[listen.tls]\ncertificate = 'a'\nkey = 'b'": [
        "tcp:, tcp6: or unix:"
    ],
    "[listen.proxy]\ncertificate = 'sha256:00'": ["listen.proxy.certificate", "needs caller_header"],
    "[listen.proxy]\ncaller_header = 'X-A'": ["listen.proxy.caller_header", "needs [callers.NAME]"],
    f"{PROXY}caller_header = 'X-A'": ["listen.proxy", "needs certificate", "unix:"],
    f"{PROXY}caller_header = 'X-A'\ncertificate = 'sha256:00'": ["listen.proxy.certificate", "listen.tls.client_ca"],
    f"{PROXY}caller_header = 'Authorization'": ["listen.proxy.caller_header", "is not usable"],
    f"{PROXY}caller_header = 'X_A:'": ["listen.proxy.caller_header", "is not usable"],
    f"[listen]\nendpoint = 'unix:/x'\n{PROXY}caller_header = 'X-A'": ["listen.endpoint", "every user", ":mode=660"],
    f"[listen]\nendpoint = 'unix:/x:mode=666'\n{PROXY}caller_header = 'X-A'": ["listen.endpoint", ":mode=660"],
    "[keys.http]\ntoken_file = 'a'\nuser = 'b'\npassword_file = 'c'": ["keys.http", "both"],
    "[keys.http]\nuser = 'b'": ["keys.http", "go together"],
    "[keys.http]\nkey_file = 'b'": ["keys.http.key_file", "certificate_file"],
    "[listen]\nendpoint = 'tcp:9999'": ["listen.endpoint", "not loopback", "allow_anonymous"],
    "[listen]\nendpoint = 'tcp:9999:interface=127.0.0.1:interface=0.0.0.0'": ["listen.endpoint", "has interface twice"],
    "[listen]\nendpoint = 'tcp:port=1:interface=127.0.0.1:port=2'": ["listen.endpoint", "has port twice"],
    "[cst": ["is not TOML"],
    "cst = 3": ["cst", "expected a table"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_names_the_file_the_key_and_what_was_expected(tmp_path: Path, text: str) -> None:
    """All unknown keys at once."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    for words in (str(path), *MISTAKES[text]):
        assert words in str(caught.value)


def test_a_mistake_in_a_variable_names_the_variable() -> None:
    """Where no file is to blame."""
    with pytest.raises(SettingsError, match="DIGSIGSERVER_IMX_CST_BASE"):
        load(None, {"DIGSIGSERVER_IMX_CST_BASE": "a\0b"})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not TOML"):
        load(tmp_path / "binary", {})


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp:9999:interface=127.0.0.1", True),
        ("tcp:9999:interface=127.8.8.8", True),
        ("tcp:9999:interface=localhost", True),
        (r"tcp6:9999:interface=\:\:1", True),
        ("tcp:port=9999:interface=127.0.0.1", True),
        ("unix:/run/digsigd/socket", True),
        ("ssl:9999:interface=127.0.0.1", True),
        ("tcp:9999", False),
        ("tcp:9999:interface=127.0.0.1:interface=0.0.0.0", False),
        ("tcp:9999:interface=0.0.0.0:interface=127.0.0.1", False),
        (r"tcp:9999:interface=127.0.0.1:inter\face=0.0.0.0", False),
        (r"tcp:9999:interface=127.0.0.1\\:interface=0.0.0.0", False),
        (r"ssl:9999:interface\=127.0.0.1", False),
        (r"tcp:9999:inter\face=127.0.0.1", True),
        ("tcp:9999:0.0.0.0:mode=127.0.0.1", False),
        ("tcp:9999:interface=127.999.0.1", False),
        ("tcp:9999:interface=", False),
        ("interface=127.0.0.1:tcp:9999", False),
        ("tcp=unix:9999", False),
        ("", False),
        ("tcp:9999:interface=0.0.0.0", False),
        ("tcp:9999:interface=127.0.0.1.example.com", False),
        ("tcp:9999:interface=192.168.0.1", False),
        (r"tcp6:9999:interface=\:\:", False),
        ("systemd:domain=INET:index=0", False),
        ("haproxy:tcp:9999:interface=127.0.0.1", False),
    ],
)
def test_loopback_is_told_from_the_rest(endpoint: str, local: bool) -> None:
    """Where it cannot be told it is not loopback."""
    assert is_local(endpoint) is local


@given(st.text(alphabet=":=\\ab\n", max_size=12))
def test_endpoint_strings_are_taken_apart_as_twisted_does(endpoint: str) -> None:
    """Whatever is in them, but for a backslash at the end, which Twisted fails on."""
    assume(re.fullmatch(r"(?:\\.|[^\\])*", endpoint, re.DOTALL))
    positional, named = endpoints._parse(endpoint)
    parts = options(endpoint)
    assert [value for name, value in parts if name is None] == positional
    assert dict(option for option in parts if option[0] is not None) == named


def test_the_work_directory_follows_systemd(tmp_path: Path) -> None:
    """As set, else RUNTIME_DIRECTORY, the first where there are several, else a folder of this user's own."""
    assert workdir_of(Settings(), {}) == Path(tempfile.gettempdir(), f"digsigd.{os.geteuid()}")
    assert workdir_of(Settings(), {"RUNTIME_DIRECTORY": "/run/digsigd:/run/other"}) == Path("/run/digsigd")
    path = written(tmp_path, '[daemon]\nworkdir = "work"')
    assert workdir_of(load(path, {}), {"RUNTIME_DIRECTORY": "/run/digsigd"}) == tmp_path / "work"


def test_a_secret_is_one_line_and_is_never_shown(tmp_path: Path) -> None:
    """A newline at the end does not count."""
    path = tmp_path / "secret"
    for content in (b"open sesame", b"open sesame\n", b"open sesame\r\n"):
        path.write_bytes(content)
        assert read_secret(path, "k") == "open sesame"
    for content in (b"", b"\n", b"open\nsesame\n", b"open\x00sesame", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=r"^k: ") as caught:
            read_secret(path, "k")
        assert "sesame" not in str(caught.value)
