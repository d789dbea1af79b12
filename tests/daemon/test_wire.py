"""Connections and bytes that clients must not send, against a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import select
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, Daemon, Start


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("wire"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


def address(daemon: Daemon) -> tuple[str, int]:
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    return host, int(port)


def ask(daemon: Daemon, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the daemon closes the connection."""
    with socket.create_connection(address(daemon), timeout=DEADLINE) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def form_of(pki: TrialPki) -> tuple[bytes, bytes]:
    """The headers and the body of a request that is signed."""
    parts = {"machine": MACHINE.encode(), "cstversion": b"3.4.1"}
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in parts.items()
    )
    for name, file, value in (
        (b"csf", b"a.csf", pki.csf(IMAGE.blocks("spl.bin")).encode()),
        (b"artifact", b"spl.bin", IMAGE.data),
    ):
        head = b'Content-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: text/plain' % (name, file)
        body += b"--b\r\n" + head + b"\r\n\r\n" + value + b"\r\n"
    body += b"--b--\r\n"
    headers = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(body)
    return headers, body


def test_silent_connections_keep_nobody_out(start: Start, pki: TrialPki) -> None:
    """With every connection taken by clients that say nothing, a caller is answered."""
    daemon = start("[listen]\nmax_connections = 256\n")
    with contextlib.ExitStack() as held:
        for _ in range(1024):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address(daemon))
        assert daemon.post(pki).status_code == 200
    assert daemon.post(pki).status_code == 200


def test_a_thousand_requests_at_once_are_all_answered(start: Start, pki: TrialPki) -> None:
    """Each is signed or told when to come again; no connection is reset."""
    daemon = start("[listen]\nmax_connections = 400\n")
    headers, body = form_of(pki)

    async def one() -> str:
        try:
            reader, writer = await asyncio.open_connection(*address(daemon))
            writer.write(b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n" + body)
            answer = await reader.read()
            writer.close()
        except OSError as error:
            return repr(error)
        status = answer[9:12].decode()
        return status if status != "503" or b"\r\nRetry-After: " in answer else "503 without Retry-After"

    async def every() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(1000)))

    told = Counter(asyncio.run(every()))
    assert set(told) == {"200", "503"}, told
    assert told.total() == 1000
    assert told["200"] >= 64


def test_headers_that_trickle_are_bounded_in_time(daemon: Daemon) -> None:
    """A byte now and then does not keep a connection: ten seconds after it was made it is answered and closed."""
    with socket.create_connection(address(daemon), timeout=1) as connection:
        answer = b""
        for letter in b"GET /readyz HTTP/1.1\r\n" + b"X-A: " + b"a" * 100:
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.sendall(bytes([letter]))
                piece = connection.recv(1 << 16)
                answer += piece
                if not piece:
                    break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"took longer than 10 s" in answer


def test_a_pipeline_yields_to_other_requests(daemon: Daemon, pki: TrialPki) -> None:
    """While one client has thousands of requests in a row, others have their turns between them."""
    count = 20_000
    answered = [0]

    def read() -> None:
        while answered[0] < count and (data := greedy.recv(1 << 16)):
            answered[0] += data.count(b"HTTP/1.1 200")

    with socket.create_connection(address(daemon), timeout=DEADLINE) as greedy, ThreadPoolExecutor(2) as threads:
        reading = threads.submit(read)
        sending = threads.submit(greedy.sendall, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" * count)
        daemon.wait_for(lambda: answered[0])
        assert daemon.post(pki).status_code == 200
        # A turn of the reactor answers one of them, and signing takes some dozens of turns.
        asked = answered[0]
        greedy.shutdown(socket.SHUT_RDWR)
        for one in (reading, sending):
            with contextlib.suppress(OSError):
                one.result()
    assert 0 < asked < count / 4


@pytest.mark.parametrize("path", ["/sign/imx", "/readyz"])
def test_a_length_of_five_thousand_digits_is_a_bad_request(daemon: Daemon, path: str) -> None:
    """It is a 400, and no traceback in the log."""
    answer = ask(daemon, b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (path.encode(), b"9" * 5000))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "Unhandled" not in daemon.log()
    assert "ValueError" not in daemon.log()


@pytest.mark.parametrize("scheme", [b"http", b"HTTPS"])
def test_a_target_in_absolute_form_is_the_path_in_it(daemon: Daemon, pki: TrialPki, scheme: bytes) -> None:
    """RFC 9112, 3.2.2: a server accepts it; the authority in it counts as the host."""
    headers, body = form_of(pki)
    where = scheme + b"://a:9999"
    common = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    answer = ask(daemon, b"POST " + where + b"/sign/imx" + common + headers + b"\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert ask(daemon, b"GET " + where + b"/healthz?x" + common + b"\r\n").startswith(b"HTTP/1.1 200 ")
    assert ask(daemon, b"GET " + where + common + b"\r\n").startswith(b"HTTP/1.1 404 ")


def test_a_compressed_body_is_refused_with_the_reason(daemon: Daemon, pki: TrialPki) -> None:
    """415 says which codings are accepted; `identity` is none."""
    answer = daemon.post(pki, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert "'gzip'" in answer.text
    assert answer.headers["Accept-Encoding"] == "identity"
    assert daemon.post(pki, headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("where", ["before", "behind"])
def test_what_is_around_the_parts_is_bounded(daemon: Daemon, pki: TrialPki, where: str) -> None:
    """A chunked body without end, before its first or behind its last part, is answered 413."""
    _, body = form_of(pki)
    head = b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    whole = b"%x\r\n%s\r\n" % (len(body), body)
    with socket.create_connection(address(daemon), timeout=DEADLINE) as connection:
        connection.sendall(head + (whole if where == "behind" else b""))
        for _ in range(100):
            if select.select([connection], [], [], 0.01)[0]:
                break
            connection.sendall(chunk)
        # On a busy machine it may have all of them before it is read.
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b"boundary" in answer


def test_few_descriptors_are_told_at_start_and_keep_nobody_out(start: Start, pki: TrialPki) -> None:
    """With a hard limit of 100 and every connection taken, requests are signed and SIGTERM ends the daemon in order."""
    daemon = start("", DAEMON_PREFIX="prlimit --nofile=100")
    assert "100 file descriptors, fewer than 256," in daemon.log()
    with contextlib.ExitStack() as held:
        for _ in range(60):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address(daemon))
        for _ in range(3):
            assert daemon.post(pki).status_code == 200
    assert "Too many open files" not in daemon.log()


def test_a_client_that_closes_its_sending_side_has_left(daemon: Daemon, pki: TrialPki) -> None:
    """It gets no answer, even if its request was whole, and the next client does."""
    headers, body = form_of(pki)
    before = daemon.log().count("the client disconnected")
    with socket.create_connection(address(daemon), timeout=DEADLINE) as connection:
        connection.sendall(b"POST /sign/imx HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    daemon.wait_for_log("the client disconnected", before + 1)
    assert daemon.post(pki).status_code == 200


@pytest.mark.parametrize("most", [64, 128, 256, 1024])
def test_an_upload_on_every_connection_leaves_descriptors(start: Start, pki: TrialPki, most: int) -> None:
    """Half uploads, whole ones among them and hardly any descriptors: each is signed or told when to come again."""
    daemon = start("", DAEMON_PREFIX=f"prlimit --nofile={most}")
    headers, body = form_of(pki)
    request = b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n" + body
    count = 100 if most < 1024 else 200
    with contextlib.ExitStack() as held:
        clients = [
            held.enter_context(socket.create_connection(address(daemon), timeout=DEADLINE)) for _ in range(count)
        ]
        for index, client in enumerate(clients):
            client.sendall(request[: -200 if index % 4 else None])
        daemon.wait_for(daemon.left_behind, what="uploads that have begun")
        for index, client in enumerate(clients):
            # One that was refused early may be closed.
            with contextlib.suppress(OSError):
                client.sendall(request[-200 if index % 4 else len(request) :])
        answers = [b"".join(iter(lambda one=one: one.recv(1 << 16), b"")) for one in clients]  # type: ignore[misc]
    told = Counter(answer[9:12] for answer in answers)
    assert set(told) <= {b"200", b"503"}, told
    assert told[b"200"] >= 64
    assert all(b"\r\nRetry-After: " in answer for answer in answers if answer[9:12] == b"503")
    assert "Too many open files" not in daemon.log()
    assert daemon.post(pki).status_code == 200


def test_a_request_without_descriptors_is_told_to_come_again(start: Start, pki: TrialPki) -> None:
    """Whichever file cannot be opened: with one descriptor more each time, until it is signed."""
    daemon = start("[keys]\nkeep = 0\n")
    told = []
    with httpx.Client() as client:
        assert daemon.post(pki, client=client).status_code == 200
        for spare in range(40):
            daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
            used = max(int(one.name) for one in Path(f"/proc/{daemon.pid}/fd").iterdir()) + 1
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + spare, limits[1]))
            answer = daemon.post(pki, client=client)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
            told.append(answer.status_code)
            assert answer.status_code in {200, 503}, (spare, answer.text)
            assert answer.status_code == 200 or int(answer.headers["Retry-After"])
            assert daemon.post(pki, client=client).status_code == 200
            if told[-3:] == [200] * 3:
                break
    assert told[0] == 503
    assert told[-1] == 200
