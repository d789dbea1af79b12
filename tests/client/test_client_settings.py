"""The settings of a client: where they come from, which count, and what is said of wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import pytest

from digsigd.client._internal.settings import (
    ENVIRONMENT,
    ClientSettings,
    ClientSettingsError,
    add_server_arguments,
    from_options,
    load,
)

HOST = "https://signer.example:9999"
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes a file below an empty folder, which is where one stands."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "digsign.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_a_file_has_all_there_is(put: Put, tmp_path: Path) -> None:
    """Its paths are relative to it, or to the home of whoever runs it; the token comes from its file."""
    put("a-token\n", "conf/token")
    config = put(
        f"""
        server = "{HOST}/digsigd"
        machine = "imx8mm-evk"
        cst = "3.4.1"
        backend = "pkcs11"
        soc = "imx93"
        token_file = "token"
        ca_file = "~/ca.pem"
        client_certificate = "/etc/cert.pem"
        client_key = "../key.pem"
        timeout = 60
        retries = 0
        allow_plain_http = true
        srk_table = "t.bin"
        csf_certificate = "pkcs11:object=csf"
        image_certificate = "i.pem"
        srk_certificate = "s.pem"
        sgk_certificate = "g.pem"
        """,
        "conf/mine.toml",
    )
    assert load(config, {"HOME": "/home/me"}) == ClientSettings(
        server=f"{HOST}/digsigd",
        token="a-token",
        ca_file=Path("/home/me/ca.pem"),
        client_certificate=Path("/etc/cert.pem"),
        client_key=tmp_path / "conf/../key.pem",
        machine="imx8mm-evk",
        cst="3.4.1",
        backend="pkcs11",
        soc="imx93",
        timeout=60,
        retries=0,
        allow_plain_http=True,
        srk_table="t.bin",
        csf_certificate="pkcs11:object=csf",
        image_certificate="i.pem",
        srk_certificate="s.pem",
        sgk_certificate="g.pem",
    )


def test_the_environment_alone_does(put: Put, tmp_path: Path) -> None:
    """With every variable there is. An empty one is not there."""
    put("of-a-file\n", "token")
    environ = {
        "DIGSIGN_SERVER": HOST,
        "DIGSIGN_MACHINE": "m",
        "DIGSIGN_CST": "4.0.1",
        "DIGSIGN_BACKEND": "ssl",
        "DIGSIGN_SOC": "imx8qxp",
        "DIGSIGN_TOKEN": "t",
        "DIGSIGN_CA_FILE": "ca.pem",
        "DIGSIGN_CLIENT_CERT": "c.pem",
        "DIGSIGN_CLIENT_KEY": "k.pem",
        "DIGSIGN_ALLOW_PLAIN_HTTP": "true",
    }
    settings = ClientSettings(
        server=HOST,
        token="t",
        machine="m",
        cst="4.0.1",
        backend="ssl",
        soc="imx8qxp",
        ca_file=Path("ca.pem"),
        client_certificate=Path("c.pem"),
        client_key=Path("k.pem"),
        allow_plain_http=True,
    )
    assert load(None, environ) == settings
    assert load(None, {**environ, "DIGSIGN_TOKEN_FILE": ""}) == settings
    del environ["DIGSIGN_TOKEN"]
    assert load(None, {**environ, "DIGSIGN_TOKEN_FILE": str(tmp_path / "token")}).token == "of-a-file"
    assert set(ENVIRONMENT) == {*environ, "DIGSIGN_TOKEN", "DIGSIGN_TOKEN_FILE"}


def test_the_first_file_that_is_there_counts(put: Put, tmp_path: Path) -> None:
    """As told, as DIGSIGN_CONFIG says, here, in the folder for configuration; no more than one of them."""
    put('server = "http://told"\nmachine = "m"', "told")
    put('server = "http://variable"', "variable")
    here = put('server = "http://here"')
    put('server = "http://xdg"', "xdg/digsign.toml")
    put('server = "http://home"', "home/.config/digsign.toml")
    environ = {"DIGSIGN_CONFIG": "variable", "XDG_CONFIG_HOME": f"{tmp_path}/xdg", "HOME": f"{tmp_path}/home"}
    assert load(Path("told"), environ).server == "http://told"
    assert load(None, environ).server == "http://variable"
    assert load(None, environ).machine is None
    del environ["DIGSIGN_CONFIG"]
    assert load(None, environ).server == "http://here"
    here.unlink()
    assert load(None, environ).server == "http://xdg"
    environ["XDG_CONFIG_HOME"] = "xdg"
    assert load(None, environ).server == "http://home"
    with pytest.raises(ClientSettingsError, match="no signing host is given") as caught:
        load(None, {})
    assert "--server URL" in caught.value.hint
    assert load(None, {}, server_needed=False) == ClientSettings()
    for name in ("none", "."):
        with pytest.raises(ClientSettingsError, match=f"^{re.escape(name)}: cannot be read"):
            load(Path(name), environ)


def test_options_come_before_the_environment_and_that_before_the_file(put: Put, tmp_path: Path) -> None:
    """Each by itself, but for what belongs together: a token's places, and a certificate and its key."""
    put("of-an-option", "option")
    put("of-the-file", "file")
    put(
        f'server = "{HOST}"\nmachine = "file"\ncst = "1"\ntoken_file = "file"\n'
        'client_certificate = "c"\nclient_key = "k"\ntimeout = 5'
    )
    environ = {"DIGSIGN_MACHINE": "variable", "DIGSIGN_CST": "2", "DIGSIGN_TOKEN": "of-a-variable"}
    parser = ArgumentParser()
    add_server_arguments(parser)

    def given(*options: str) -> ClientSettings:
        return from_options(parser.parse_args(options), environ)

    settings = given("--cst", "3", "--timeout", "7")
    assert (settings.server, settings.machine, settings.cst, settings.timeout) == (HOST, "variable", "3", 7.0)
    assert settings.token == "of-a-variable"
    assert given("--token-file", "option").token == "of-an-option"
    assert settings.client_key == tmp_path / "k"
    settings = given("--client-cert", "both")
    assert (settings.client_certificate, settings.client_key) == (Path("both"), None)
    assert given("--client-key", "other").client_certificate == tmp_path / "c"
    del environ["DIGSIGN_TOKEN"]
    assert given().token == "of-the-file"


def test_a_token_does_not_go_over_plain_http(put: Put) -> None:
    """But to this computer, and where that is allowed; the error says how."""
    for server in ("http://127.0.0.1:9999", "http://[::1]:9999", "http://localhost", HOST):
        assert load(None, {"DIGSIGN_SERVER": server, "DIGSIGN_TOKEN": "t"}).token == "t"
    for server in ("http://signer.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://localhost.example"):
        environ = {"DIGSIGN_SERVER": server, "DIGSIGN_TOKEN": "a-secret"}
        with pytest.raises(ClientSettingsError, match="plain http") as caught:
            load(None, environ)
        assert "allow_plain_http = true" in caught.value.hint
        assert "a-secret" not in str(caught.value)
        assert load(None, {**environ, "DIGSIGN_ALLOW_PLAIN_HTTP": "1"}).server == server
        with pytest.raises(ClientSettingsError, match="plain http"):
            ClientSettings(server=server, token="t")
        assert ClientSettings(server=server).server == server


def test_a_token_is_not_shown() -> None:
    """Whoever prints the settings."""
    assert "a-secret" not in repr(ClientSettings(server=HOST, token="a-secret"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = ", "is not TOML"),
        ("\xff", "is not TOML"),
        ('sever = "x"', "sever: unknown key"),
        ("zzz = 1", "zzz: unknown key"),
        ('token = "a-secret"', "token: a token is not allowed in digsign.toml"),
        ("server = 1", "server: expected text in quotes"),
        ('server = "signer.example"', "server: is not an address; expected http://HOST"),
        ('server = "ftp://signer.example"', "server: is not an address"),
        ('server = "https://"', "server: has no host"),
        ('server = "https://a-secret@signer.example"', "server: contains a user or password"),
        ('server = "https://me:a-secret@signer.example:1"', "server: contains a user or password"),
        ('server = "https://signer.example:99999"', "server: is not an address"),
        ('server = "https://signer.example:port"', "server: is not an address"),
        ('server = "https://[::1"', "server: is not an address"),
        ('server = "https://a b"', "server: is not an address"),
        ('server = "https://sïgner.example"', "server: is not an address"),
        ('server = "https://signer.example?a-secret"', "server: has a query"),
        ('server = "https://signer.example/#a-secret"', "server: has a query"),
        ('machine = ".."', "machine: '..' is not a machine name"),
        ('cst = "../3"', "cst: '../3' is not a version"),
        ('backend = "hsm"', "backend: 'hsm' is neither"),
        ("timeout = 0", "timeout: expected more than 0"),
        ("timeout = inf", "timeout: expected more than 0"),
        ("timeout = nan", "timeout: expected more than 0"),
        ("timeout = true", "timeout: expected a number"),
        ("retries = -1", "retries: expected 0 to 100"),
        ("retries = 1.5", "retries: expected a whole number"),
        ("allow_plain_http = 1", "allow_plain_http: expected true or false"),
        ("ca_file = 1", "ca_file: expected a path"),
        ('ca_file = ""', "ca_file: expected a path"),
        (r'ca_file = "\u0000"', "ca_file: expected a path"),
        (r'srk_table = "a\nb"', "srk_table: expected one line"),
        ('client_key = "k"', "client_key: its client_certificate is missing"),
        ('token_file = "none"', "token_file: .*none cannot be read: No such file"),
        ('token_file = "two"', "token_file: .*two must contain the token on one line"),
        ('token_file = "empty"', "token_file: .*empty must contain the token"),
        ('token_file = "space"', "token_file: .*space must contain the token"),
        ('token_file = "binary"', "token_file: .*binary is not text"),
    ],
)
def test_a_mistake_in_the_file_is_named(put: Put, tmp_path: Path, text: str, words: str) -> None:
    """With the key and what was expected, and no secret."""
    config = put("")
    config.write_bytes(text.encode("latin-1") if text == "\xff" else text.encode())
    put("a-secret\nanother", "two")
    put("", "empty")
    put(" a-secret\n", "space")
    (tmp_path / "binary").write_bytes(b"\xff")
    environ = {} if text.startswith("server") else {"DIGSIGN_SERVER": HOST}
    with pytest.raises(ClientSettingsError, match=words) as caught:
        load(None, environ)
    assert "a-secret" not in str(caught.value)
    if "client_key" not in text:
        assert "digsign.toml" in caught.value.what


def test_a_near_key_is_proposed(put: Put) -> None:
    """Else those that are known."""
    put('clientcertificate = "x"')
    with pytest.raises(ClientSettingsError) as caught:
        load(None, {})
    assert caught.value.hint == "did you mean client_certificate?"
    put("zzz = 1")
    with pytest.raises(ClientSettingsError) as caught:
        load(None, {})
    assert "machine, " in caught.value.hint
    assert "token," not in caught.value.hint


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DIGSIGN_SERVER": "x"}, "environment variable DIGSIGN_SERVER: is not an address"),
        ({"DIGSIGN_MACHINE": "a/b"}, "environment variable DIGSIGN_MACHINE: 'a/b'"),
        ({"DIGSIGN_TOKEN": "a-secret "}, "environment variable DIGSIGN_TOKEN: begins or ends with a space"),
        ({"DIGSIGN_TOKEN": "a\nsecret"}, "environment variable DIGSIGN_TOKEN: expected one line"),
        ({"DIGSIGN_TOKEN": "t", "DIGSIGN_TOKEN_FILE": "f"}, "both DIGSIGN_TOKEN and DIGSIGN_TOKEN_FILE"),
        ({"DIGSIGN_ALLOW_PLAIN_HTTP": "yes"}, "DIGSIGN_ALLOW_PLAIN_HTTP: expected true or false"),
        ({"DIGSIGN_TOKEN_FILE": "/none"}, "DIGSIGN_TOKEN_FILE: /none cannot be read"),
    ],
)
def test_a_mistake_in_the_environment_is_named(put: Put, environ: dict[str, str], words: str) -> None:
    """With the variable."""
    with pytest.raises(ClientSettingsError, match=words) as caught:
        load(None, {"DIGSIGN_SERVER": HOST, **environ})
    assert "a-secret" not in str(caught.value)


def test_a_mistake_in_an_option_is_named(put: Put) -> None:
    """As one writes it."""
    parser = ArgumentParser()
    add_server_arguments(parser)
    for options, words in (
        (("--server", "x"), "^--server: is not an address"),
        (("--server", HOST, "--machine", "a b"), "^--machine: 'a b'"),
        (("--server", HOST, "--timeout", "0"), "^--timeout: expected"),
        (("--server", HOST, "--token-file", "/none"), "^--token-file: /none cannot be read"),
        (("--server", HOST, "--client-key", "k"), "^client_key: its client_certificate is missing"),
    ):
        with pytest.raises(ClientSettingsError, match=words):
            from_options(parser.parse_args(options), {})
    with pytest.raises(TypeError, match="sever"):
        load(None, {}, sever="x")


def test_a_home_that_may_not_be_read_is_none(put: Put) -> None:
    """A path that cannot even be looked at."""
    assert load(None, {"HOME": "/" + "x" * 5000, "DIGSIGN_SERVER": HOST}).server == HOST


def test_importing_the_client_installs_no_reactor() -> None:
    """That is for whoever calls it."""
    code = "import sys, digsigd.client._internal.api; print('twisted.internet.reactor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_settings_are_light() -> None:
    """The command line is built from them: no Twisted, no treq, no cryptography."""
    code = (
        "import sys, argparse\nfrom digsigd.client._internal.settings import add_server_arguments\n"
        "add_server_arguments(argparse.ArgumentParser())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"twisted", "treq", "cryptography", "OpenSSL", "msgspec", "asyncio"} & set(done.stdout.split())
