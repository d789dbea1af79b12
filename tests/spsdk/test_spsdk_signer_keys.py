"""The line `signer: type=digsigd;…`: its keys, where their files are, and errors in its words."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from digsigd.client import ServerRefused
from digsigd.client._internal.settings import add_server_arguments
from digsigd.spsdk.configuration import KEYS, Configuration, configured
from digsigd.spsdk.errors import ProviderError, in_keys

LINE = {"server": "https://signer.example:9999", "machine": "board", "image": "flash.bin"}
ROOT = Path(__file__).parents[2]


def line(**keys: str) -> Configuration:
    return configured({**LINE, **keys}, [], {})


def refused(**keys: str) -> str:
    with pytest.raises(ProviderError) as caught:
        line(**keys)
    return str(caught.value)


def test_all_keys_are_read(tmp_path: Path) -> None:
    """Each reaches the client."""
    (tmp_path / "token").write_text("a-token\n")
    found = line(
        cst="3.4.1",
        backend="pkcs11",
        token_file=str(tmp_path / "token"),
        ca_file="/ca.pem",
        client_certificate="/own.pem",
        client_key="/own.key",
        timeout="12.5",
        retries="2",
        srk_table="table.bin",
        srk_certificate="SRK1.pem",
        soc="imx93",
    )
    settings = found.settings
    assert (settings.server, found.machine) == ("https://signer.example:9999", "board")
    assert (settings.cst, settings.backend, settings.token) == ("3.4.1", "pkcs11", "a-token")
    assert (settings.timeout, settings.retries) == (12.5, 2)
    assert (settings.srk_table, settings.srk_certificate) == ("table.bin", "SRK1.pem")
    paths = [settings.ca_file, settings.client_certificate, settings.client_key]
    assert paths == [Path("/ca.pem"), Path("/own.pem"), Path("/own.key")]
    assert found.chip is not None
    assert found.chip.name == "mx93"


def test_the_client_s_file_and_environment_are_below_the_line(tmp_path: Path) -> None:
    """A build has the token there."""
    (tmp_path / "digsign.toml").write_text('server = "https://other.example"\nmachine = "other"\ncst = "4.0.1"\n')
    environ = {"DIGSIGN_TOKEN": "a-token"}
    found = configured({**LINE, "config": "digsign.toml"}, [str(tmp_path)], environ)
    assert (found.machine, found.settings.cst, found.settings.token) == ("board", "4.0.1", "a-token")
    found = configured({"image": "flash.bin", "config": "digsign.toml"}, [str(tmp_path)], environ)
    assert (found.machine, found.settings.server) == ("other", "https://other.example")


def test_files_are_looked_up_as_spsdk_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First in its search paths, the folder of its configuration, then in the working directory."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
    (other / "flash.bin").write_bytes(b"x")
    monkeypatch.chdir(one)
    assert configured(LINE, [str(tmp_path), str(other)], {}).image == other / "flash.bin"
    assert configured(LINE, [str(tmp_path)], {}).image == one / "flash.bin"
    absolute = str(other / "flash.bin")
    assert configured({**LINE, "image": absolute}, [str(one)], {}).image == Path(absolute)


def test_secrets_are_looked_up_as_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no file can have is in no search path."""
    (tmp_path / "other").mkdir()
    (tmp_path / "token").write_text("a-token\n")
    monkeypatch.chdir(tmp_path / "other")
    found = configured({**LINE, "token_file": "token"}, [str(tmp_path)], {})
    assert found.settings.token == "a-token"
    name = "x" * 5000
    assert configured({**LINE, "image": name}, [str(tmp_path)], {}).image == tmp_path / "other" / name


@pytest.mark.parametrize("name", ["prehash", "prehashed"])
def test_digests_cannot_be_asked_for(name: str) -> None:
    """SPSDK's own proxy has this key."""
    assert "the host signs no digests" in refused(**{name: "sha384"})


def test_an_unknown_key_is_refused() -> None:
    """With the one that was meant, if there is one near."""
    assert "did you mean machine?" in refused(machin="board")
    assert "its keys are server, machine, " in refused(xyz="1")


@pytest.mark.parametrize("name", ["server", "machine", "image"])
def test_what_is_needed_is_named(name: str) -> None:
    """By the key that has to be set."""
    with pytest.raises(ProviderError) as caught:
        configured({key: value for key, value in LINE.items() if key != name}, [], {})
    assert f"set {name}=" in caught.value.hint
    assert f"{name} has no value" in refused(**{name: ""})


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("server", "ftp://x", "server: is not an address"),
        ("server", "https://me:secret@x", "token_file"),
        ("machine", "../x", "machine: '../x' is not a machine name"),
        ("cst", "a b", "cst: 'a b' is not a version"),
        ("backend", "gpg", "backend: 'gpg' is neither ssl nor pkcs11"),
        ("timeout", "soon", "timeout: soon is not a number of seconds"),
        ("timeout", "-1", "timeout: expected more than 0"),
        ("retries", "1.5", "retries: 1.5 is not a whole number"),
        ("token_file", "/nowhere", "token_file: /nowhere cannot be read"),
        ("client_key", "/own.key", "client_key: its client_certificate is missing"),
        ("soc", "imx8mm", "soc: no chip with AHAB is called 'imx8mm'"),
        ("config", "/nowhere.toml", "/nowhere.toml: cannot be read"),
    ],
)
def test_errors_name_the_keys(name: str, value: str, what: str) -> None:
    """And no option of digsign, which the caller does not see; no secret either."""
    told = refused(**{name: value})
    assert what in told
    assert "--" not in told
    assert "secret" not in told


def test_no_option_of_digsign_is_left_in_a_text() -> None:
    """Each option of a signing host is a key of the signer."""
    parser = argparse.ArgumentParser(add_help=False)
    add_server_arguments(parser)
    options = [action.option_strings[0] for action in parser._actions]
    assert len(options) > 8
    for option in options:
        told = in_keys(f"set {option} FILE, or another")
        assert told.removeprefix("set ").partition("=")[0] in KEYS
        assert told.endswith("=FILE, or another")


def test_an_error_of_the_host_is_told_in_keys() -> None:
    """With the ID of the request, for the host's log."""
    error = ServerRefused("no keys", hint="check the machine name: --machine, or DIGSIGN_MACHINE", request_id="1f2e")
    told = ProviderError.of(error)
    assert str(told) == "no keys (request 1f2e); check the machine name: machine=, or DIGSIGN_MACHINE"
    assert ProviderError.of(told) is told
