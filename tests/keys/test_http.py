"""Keys from a web server: real servers of Twisted's on loopback, over TCP and TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.web.server import NOT_DONE_YET

from digsigd.errors import KeyStoreFailed, KeyStoreTimeout, NoKeys
from digsigd.keys import key_source
from digsigd.settings import HttpStoreSettings, KeysSettings, S3StoreSettings, SettingsError
from digsigd.testing import TrialPki
from tests.helpers.certificates import Authority
from tests.helpers.key_servers import MACHINE, PATH, KeyServers, Server, at_once, pause, reactor
from tests.helpers.ports import refusing_port

TOKEN = "the-token-of-this-host"


async def test_addresses_that_are_no_names_of_idna(
    key_servers: KeyServers, pki: TrialPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv6 in brackets is one; a name with an underscore is told, for Twisted takes none."""
    server = await key_servers.server()
    port = reactor.listenTCP(0, server.port.factory, interface="::1")
    try:
        monkeypatch.setattr(Server, "root", f"http://[::1]:{port.getHost().port}")
        keys = await key_servers.store(server).get(MACHINE)
        assert keys.tarball.members == pki.files
        assert server.header("host") == f"[::1]:{port.getHost().port}"
    finally:
        await maybeDeferred(port.stopListening)
    monkeypatch.setattr(Server, "root", "http://key_store.invalid")
    with pytest.raises(KeyStoreFailed) as caught:
        await key_servers.store(server, tries=1).get(MACHINE)
    assert "invalid hostname: key_store.invalid" in caught.value.detail


async def test_keys_are_fetched_and_revalidated(key_servers: KeyServers, pki: TrialPki) -> None:
    """By the ETag, from the path of the existing servers, uncompressed, and with nothing that tells who asks."""
    server = await key_servers.server()
    store = key_servers.store(server)
    keys = await store.get(MACHINE)
    assert keys.tarball.members == pki.files
    assert keys.origin == server.root + "/store"
    assert server.seen[0].uri == PATH.encode()
    assert server.header("authorization") is None
    assert server.header("cookie") is None
    assert server.seen[0].requestHeaders.getRawHeaders("accept-encoding") == ["identity"]
    again = await store.get(MACHINE)
    assert again.how == "revalidated"
    assert server.header("if-none-match") == '"one"'
    server.tarball = TrialPki.make("p256", srks=1).tarball()
    server.answer = lambda request: b"" if request.setETag(b'"two"') else server.tarball
    assert (await store.get(MACHINE)).how == "fetched"


@pytest.mark.parametrize("status", [404, 410])
async def test_a_machine_without_keys_is_told(key_servers: KeyServers, status: int) -> None:
    """Without the address of the store in what clients read."""
    server = await key_servers.server()
    server.answer = lambda request: request.setResponseCode(status) or b"<html>nothing</html>"
    with pytest.raises(NoKeys, match="imx8mm") as caught:
        await key_servers.store(server).get(MACHINE)
    assert "127.0.0.1" not in caught.value.for_client()
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [401, 403, 400, 204, 206, 418])
async def test_what_will_not_succeed_is_not_tried_again(key_servers: KeyServers, status: int) -> None:
    """Credentials that are wrong, and answers that make no sense."""
    server = await key_servers.server()
    server.answer = lambda request: request.setResponseCode(status) or b""
    with pytest.raises(KeyStoreFailed) as caught:
        await key_servers.store(server).get(MACHINE)
    assert str(status) in caught.value.detail
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(key_servers: KeyServers, pki: TrialPki, status: int) -> None:
    """So often, and then it succeeds; or it is told."""
    server = await key_servers.server()

    def failing(request: Any) -> bytes:
        if len(server.seen) < 3:
            request.setResponseCode(status)
            return b""
        return server.plain(request)

    server.answer = failing
    assert (await key_servers.store(server).get(MACHINE)).tarball.members == pki.files
    server.seen.clear()
    with pytest.raises(KeyStoreFailed, match=f"status {status}"):
        await key_servers.store(server, tries=2).get(MACHINE)
    assert len(server.seen) == 2


async def test_a_body_that_breaks_off_is_fetched_again(key_servers: KeyServers, pki: TrialPki) -> None:
    """The connection closes in the middle of it."""
    server = await key_servers.server()

    def breaking(request: Any) -> Any:
        if len(server.seen) > 1:
            return server.plain(request)
        request.setHeader("content-length", str(len(server.tarball)))
        request.write(server.tarball[:100])
        reactor.callLater(0.05, request.channel.transport.abortConnection)
        return NOT_DONE_YET

    server.answer = breaking
    assert (await key_servers.store(server).get(MACHINE)).tarball.members == pki.files
    assert len(server.seen) == 2


async def test_a_connection_that_is_refused_is_told(key_servers: KeyServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many tries as allowed."""
    server = await key_servers.server()
    with refusing_port() as port:
        monkeypatch.setattr(Server, "root", f"http://127.0.0.1:{port}")
        store = key_servers.store(server, tries=2)
        with pytest.raises(KeyStoreFailed, match="refused") as caught:
            await store.get(MACHINE)
        assert "127.0.0.1" not in caught.value.for_client()
        with pytest.raises(KeyStoreFailed):
            await store.check()


async def test_a_server_that_does_not_answer_is_given_up(key_servers: KeyServers) -> None:
    """Whether it is silent before the headers, within the body, or sends a byte now and then."""
    server = await key_servers.server()

    def silent(_: Any) -> Any:
        return NOT_DONE_YET

    def stalling(request: Any) -> Any:
        request.setHeader("content-length", "1000")
        request.write(b"x" * 10)
        return NOT_DONE_YET

    def dripping(request: Any) -> Any:
        request.setHeader("content-length", "1000")

        def drip() -> None:
            if getattr(request, "channel", None) is not None:
                request.write(b"x")
                reactor.callLater(0.05, drip)

        drip()
        return NOT_DONE_YET

    for answer in (silent, stalling):
        server.answer = answer
        with pytest.raises(KeyStoreTimeout, match="no data for 60 s"):
            await key_servers.wait_in_vain(server, tries=1)
    server.answer = dripping
    with pytest.raises(KeyStoreTimeout, match="in all"):
        await key_servers.store(server, timeout=0.5).get(MACHINE)
    server.answer = silent
    with pytest.raises(KeyStoreTimeout, match="in all"):
        await key_servers.wait_in_vain(server, timeout=0.3)
    seen = len(server.seen)
    await pause()
    assert len(server.seen) == seen


async def test_what_is_too_large_is_not_read(key_servers: KeyServers) -> None:
    """Whether the server says so before, or not."""
    server = await key_servers.server()

    def declared(request: Any) -> Any:
        request.setHeader("content-length", "2000000")
        request.write(b"x")
        return NOT_DONE_YET

    def undeclared(request: Any) -> Any:
        for _ in range(40):
            request.write(bytes(1 << 16))
        return NOT_DONE_YET

    for answer in (declared, undeclared):
        server.answer = answer
        with pytest.raises(KeyStoreFailed, match="more than"):
            await key_servers.store(server, max_tarball=1 << 20).get(MACHINE)


async def test_credentials_go_to_the_store_alone(key_servers: KeyServers, pki: TrialPki) -> None:
    """A redirect within the store carries them on; one elsewhere does not, and not even back again."""
    server, other = await key_servers.server(), await key_servers.server()
    token = key_servers.file("token", TOKEN + "\n")
    store = key_servers.store(server, http=HttpStoreSettings(token_file=token))
    assert (await store.get(MACHINE)).tarball.members == pki.files
    assert server.header("authorization") == f"Bearer {TOKEN}"

    def to(place: str) -> Callable[[Any], bytes]:
        def answer(request: Any) -> bytes:
            request.setResponseCode(302)
            request.setHeader("location", place)
            return b""

        return answer

    server.answer = lambda request: to("/moved")(request) if b"store" in request.uri else server.plain(request)
    fresh = key_servers.store(server, http=HttpStoreSettings(token_file=token))
    assert (await fresh.get(MACHINE)).tarball.members == pki.files
    assert server.seen[-1].uri == b"/moved"
    assert server.header("authorization") == f"Bearer {TOKEN}"

    server.answer = to(other.root + "/elsewhere")
    assert (
        await key_servers.store(server, http=HttpStoreSettings(token_file=token)).get(MACHINE)
    ).tarball.members == pki.files
    assert other.header("authorization") is None

    server.answer = lambda r: to(other.root + "/x")(r) if b"store" in r.uri else server.plain(r)
    other.answer = to(server.root + "/back")
    assert (
        await key_servers.store(server, http=HttpStoreSettings(token_file=token)).get(MACHINE)
    ).tarball.members == pki.files
    assert server.seen[-1].uri == b"/back"
    assert server.header("authorization") is None

    for place in ("file:///etc/passwd", "ftp://127.0.0.1/"):
        server.answer = to(place)
        with pytest.raises(KeyStoreFailed, match="must not come from"):
            await key_servers.store(server).get(MACHINE)
    server.answer = to("/store/again")
    with pytest.raises(KeyStoreFailed, match="redirects more than 3 times"):
        await key_servers.store(server).get(MACHINE)


async def test_a_user_and_a_password_from_a_file(key_servers: KeyServers) -> None:
    """RFC 7617's own example."""
    server = await key_servers.server()
    password = key_servers.file("password", "open sesame\n")
    await key_servers.store(server, http=HttpStoreSettings(user="Aladdin", password_file=password)).get(MACHINE)
    assert server.header("authorization") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


async def test_tls_with_our_own_authority_and_certificate(key_servers: KeyServers, pki: TrialPki) -> None:
    """The server is known by the authority in ca_file, and knows us by our certificate; without either nothing goes."""
    authority = Authority()
    certificate, key = authority.issue("store")
    tls = PrivateCertificate.loadPEM(certificate + key).options(Certificate.loadPEM(authority.pem))
    server = await key_servers.server(tls)
    ca_file = key_servers.file("ca.pem", b"# a comment\n" + authority.pem + Authority().pem)
    ours, our_key = authority.issue("this signing host")
    files: dict[str, Any] = {
        "certificate_file": key_servers.file("ours.pem", ours),
        "key_file": key_servers.file("ours.key", our_key),
    }
    keys = await key_servers.store(server, http=HttpStoreSettings(ca_file=ca_file, **files)).get(MACHINE)
    assert keys.tarball.members == pki.files
    assert server.seen[0].peer_name == "this signing host"
    together = key_servers.file("both.pem", ours + our_key)
    await key_servers.store(server, http=HttpStoreSettings(ca_file=ca_file, certificate_file=together)).get(MACHINE)
    stranger, stranger_key = Authority().issue("stranger")
    wrong: dict[str, Any] = {
        "certificate_file": key_servers.file("w.pem", stranger),
        "key_file": key_servers.file("w.key", stranger_key),
    }
    seen = len(server.seen)
    for http in (
        HttpStoreSettings(ca_file=ca_file),
        HttpStoreSettings(**files),
        HttpStoreSettings(ca_file=ca_file, **wrong),
        HttpStoreSettings(ca_file=key_servers.file("other.pem", Authority().pem), **files),
    ):
        with pytest.raises(KeyStoreFailed):
            await key_servers.store(server, http=http, tries=1).get(MACHINE)
    assert len(server.seen) == seen


async def test_our_certificate_and_tls_itself_stay_with_the_store(key_servers: KeyServers, pki: TrialPki) -> None:
    """A redirect elsewhere goes without the certificate, and none leads out of TLS."""
    authority = Authority()
    certificate, key = authority.issue("store")
    asking = PrivateCertificate.loadPEM(certificate + key)
    server = await key_servers.server(asking.options(Certificate.loadPEM(authority.pem)))
    plain_tls = await key_servers.server(asking.options())
    unsafe = await key_servers.server()
    ours, our_key = authority.issue("this signing host")
    http = HttpStoreSettings(
        ca_file=key_servers.file("ca.pem", authority.pem), certificate_file=key_servers.file("o.pem", ours + our_key)
    )

    def to(place: str) -> Callable[[Any], bytes]:
        return lambda request: request.setResponseCode(307) or request.setHeader("location", place) or b""

    server.answer = to(plain_tls.root + "/x")
    assert (await key_servers.store(server, http=http).get(MACHINE)).tarball.members == pki.files
    assert plain_tls.seen[0].peer_name is None
    server.answer = to(unsafe.root + "/x")
    with pytest.raises(KeyStoreFailed, match="must not come from"):
        await key_servers.store(server, http=http).get(MACHINE)
    assert unsafe.seen == []


async def test_the_store_is_checked_without_a_machine(key_servers: KeyServers) -> None:
    """It is there if it has no file where none can be; it is not if it does not know us, or has a page for anything."""
    server = await key_servers.server()
    for status in (403, 404, 405):
        server.answer = lambda request, status=status: request.setResponseCode(status) or b""  # type: ignore[misc]
        await key_servers.store(server).check()
    for status in (200, 204, 401, 503):
        server.answer = lambda request, status=status: request.setResponseCode(status) or b""  # type: ignore[misc]
        with pytest.raises(KeyStoreFailed):
            await key_servers.store(server, tries=1).check()


async def test_whoever_stops_waiting_stops_the_fetch(key_servers: KeyServers) -> None:
    """A cancelled request ends its connection, and is not tried again."""
    server = await key_servers.server()
    gone: list[object] = []

    def silent(request: Any) -> Any:
        request.notifyFinish().addErrback(gone.append)
        return NOT_DONE_YET

    server.answer = silent
    getting = Deferred.fromCoroutine(key_servers.store(server).get(MACHINE))
    while not server.seen:
        await pause()
    getting.addErrback(lambda _: None)
    getting.cancel()
    await getting
    while not gone:
        await pause()
    await pause()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("/srv/keys", "unknown scheme"),
        ("ftp://host/keys", "unknown scheme"),
        ("https://user:secret@host/keys", "must not hold credentials"),
        ("https:///keys", "has no host"),
        ("https://host/keys?x=1", "query"),
        ("https://host:port/keys", "invalid host or port"),
        ("https://user:secret/x@host/keys", "invalid host or port"),
        ("https://host/keys?token=secret", "query"),
        ("file://host/keys", "does not name a folder"),
        ("file:keys", "does not name a folder"),
        ("s3:///keys", "does not name a valid bucket"),
    ],
)
def test_addresses_that_cannot_be_are_told(uri: str | None, words: str) -> None:
    """With the key, the variable, and what was expected; never with a password."""
    with pytest.raises(SettingsError, match=words) as caught:
        key_source(KeysSettings(uri=uri), reactor=reactor, in_thread=at_once)
    assert "DIGSIGSERVER_KEYFILE_URI" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host", "https://u:secret@host", "https://host?secret", "https://ho st", "host"])
def test_an_address_of_s3_that_cannot_be_is_told(url: str) -> None:
    """Likewise."""
    with pytest.raises(SettingsError, match=r"keys\.s3\.endpoint_url") as caught:
        key_source(
            KeysSettings(uri="s3://bucket", s3=S3StoreSettings(endpoint_url=url)), reactor=reactor, in_thread=at_once
        )
    assert "secret" not in str(caught.value)


def test_files_that_cannot_be_are_told(tmp_path: Path) -> None:
    """With the key and the path, never with what is in them."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text("hush one\nhush two\n")
    (tmp_path / "junk").write_text("hush junk")
    missing = tmp_path / "missing"
    for http, key in (
        (HttpStoreSettings(token_file=missing), "keys.http.token_file"),
        (HttpStoreSettings(token_file=tmp_path / "empty"), "keys.http.token_file"),
        (HttpStoreSettings(user="u", password_file=tmp_path / "two"), "keys.http.password_file"),
        (HttpStoreSettings(ca_file=tmp_path / "junk"), "keys.http.ca_file"),
        (HttpStoreSettings(ca_file=missing), "keys.http.ca_file"),
        (HttpStoreSettings(certificate_file=tmp_path / "junk"), "keys.http.certificate_file"),
        (HttpStoreSettings(certificate_file=tmp_path / "junk", key_file=missing), "keys.http.key_file"),
    ):
        with pytest.raises(SettingsError, match=key) as caught:
            key_source(KeysSettings(uri="https://host/", http=http), reactor=reactor, in_thread=at_once)
        assert "hush" not in str(caught.value)
