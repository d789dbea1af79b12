"""What is not safe about a configuration, found at start and by --check."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from digsigd.callers.findings import findings
from digsigd.callers.from_settings import access_of
from digsigd.callers.tokens import sha256_of
from digsigd.settings import Settings, SettingsError, load
from digsigd.settings.permissions import check_writable
from tests.helpers.certificates import Authority
from tests.helpers.daemons import DEADLINE, RIGHTS, TOKEN, Daemon

CALLER = f"[callers.ci]\n{RIGHTS}"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, and only this one can write."""
    made = Path(tempfile.mkdtemp(prefix="digsigd-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def settings_of(folder: Path, text: str) -> Settings:
    path = folder / "digsigd.toml"
    path.write_text(text)
    return load(path, {})


def found_in(folder: Path, text: str, certificate: x509.Certificate | None = None) -> list[str]:
    settings = settings_of(folder, text)
    return [str(one) for one in findings(settings, access_of(settings), certificate)]


def secret(path: Path, text: str = TOKEN, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


SECRETS = {
    "keys.http.token_file": "[keys.http]\ntoken_file = 'secret'",
    "keys.http.password_file": "[keys.http]\nuser = 'u'\npassword_file = 'secret'",
    "keys.http.key_file": "[keys.http]\ncertificate_file = 'none'\nkey_file = 'secret'",
    "listen.tls.key": "[listen.tls]\ncertificate = 'none'\nkey = 'secret'",
    "pkcs11.tokens.release.pin_file": "[pkcs11.tokens.release]\npin_file = 'secret'",
    "callers.ci.token_file": f"{CALLER}token_file = 'secret'",
}


@pytest.mark.parametrize("key", SECRETS)
def test_secrets_that_everybody_may_read_are_found(public: Path, key: str) -> None:
    """With the key and the file; not if the mode or a folder keeps others out."""
    path = secret(public / "secret", mode=0o644)
    expected = f"{key}: every user of this host may read {path}"
    assert any(one.startswith(expected) for one in found_in(public, SECRETS[key]))
    path.chmod(0o640)
    assert not [one for one in found_in(public, SECRETS[key]) if "may read" in one]
    path.chmod(0o644)
    public.chmod(0o750)
    assert not [one for one in found_in(public, SECRETS[key]) if "may read" in one]


@pytest.mark.parametrize("key", [*SECRETS, "callers.ci.tokens", "listen.tls.crl"])
def test_files_that_everybody_may_write_are_refused(public: Path, key: str) -> None:
    """Whoever writes them makes callers: the file, or a folder in which it can be replaced."""
    others = {
        "callers.ci.tokens": f"{CALLER}[[callers.ci.tokens]]\nfile = 'secret'",
        "listen.tls.crl": "[listen.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\ncrl = 'secret'",
    }
    settings = settings_of(public, (SECRETS | others)[key])
    path = secret(public / "secret")
    check_writable(settings)
    path.chmod(0o602)
    with pytest.raises(SettingsError, match=f"{key}: every user of this host may write {path}"):
        check_writable(settings)
    path.chmod(0o600)
    public.chmod(0o777)
    with pytest.raises(SettingsError, match="or replace it"):
        check_writable(settings)
    public.chmod(0o1777)  # as /tmp
    check_writable(settings)


def test_a_token_in_clear_is_found_with_what_to_write_instead(public: Path) -> None:
    """The hash is the new content of the file, after which nothing is found, whoever may read it."""
    text = f"{CALLER}token_file = 'token'"
    secret(public / "token")
    (found,) = found_in(public, text)
    assert "holds the token itself" in found
    assert TOKEN not in found
    secret(public / "token", f"sha256:{sha256_of(TOKEN.encode()).hex()}\n", 0o644)
    assert f"replace it with sha256:{sha256_of(TOKEN.encode()).hex()}" in found
    assert found_in(public, text) == []


def test_what_ends_soon_is_found(public: Path) -> None:
    """Tokens and the host's certificate, in two weeks; and what has ended already."""
    now = datetime.now(UTC)
    text = CALLER
    for number, days in enumerate((-1, 1, 30)):
        end = now + timedelta(days=days)
        text += f"[[callers.ci.tokens]]\nsha256 = '{number:064x}'\nnot_after = {end:%Y-%m-%dT%H:%M:%SZ}\n"
    one, two = found_in(public, text)
    assert "callers.ci.tokens, number 1: the token has ended" in one
    assert "callers.ci.tokens, number 2: the token ends" in two
    certificate = x509.load_pem_x509_certificate(Authority().issue("host", hours=24 * 13)[0])
    (found,) = found_in(public, "", certificate)
    assert found.startswith("listen.tls.certificate: the certificate ends at ")
    later = x509.load_pem_x509_certificate(Authority().issue("host", hours=24 * 15)[0])
    assert found_in(public, "", later) == []


def test_rights_that_are_missing_or_have_no_effect_are_found(public: Path) -> None:
    """With the lines to add."""
    token = "[[callers.ci.tokens]]\nsha256 = '" + "1" * 64 + "'\n"
    (found,) = found_in(public, "[callers.ci]\nbackends = ['ssl']\n" + token)
    assert found.startswith("callers.ci: may sign nothing")
    assert found_in(public, "[metrics]\npath = true\n[callers.ci]\nmetrics = true\n" + token) == []
    assert found.endswith('add machines = ["MACHINE"]; cst_versions = ["*"]')
    allow = f"{CALLER}csf.allow = ['unlock-ocotp-scs']\n{token}"
    (found,) = found_in(public, allow)
    assert "callers.ci.csf.allow: 'unlock-ocotp-scs' has no effect" in found
    assert found_in(public, f"[policy]\nallow = ['unlock-ocotp-scs']\n{allow}") == []
    assert found_in(public, f"[machines.a]\nallow = ['unlock-ocotp-scs']\n{allow}") == []


def test_the_page_for_people_is_looked_at(public: Path) -> None:
    """Who only looks needs no backend; nobody could open it, or everybody who can reach the host could."""
    page = "[page]\nenabled = true\ncallers = ['{}']\n"
    looks = "[callers.anna]\nmachines = ['*']\n[[callers.anna.tokens]]\nsha256 = '" + "1" * 64 + "'\n"
    assert found_in(public, page.format("an*") + looks) == []
    nobody, nothing = found_in(public, page.format("ben") + looks)
    assert nobody == "page.callers: no caller has such a name, so nobody can open the page"
    assert nothing.startswith("callers.anna: may sign nothing")
    everywhere = "[listen]\nendpoint = 'tcp:9999'\nallow_anonymous = true\n"
    (found,) = found_in(public, everywhere + page.format("*"))
    assert found.startswith("page.enabled: everybody who can reach this host sees its record")
    assert found_in(public, page.format("*")) == []
    assert found_in(public, everywhere) == []


def test_tokens_in_clear_on_the_network_are_found(public: Path) -> None:
    """Not on loopback, and not with TLS."""
    token = f"{CALLER}[[callers.ci.tokens]]\nsha256 = '{'1' * 64}'\n"
    (found,) = found_in(public, f"[listen]\nendpoint = 'tcp:9999'\n{token}")
    assert "in clear" in found
    assert found_in(public, token) == []
    tls = "[listen.tls]\ncertificate = 'c'\nkey = 'k'\n"
    assert found_in(public, f"[listen]\nendpoint = 'tcp:9999'\n{tls}{token}") == []
    assert found_in(public, f"[listen]\nendpoint = 'ssl:9999'\n{token}") == []


def test_a_start_and_a_check_say_what_is_found(public: Path, cst_base: Path) -> None:
    """The log has a line for each finding, and so has --check, which is as successful as without."""
    secret(public / "token", mode=0o644)
    daemon = Daemon(public, cst_base, f"{CALLER}token_file = 'token'\n")
    daemon.start()
    daemon.wait_for_log("holds the token itself")
    daemon.wait_for_log("not safe: callers.ci.token_file: every user of this host may read")
    daemon.stop()
    done = checked(daemon)
    assert done.returncode == 0, done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("warn") and "may read" in line]
    secret(public / "token", mode=0o666)
    done = checked(daemon)
    assert done.returncode == 1
    assert "callers.ci.token_file: every user of this host may write" in done.stdout
    started = subprocess.run(
        daemon.command(), env=daemon.environ, capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert (started.returncode, "may write" in started.stderr) == (1, True)


def checked(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command("--check"),
        env={**os.environ, **daemon.environ}, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
