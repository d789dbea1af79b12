"""TLS of the daemon itself: what it speaks, whose certificates it takes, and new certificates while it runs."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import treq
from twisted.internet import reactor
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.web.client import Agent
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, TOKEN, Start
from tests.helpers.tls_daemons import OwnTls

BEARER = ("-H", f"Authorization: Bearer {TOKEN}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[OwnTls]:
    """Has an RSA key, with which old suites would be possible."""
    daemon = OwnTls(tmp_path_factory.mktemp("tls"), cst_base, pki, rsa_key=True).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def fresh(tmp_path: Path, cst_base: Path, pki: TrialPki) -> Iterator[OwnTls]:
    """One whose files a test may change."""
    daemon = OwnTls(tmp_path, cst_base, pki).start()
    yield daemon
    daemon.stop()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-tls1_3",), "TLSv1.3"),
        (("-tls1_2",), "TLSv1.2"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), "ECDHE-RSA-AES128-GCM-SHA256"),
        (("-tls1_2", "-cipher", "AES128-GCM-SHA256"), None),  # no forward secrecy
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"), None),  # CBC
        (("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"), None),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), None),
        (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), None),
        (("-alpn", "http/1.1"), "ALPN protocol: http/1.1"),
        (("-alpn", "h2"), "No ALPN negotiated"),
    ],
    ids=str,
)
def test_only_forward_secret_suites_of_new_versions(
    daemon: OwnTls, options: tuple[str, ...], expected: str | None
) -> None:
    """OpenSSL's own client connects with TLS 1.3 and 1.2, and with nothing older or weaker."""
    done = daemon.s_client(*options)
    assert (done.returncode == 0) == (expected is not None), done.stderr
    assert (expected or "") in done.stdout


def test_no_session_is_resumed(daemon: OwnTls, tmp_path: Path) -> None:
    """A resumed session would keep a certificate that was revoked meanwhile."""
    for version in ("-tls1_2", "-tls1_3"):
        session = tmp_path / version
        request = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        first = daemon.s_client(version, "-ign_eof", "-sess_out", str(session), says=request)
        assert "200 OK" in first.stdout
        if session.exists():
            again = daemon.s_client(version, "-sess_in", str(session))
            assert "Reused" not in again.stdout
            assert "New, " in again.stdout


def test_a_certificate_is_a_caller(daemon: OwnTls) -> None:
    """With the right subject it signs; without one, or with another's, 401; a token works beside it."""
    assert daemon.curl(certificate="ci")[0] == 200
    status, text = daemon.curl()
    assert (status, "authentication required" in text) == (401, True)
    status, text = daemon.curl(certificate="lab")
    assert (status, "belongs to no caller" in text) == (401, True)
    assert daemon.curl(*BEARER)[0] == 200
    assert daemon.curl(*BEARER, certificate="lab")[0] == 200
    assert daemon.curl("-H", "Authorization: Bearer wrong", certificate="ci")[0] == 401


def test_a_certificate_of_another_authority_is_not_accepted(daemon: OwnTls) -> None:
    """The connection ends in the handshake, for every path."""
    for path in ("/sign/imx", "/healthz"):
        status, text = daemon.curl(certificate="stranger", path=path)
        assert status == 0, text


@implementer(IPolicyForHTTPS)
class _Policy:
    def __init__(self, root: bytes, own: bytes) -> None:
        self._root, self._own = Certificate.loadPEM(root), PrivateCertificate.loadPEM(own)

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        made: IOpenSSLClientConnectionCreator = optionsForClientTLS("localhost", self._root, self._own)
        return made


async def test_treq_reads_the_keys_with_a_certificate(daemon: OwnTls) -> None:
    """A client of Twisted's is the same caller as curl."""
    policy = _Policy(daemon.hosts.pem, (daemon.folder / "ci.pem").read_bytes())
    client = treq.client.HTTPClient(Agent(reactor, policy))
    response = await client.get(f"{daemon.url}/machines/{MACHINE}", timeout=DEADLINE)
    assert response.code == 200
    assert (await response.json())["machine"] == MACHINE


@contextmanager
def connected(daemon: OwnTls, certificate: str) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=str(daemon.folder / "hosts.pem"))
    context.load_cert_chain(daemon.folder / f"{certificate}.pem")
    host, port = daemon.url.removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=DEADLINE)
    with closing(connection):
        connection.connect()
        yield connection


def asked(connection: http.client.HTTPSConnection) -> tuple[int, str]:
    connection.request("GET", f"/machines/{MACHINE}")
    response = connection.getresponse()
    return response.status, response.read().decode()


def certificate_of(connection: http.client.HTTPSConnection) -> str:
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


def test_new_certificates_drop_no_connection(fresh: OwnTls) -> None:
    """After a reload, new connections get the new certificate, and the old ones stay."""
    with connected(fresh, "ci") as old:
        assert asked(old)[0] == 200
        new = fresh.put_host(fresh.folder).decode()
        fresh.reload()
        with connected(fresh, "ci") as later:
            assert certificate_of(later).strip() == new.strip()
            assert certificate_of(old).strip() != new.strip()
            assert asked(old)[0] == 200
            assert asked(later)[0] == 200


def test_a_reload_with_a_mistake_changes_nothing(fresh: OwnTls) -> None:
    """A key of another certificate: the old ones stay, and so does the old token, though a new one is in its file."""
    fresh.put_host(fresh.folder)
    before = (fresh.folder / "host.key").read_bytes()
    (fresh.folder / "host.key").write_bytes(fresh.hosts.issue("another")[1])
    (fresh.folder / "token").write_text("another-token-of-the-release-team")
    fresh.reload()
    assert "not reloaded: listen.tls.key" in fresh.log()
    assert fresh.curl(*BEARER)[0] == 200
    (fresh.folder / "host.key").write_bytes(before)
    fresh.reload()
    assert fresh.curl(*BEARER)[0] == 401
    assert fresh.curl("-H", "Authorization: Bearer another-token-of-the-release-team")[0] == 200


def test_a_revoked_certificate_signs_nothing(fresh: OwnTls) -> None:
    """After the reload: neither on a new connection nor on one that was open before."""
    with connected(fresh, "ci") as old, connected(fresh, "lab") as other:
        assert asked(old)[0] == 200
        (fresh.folder / "clients.crl").write_bytes(fresh.clients.crl(fresh.certificates["ci"]))
        fresh.reload()
        status, text = asked(old)
        assert (status, "revoked" in text) == (401, True)
        assert "no caller" in asked(other)[1]
    assert fresh.curl(certificate="ci")[0] == 0
    assert fresh.curl(certificate="lab")[0] == 401
    done = fresh.s_client("-cert", "ci.pem", "-tls1_2")
    assert "certificate revoked" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("host.pem", None, "listen.tls.certificate: "),
        ("host.key", None, "listen.tls.key: "),
        ("clients.pem", None, "listen.tls.client_ca: "),
        ("clients.crl", None, "listen.tls.crl: "),
        ("host.pem", b"nonsense", "has no certificate in PEM"),
        ("host.key", b"nonsense", "is not a private key in PEM"),
        ("host.key", "another", "is not the key of the certificate"),
        ("host.key", "pass phrase", "has a pass phrase"),
        ("host.pem", "expired", "is not valid now"),
        ("clients.pem", b"nonsense", "has no certificate in PEM"),
        ("clients.crl", b"nonsense", "has no revocation list in PEM"),
        ("clients.crl", "expired", "has expired at"),
        ("clients.crl", "of another authority", "has no list that CN=test authority"),
    ],
    ids=str,
)
def test_files_that_cannot_work_end_the_start_in_one_line(
    tmp_path: Path, cst_base: Path, pki: TrialPki, file: str, content: bytes | str | None, words: str
) -> None:
    """Missing, malformed, of another key, or out of date: said at start with key and file, and by --check."""
    daemon = OwnTls(tmp_path, cst_base, pki)
    path = tmp_path / file
    match content:
        case None:
            path.unlink()
        case bytes():
            path.write_bytes(content)
        case "another":
            path.write_bytes(daemon.hosts.issue("another")[1])
        case "pass phrase":
            subprocess.run(
                ["openssl", "pkey", "-in", path, "-aes128", "-passout", "pass:secret", "-out", tmp_path / "locked"],
                check=True,
            )
            (tmp_path / "locked").replace(path)
        case "of another authority":
            # It has the same name, and another key.
            path.write_bytes(daemon.strangers.crl())
        case _ if file == "clients.crl":
            path.write_bytes(daemon.clients.crl(hours=-1))
        case _:
            certificate, key = daemon.hosts.issue("host", hours=-0.5)
            path.write_bytes(certificate)
            (tmp_path / "host.key").write_bytes(key)
    for options in ((), ("--check",)):
        done = subprocess.run(
            daemon.command(*options), env=daemon.environ, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert words in said
        assert "listen.tls" in said
        assert "Traceback" not in said


def test_plain_http_to_the_port_is_answered_and_logged(fresh: OwnTls) -> None:
    """In plain HTTP, with what to do, also where a large body follows; and signs nothing."""
    plain = fresh.url.replace("https://", "http://")
    (fresh.folder / "spl.bin").write_bytes(bytes(1 << 20))
    fresh.url = plain
    for path in ("/readyz", "/sign/imx"):
        status, text = fresh.curl(*BEARER, path=path)
        assert (status, text) == (400, "this port uses TLS: use https:// instead of http://\n")
    fresh.wait_for_log("connection of 127.0.0.1 failed: the client sent plain HTTP to this port with TLS", 2)
    assert "received" not in fresh.log()


def test_a_handshake_that_fails_is_logged_with_its_reason(fresh: OwnTls) -> None:
    """Of a client that does not know the authority, and of a client with a certificate of a stranger."""
    done = subprocess.run(
        ["curl", "--noproxy", "*", "--silent", "--show-error", f"{fresh.url}/readyz"],
        capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert "certificate" in done.stderr
    fresh.wait_for_log("connection of 127.0.0.1 failed: tlsv1 alert unknown ca (the client does not know the authority")
    assert fresh.curl(certificate="stranger")[0] == 0
    fresh.wait_for_log("certificate verify failed (the client's certificate is not of an authority in client_ca")


def test_tls_to_a_port_without_it_ends_at_once(start: Start) -> None:
    """The client says so without a wait, and the log does, too."""
    daemon = start()
    url = daemon.url.replace("http://", "https://")
    done = subprocess.run(
        ["curl", "--noproxy", "*", "--silent", "--show-error", f"{url}/readyz"],
        capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert "wrong version number" in done.stderr, done.stderr
    daemon.wait_for_log("connection of 127.0.0.1 failed: the client sent TLS to this port without TLS")
