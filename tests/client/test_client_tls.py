"""TLS: whom the client trusts, how it says who it is, and what is told where neither does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.protocols.portforward import ProxyFactory

from digsigd.client._internal.api import ClientSettingsError, ServerRefused, ServerUnreachable
from digsigd.testing import TrialPki
from tests.client.conftest import MakeClient, Serve
from tests.client.test_client_signing import check
from tests.helpers.certificates import Authority
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.hostile_servers import TlsDaemon, answer, reactor, turned

Order = dict[str, Any]


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


async def test_a_daemon_with_tls_of_its_own(
    cst_base: Path, tmp_path: Path, client: MakeClient, order: Order, pki: TrialPki
) -> None:
    """Twisted's `ssl:` endpoint, and its authority in a file."""
    authority = Authority()
    certificate, key = authority.issue("signer")
    files = written(tmp_path, "key.pem", key), written(tmp_path, "cert.pem", certificate)
    daemon = TlsDaemon(tmp_path, cst_base, "[upload]\nmax_artifact = 1048576\n").with_files(*files)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        large = tmp_path / "large.bin"
        large.touch()
        os.truncate(large, 256 << 20)
        ca_file = written(tmp_path, "ca.pem", b"# ours\n" + Authority().pem + authority.pem)
        one = client(daemon.url, ca_file=ca_file, token="a-token-that-nobody-asked-for")
        check((await one.sign(**order)).blob, pki)
        check((await client(daemon.url.replace("127.0.0.1", "localhost"), ca_file=ca_file).sign(**order)).blob, pki)
        assert await one.ready() == []
        with pytest.raises(ServerRefused) as refused:
            await one.sign(**{**order, "artifact": large})
        assert refused.value.status == 413
        with pytest.raises(ServerUnreachable, match=r"not trusted") as caught:
            await client(daemon.url, retries=4).sign(**order)
        assert "--ca-file" in caught.value.hint
        other = written(tmp_path, "other.pem", Authority().pem)
        with pytest.raises(ServerUnreachable, match="not trusted"):
            await client(daemon.url, ca_file=other, retries=4).ready()
        retried: list[str] = []
        one = client(daemon.url.replace("https", "http"), retries=4, on_retry=retried.append)
        with pytest.raises(ServerUnreachable, match=r"^127\.0\.0\.1:\d+ uses TLS") as caught:
            await one.sign(**order)
        assert "https://" in caught.value.hint
        assert retried == []
        assert "failed: http request (the client sent plain HTTP" in daemon.log()
    finally:
        daemon.stop()


async def test_an_address_of_version_6(serve: Serve, tmp_path: Path, client: MakeClient) -> None:
    """In brackets, as addresses have it; the token may go there in the open, for it is this computer."""
    server = await serve(answer(200, b'{"missing": []}', "application/json"))
    port = reactor.listenTCP(0, server, interface="::1")
    try:
        assert await client(f"http://[::1]:{port.getHost().port}", token="a-token").ready() == []
        assert server.connections[0].header("host") == f"[::1]:{port.getHost().port}"
    finally:
        await maybeDeferred(port.stopListening)
    with pytest.raises(ServerUnreachable, match=r"^\[::1\]:1 refuses"):
        await client("http://[::1]:1").ready()


async def test_a_certificate_of_ours(
    daemon: Daemon, tmp_path: Path, client: MakeClient, order: Order, pki: TrialPki
) -> None:
    """A proxy with TLS lets those in who have one of its authority."""
    authority = Authority()
    certificate, key = authority.issue("proxy")
    options = PrivateCertificate.loadPEM(certificate + key).options(Certificate.loadPEM(authority.pem))
    endpoint: Any = SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1")
    proxy: Any = ProxyFactory("127.0.0.1", int(daemon.url.rpartition(":")[2]))
    proxy.noisy = False
    port = await endpoint.listen(proxy)
    url = f"https://127.0.0.1:{port.getHost().port}"
    ca_file = written(tmp_path, "ca.pem", authority.pem)
    certificate, key = authority.issue("builder")
    try:
        both = written(tmp_path, "both.pem", key + certificate)
        one = client(url, ca_file=ca_file, client_certificate=both)
        check((await one.sign(**order)).blob, pki)
        parts = {
            "client_certificate": written(tmp_path, "cert.pem", certificate),
            "client_key": written(tmp_path, "key.pem", key),
        }
        assert await client(url, ca_file=ca_file, **parts).ready() == []
        other = b"".join(Authority().issue("stranger"))
        for more in ({}, {"client_certificate": written(tmp_path, "other.pem", other)}):
            one = client(url, ca_file=ca_file, **more)
            for ask in (one.ready, lambda one=one: one.sign(**order)):
                with pytest.raises(ServerUnreachable) as caught:
                    await ask()
                assert "--client-cert" in caught.value.hint, caught.value
    finally:
        await maybeDeferred(port.stopListening)
        await turned()


async def test_a_certificate_for_another_name(serve: Serve, tmp_path: Path, client: MakeClient) -> None:
    """Is refused, whoever signed it."""
    authority = Authority()
    server = await serve(answer(200), tls=authority.server_options())
    ca_file = written(tmp_path, "ca.pem", authority.pem)
    url = server.url.replace("127.0.0.1", "127.0.0.2")
    server.port.stopListening()
    endpoint: Any = SSL4ServerEndpoint(reactor, 0, authority.server_options(), interface="127.0.0.2")
    server.port = await endpoint.listen(server)
    url = f"https://127.0.0.2:{server.port.getHost().port}"
    with pytest.raises(ServerUnreachable, match=r"of 127\.0\.0\.2:\d+ is for another host name") as caught:
        await client(url, ca_file=ca_file, token="a-token", retries=4).ready()
    assert "openssl s_client" in caught.value.hint
    assert all(not connection.got for connection in server.connections)


async def test_a_server_without_tls(serve: Serve, client: MakeClient) -> None:
    """Is told from one that cannot be trusted."""
    server = await serve(answer(200))
    server.greeting = b"220 mail.example ESMTP\r\n"
    with pytest.raises(ServerUnreachable, match="does not speak TLS") as caught:
        await client(server.url.replace("http", "https"), retries=4).ready()
    assert "http://" in caught.value.hint


@pytest.mark.parametrize(
    ("hours", "words"), [(-0.5, r"of 127\.0\.0\.1:\d+ expired on 20\d\d-\d\d-\d\d:"), (None, "is not valid before 20")]
)
async def test_a_certificate_that_is_out_of_date(
    serve: Serve, tmp_path: Path, client: MakeClient, hours: float | None, words: str
) -> None:
    """Is reported with its date, and not as one of an unknown authority."""
    authority = Authority()
    pair = authority.issue("store", hours=hours) if hours is not None else authority.issue("store", since=1, hours=2)
    server = await serve(answer(200), tls=PrivateCertificate.loadPEM(b"".join(pair)).options())
    ca_file = written(tmp_path, "ca.pem", authority.pem)
    with pytest.raises(ServerUnreachable, match=words) as caught:
        await client(server.url, ca_file=ca_file, retries=4).ready()
    assert "operator" in caught.value.hint
    assert "--ca-file" not in caught.value.hint
    assert all(not connection.got for connection in server.connections)


async def test_a_port_that_closes_is_not_taken_for_one_with_tls(client: MakeClient) -> None:
    """A server that restarts is tried again, and looked at once."""
    came: list[bytes] = []

    class Closes(Protocol):
        def dataReceived(self, data: bytes) -> None:
            came.append(data)
            assert self.transport is not None
            self.transport.loseConnection()

    factory = Factory.forProtocol(Closes)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        with pytest.raises(ServerUnreachable, match=r"closed the connection before it answered \(3 tries"):
            await client(f"http://127.0.0.1:{port.getHost().port}", retries=2).ready()
    finally:
        await maybeDeferred(port.stopListening)
    assert [data[:4] == b"GET " for data in came] == [True, False, True, True]


async def test_a_signing_host_without_tls(daemon: Daemon, client: MakeClient) -> None:
    """Says nothing of its own in TLS, and is told at once, before the time for headers is over."""
    retried: list[str] = []
    one = client(daemon.url.replace("http://", "https://"), retries=4, on_retry=retried.append)
    with pytest.raises(ServerUnreachable, match="does not speak TLS") as caught:
        await one.ready()
    assert "http://" in caught.value.hint
    assert retried == []


async def test_files_that_cannot_be_used_are_named(tmp_path: Path, client: MakeClient) -> None:
    """When the client is made, and nothing of a key is told."""
    certificate, key = Authority().issue("builder")
    _, other = Authority().issue("other")
    secret = serialization.load_pem_private_key(key, None)
    encrypted = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"x"),
    )
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for settings, words in (
        ({"ca_file": b""}, r"ca_file: .*ca_file has no certificate"),
        ({"ca_file": damaged}, r"ca_file: .* damaged"),
        ({"ca_file": None}, r"ca_file: .* cannot be read: No such file"),
        ({"client_certificate": certificate}, r"client_certificate: .* has no private key"),
        ({"client_certificate": key}, r"client_certificate: .* has no certificate"),
        ({"client_certificate": damaged + key}, r"client_certificate: .* cannot be used"),
        (
            {"client_certificate": certificate, "client_key": other},
            r"client_key: .* does not belong to the certificate",
        ),
        ({"client_certificate": certificate, "client_key": encrypted}, r"client_key: .* has a pass phrase"),
        ({"client_certificate": certificate, "client_key": None}, r"client_key: .* cannot be read"),
    ):
        paths = {name: tmp_path / name for name in settings}
        for name, data in settings.items():
            paths[name].unlink(missing_ok=True)
            if data is not None:
                paths[name].write_bytes(data)
        with pytest.raises(ClientSettingsError, match=words) as caught:
            client("https://127.0.0.1:1", **paths)
        assert "PRIVATE" not in str(caught.value)
