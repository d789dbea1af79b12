"""A proxy in front that says who is calling, and web pages that must not sign."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, RIGHTS, TOKEN, Daemon, Start
from tests.helpers.tls_daemons import CALLERS, OwnTls

HEADER = "X-Digsigd-Caller"


def fingerprint(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[OwnTls]:
    """A daemon that believes the proxy with one certificate."""
    folder = tmp_path_factory.mktemp("behind")
    daemon = OwnTls(folder, cst_base, pki, CALLERS)
    pinned = fingerprint(daemon.certificates["proxy"])
    text = daemon.config.read_text()
    daemon.config.write_text(f'{text}\n[listen.proxy]\ncaller_header = "{HEADER}"\ncertificate = "sha256:{pinned}"\n')
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize(
    ("certificate", "values", "expected"),
    [
        ("proxy", ["ci"], 200),
        ("proxy", ["other"], 200),
        ("proxy", ["nobody"], 401),
        ("proxy", ["ci,other"], 401),
        ("proxy", ["ci", "other"], 401),
        ("proxy", ["ci", "ci"], 401),
        ("proxy", [], 401),
        ("lab", ["ci"], 401),
        ("ci", ["ci"], 401),
        (None, ["ci"], 401),
    ],
)
def test_the_header_is_the_pinned_proxys_alone(
    behind: OwnTls, certificate: str | None, values: list[str], expected: int
) -> None:
    """From any other connection it is refused, also with a certificate of a caller."""
    options = [word for value in values for word in ("-H", f"{HEADER}: {value}")]
    status, text = behind.curl(*options, certificate=certificate)
    assert status == expected, text


def test_a_token_does_not_help_a_stranger_to_send_the_header(behind: OwnTls) -> None:
    """A caller cannot be another one by adding the header to its own token."""
    status, text = behind.curl("-H", f"Authorization: Bearer {TOKEN}", "-H", f"{HEADER}: ci")
    assert (status, "trusted proxy only" in text) == (401, True)


class OnSocket(Daemon):
    """Listens on a Unix socket."""

    def start(self) -> OnSocket:
        text = self.config.read_text()
        self.config.write_text(text.replace("tcp:0:interface=127.0.0.1", f"unix:{self.folder}/socket:mode=660"))
        try:
            super().start()
        except AssertionError:
            if self.process_ended():
                raise
        return self

    def log(self) -> str:
        # `Daemon.start` waits for an address.
        return re.sub(r"listening on (?!127)\S+", "listening on 127.0.0.1:1", super().log())


def test_a_unix_socket_that_others_cannot_open_is_a_proxys(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """Whoever can open it may say who the caller is."""
    (tmp_path / "token").write_text(TOKEN)
    config = f'[listen]\n[listen.proxy]\ncaller_header = "{HEADER}"\n[callers.ci]\n{RIGHTS}'
    daemon = OnSocket(tmp_path, cst_base, config)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "socket"))) as client:
            assert daemon.post(pki, client=client, headers={HEADER: "ci"}).status_code == 200
            assert daemon.post(pki, client=client, headers={HEADER: "other"}).status_code == 401
            assert daemon.post(pki, client=client).status_code == 401
    finally:
        daemon.stop()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200), ("LOCALHOST:9999", 200), ("localhost.", 200), ("127.0.0.1", 200), ("[::1]:80", 200),
        ("sign.example", 200), ("sign.example:443", 200),
        ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example:9999", 403),
        ("sign.example.evil.example", 403), ("10.0.0.1", 403), ("evil.example@localhost", 403), ("[::1", 403),
    ],
)  # fmt: skip
def test_without_callers_this_host_has_to_be_called_by_its_name(
    open_host: Daemon, pki: TrialPki, host: str, expected: int
) -> None:
    """The name of a web page that was made to point here is not one of them."""
    assert open_host.post(pki, headers={"Host": host}).status_code == expected
    machine = httpx.get(f"{open_host.url}/machines/{MACHINE}", headers={"Host": host}, timeout=DEADLINE)
    assert machine.status_code == expected
    assert httpx.get(f"{open_host.url}/healthz", headers={"Host": host}, timeout=DEADLINE).status_code == 200


@pytest.fixture(scope="module")
def open_host(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """Everybody may sign; it has one name beside its own."""
    daemon = Daemon(tmp_path_factory.mktemp("open"), cst_base, '[listen]\nallowed_hosts = ["sign.example"]\n')
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "file://", "", "http://[::1"])
def test_web_pages_do_not_sign(open_host: Daemon, start: Start, pki: TrialPki, origin: str) -> None:
    """A form that a page of another place sends is refused, with and without a token."""
    answer = open_host.post(pki, headers={"Origin": origin})
    assert (answer.status_code, "web pages" in answer.text) == (403, True)
    guarded = start(f'[callers.ci]\ntoken_file = "token"\n{RIGHTS}')
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post(pki, headers={**bearer, "Origin": origin}).status_code == 403
    assert guarded.post(pki, headers=bearer).status_code == 200


def test_a_page_of_this_host_itself_may(open_host: Daemon, pki: TrialPki) -> None:
    """Origin and Host are the same, and Host is allowed."""
    place = open_host.url.removeprefix("http://")
    assert open_host.post(pki, headers={"Origin": open_host.url, "Host": place}).status_code == 200
    foreign = {"Origin": "http://evil.example", "Host": "evil.example"}
    assert open_host.post(pki, headers=foreign).status_code == 403


def test_with_callers_any_name_will_do(start: Start, pki: TrialPki) -> None:
    """A page has no token: the name says nothing more."""
    guarded = start(f'[callers.ci]\ntoken_file = "token"\n{RIGHTS}')
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "sign.example"}
    assert guarded.post(pki, headers=headers).status_code == 200
