"""Clients of every kind, and the bounds of what they send."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as installed
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, HTTPConnectionPool

from digsigd import __version__, hab
from digsigd.testing import TrialImage, TrialPki
from tests.daemon.test_life import body_of, connected
from tests.daemon.test_statuses import answer_from
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, RIGHTS, TOKEN, Daemon, Start

reactor: Any = installed


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("uploads"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


@pytest.fixture
def files(tmp_path: Path, pki: TrialPki) -> Path:
    (tmp_path / "spl.bin").write_bytes(IMAGE.data)
    (tmp_path / "spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")))
    return tmp_path


def curl(files: Path, url: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """As builds call it, with what is given beside."""
    return subprocess.run(
        [
            "curl", "--noproxy", "*", "--retry", "4", "--silent", "--fail", "--max-time", "1800",
            "-F", f"machine={MACHINE}", "-F", "soctype=mx8m", "-F", "cstversion=3.4.1",
            "-F", "csf=@spl.csf;type=text/plain", "-F", "artifact=@spl.bin",
            "-o", "csf.bin", "-D", "headers", *options, f"{url}/sign/imx",
        ],
        cwd=files, capture_output=True, check=False, timeout=DEADLINE,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-H", "Transfer-Encoding: chunked"),
        ("-H", "Expect: 100-continue"),
        ("--http1.0",),
        ("-F", "backend=ssl"),
        ("-H", "Content-Type: multipart/form-data; charset=utf-8"),
    ],
    ids=" ".join,
)
def test_curl_as_builds_call_it(daemon: Daemon, files: Path, options: tuple[str, ...]) -> None:
    """With the flags that they use, and with other ways to send a body."""
    done = curl(files, daemon.url, *options)
    assert done.returncode == 0, done.stderr
    blob = (files / "csf.bin").read_bytes()
    assert blob[0] == 0xD4  # the tag of a CSF: HABv4 API reference
    headers = (files / "headers").read_text()
    assert 'filename="artifact.signed"' in headers
    assert "application/octet-stream" in headers


def test_curl_fails_where_it_should(daemon: Daemon, files: Path) -> None:
    """With 22 for a refusal, which it does not try again, and nothing in the place of the blob."""
    (files / "spl.csf").write_text("[Header")
    seen = daemon.log().count("answered 400")
    assert curl(files, daemon.url).returncode == 22
    assert not (files / "csf.bin").exists()
    assert daemon.log().count("answered 400") == seen + 1


def test_curl_sees_that_its_artifact_is_too_large(start: Start, files: Path) -> None:
    """Whether it waits to be told to go on, or sends at once, or in chunks."""
    small = start("[upload]\nmax_artifact = 1000\n")
    (files / "spl.bin").write_bytes(bytes(40 << 20))
    for options in ((), ("-H", "Expect:"), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")):
        done = curl(files, small.url, *options, "-w", "%{http_code} ")
        assert (done.returncode, done.stdout) == (22, b"413 "), done.stderr
    small.wait_for_log("answered 413", 4)
    assert small.log().count("answered 413") == 4


def test_httpx_with_a_body_in_chunks(daemon: Daemon, pki: TrialPki) -> None:
    """A generator has no length."""
    head, _, body = body_of(pki, "4.0.1").partition(b"\r\n\r\n")
    kind = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-type")).split(": ")[1]
    pieces = [body[start : start + 777] for start in range(0, len(body), 777)]
    answer = httpx.post(
        f"{daemon.url}/sign/imx", content=iter(pieces), headers={"Content-Type": kind}, timeout=DEADLINE
    )
    assert answer.status_code == 200, answer.text


@pytest_twisted.async_yield_fixture
async def agent() -> AsyncIterator[Agent]:
    pool = HTTPConnectionPool(reactor)
    yield Agent(reactor, pool=pool)
    await pool.closeCachedConnections()


async def test_treq(daemon: Daemon, files: Path, agent: Agent) -> None:
    """Twisted's own client, twice on one connection."""
    for _ in range(2):
        with (files / "spl.bin").open("rb") as artifact, (files / "spl.csf").open("rb") as csf:
            answer = await treq.client.HTTPClient(agent).post(
                f"{daemon.url}/sign/imx",
                data={"machine": MACHINE, "cstversion": "3.4.1"},
                files={"csf": ("spl.csf", "text/plain", csf), "artifact": ("spl.bin", artifact)},  # type: ignore[arg-type]
            )
            blob = await answer.content()
        assert answer.code == 200, blob
        assert blob[0] == 0xD4


def test_a_body_may_come_in_any_pieces(daemon: Daemon, pki: TrialPki) -> None:
    """Byte by byte around each boundary, the last line end apart from all that was before it."""
    whole = body_of(pki, "3.4.1")
    with connected(daemon) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        artifact = whole.index(IMAGE.data[:64])
        for start in range(artifact):
            connection.sendall(whole[start : start + 1])
        connection.sendall(whole[artifact:-80])
        for byte in whole[-80:]:
            connection.sendall(bytes([byte]))
        status = connection.recv(65536).split(b"\r\n")[0]
    assert status == b"HTTP/1.1 200 OK"


def test_requests_follow_one_another_on_a_connection(daemon: Daemon, pki: TrialPki) -> None:
    """Good ones and short bad ones: the connection stays, and so it does for requests sent ahead."""
    good, bad = body_of(pki, "3.4.1"), body_of(pki, "1.0")
    with connected(daemon) as connection:
        connection.sendall(
            good + bad + good.replace(b"POST /sign/imx HTTP/1.1", b"POST /sign/imx HTTP/1.1\r\nConnection: close")
        )
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    assert re.findall(rb"HTTP/1.1 (\d+)", data) == [b"200", b"422", b"200"]


CHUNKED = (
    b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"POST /sign/imx HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 2000 + b"\r\n",
    ],
)
def test_what_is_no_http_is_sent_away(daemon: Daemon, pki: TrialPki, head: bytes) -> None:
    """With 400 or nothing, and nothing in the log that a stranger wrote; the daemon serves on."""
    with connected(daemon) as connection:
        connection.sendall(head)
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            data = b""
    assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in daemon.log()
    assert daemon.post(pki).status_code == 200


HEADERS = {
    "a request id": b"X-Request-Id: \xff\xfe",
    "what is accepted": b"Accept: \xff",
    "credentials": b"Authorization: Bearer \xff",
    "other credentials": b"Authorization: Basic \xff",
    "a kind": b"Content-Type: multipart/form-data; boundary=\xff",
    "an empty label": b"Host: a..b",
    "a long label": b"Host: " + b"a" * 64,
    "a host that is no text": b"Host: \xff",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_may_hold_any_bytes(start: Start, pki: TrialPki, name: str) -> None:
    """Each gets an answer in words, with an id, and none is a fault of the daemon."""
    config = '[callers.ci]\ntoken_file = "token"\n' if "credentials" in name else ""
    daemon = start(config)
    body = body_of(pki, "3.4.1").partition(b"\r\n\r\n")
    field = HEADERS[name].partition(b":")[0]
    head = re.sub(rb"(?im)^" + field + rb":.*\r\n", b"", body[0] + b"\r\n") + HEADERS[name] + b"\r\n"
    with connected(daemon) as connection:
        connection.sendall(head + b"\r\n" + body[2])
        answer = answer_from(connection)
    expected = 401 if config else 400 if name == "a kind" else 403 if field == b"Host" else 200
    assert answer.status_code == expected
    assert len(answer.headers["X-Request-Id"]) == 16
    with connected(daemon) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\n" + HEADERS[name] + b"\r\n\r\n")
        assert answer_from(connection).status_code == 200


@pytest.mark.parametrize("line", [b"GET /%ff", b"GET /\x80", b"POST /%ff", b"POST /sign%2Fimx", b"GET /sign/imx/%c0"])
def test_paths_that_are_no_text_are_not_there(daemon: Daemon, line: bytes) -> None:
    """404 as for any other, and nothing in the log."""
    before = len(daemon.log())
    with connected(daemon) as connection:
        connection.sendall(line + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        answer = answer_from(connection)
    assert (answer.status_code, "X-Request-Id" in answer.headers) == (404, True)
    assert "Traceback" not in daemon.log()[before:]


def test_no_host_is_needed_on_a_local_socket(start: Start, tmp_path: Path) -> None:
    """HTTP/1.0 has none."""
    daemon = start()
    daemon.stop()
    path = tmp_path / "socket"
    daemon.config.write_text(re.sub(r"endpoint = .*", f'endpoint = "unix:{path}"', daemon.config.read_text()))
    with daemon.logfile.open("ab") as log:
        process = subprocess.Popen(daemon.command(), stdout=log, stderr=log, env=daemon.environ, cwd=daemon.folder)
    try:
        # Not only the file: it is there before anybody listens.
        daemon.wait_for_log("listening on", 2)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.0 200 ")
    finally:
        process.terminate()
        process.wait(DEADLINE)


def test_whoever_is_refused_takes_nobodys_room(start: Start, pki: TrialPki) -> None:
    """However slowly the rest of the body comes."""
    daemon = start(f'[upload]\nmax_at_once = 2\n[callers.ci]\ntoken_file = "token"\n{RIGHTS}')
    strangers = [connected(daemon) for _ in range(4)]
    for stranger in strangers:
        stranger.sendall(b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    answer = daemon.post(pki, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    for stranger in strangers:
        stranger.sendall(b"0123456789")
        assert answer_from(stranger).status_code == 401
        stranger.close()


def test_a_machine_that_is_no_name_is_not_given_back(start: Start, pki: TrialPki) -> None:
    """Neither in the answer nor in the log, also to a caller who may use some machines only."""
    daemon = start('[callers.ci]\ntoken_file = "token"\nmachines = ["imx8mm-*"]\n')
    answer = daemon.post(pki, machine="\U000e0001" * 10_000, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, len(answer.content) < 500) == (400, True)
    assert len(daemon.log()) < 5000


def test_of_a_repeated_field_the_first_counts(daemon: Daemon, pki: TrialPki) -> None:
    """Also of files."""
    answer = httpx.post(
        f"{daemon.url}/sign/imx",
        files=[
            ("machine", (None, MACHINE)),
            ("machine", (None, "unheard-of")),
            ("cstversion", (None, "3.4.1")),
            ("csf", ("a.csf", pki.csf(IMAGE.blocks("spl.bin")), "text/plain")),
            ("csf", ("b.csf", "[Nonsense", "image/png")),
            ("artifact", ("spl.bin", IMAGE.data)),
            ("artifact", ("other.bin", b"other" * 50_000)),
            ("csf", ("c.csf", b"#" * 500_000, "text/plain")),
        ],
        timeout=DEADLINE,
    )
    assert answer.status_code == 200, answer.text


def test_an_upload_beyond_its_time_is_ended(start: Start, pki: TrialPki) -> None:
    """However steadily it drips; the client is told with 408."""
    daemon = start("[upload]\ntimeout = 1\nidle_timeout = 30\n")
    with connected(daemon) as connection:
        connection.sendall(
            b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 500000\r\n\r\n"
        )
        connection.settimeout(0.05)
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                data += connection.recv(65536)
            except TimeoutError:
                connection.sendall(b"-")
    assert data.startswith(b"HTTP/1.1 408 ")
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")


def test_others_are_not_kept_from_signing_by_many_uploads(start: Start, pki: TrialPki) -> None:
    """Beyond as many as may be there at once, a request is sent away before its body is read."""
    daemon = start("[upload]\nmax_at_once = 3\n")
    head = body_of(pki, "3.4.1").partition(b"--")[0]
    held = [connected(daemon) for _ in range(3)]
    for connection in held:
        connection.sendall(head)
    with connected(daemon) as connection:
        connection.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        answer = answer_from(connection)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    for connection in held:
        connection.close()
    daemon.wait_for(lambda: daemon.post(pki).status_code == 200, what="room")


def test_a_large_artifact_takes_no_memory(start: Start, pki: TrialPki) -> None:
    """256 MiB, streamed to disk and signed: the daemon's memory grows by a few MiB at most."""
    daemon = start()
    image = TrialImage.of_size(256 << 20)
    assert daemon.post(pki).status_code == 200
    before = peak_of(daemon.pid)
    path = daemon.folder / "spl.bin"
    path.write_bytes(image.data)
    (daemon.folder / "spl.csf").write_text(pki.csf(image.blocks("spl.bin")))
    del image
    done = curl(daemon.folder, daemon.url)
    assert done.returncode == 0, daemon.log()
    assert peak_of(daemon.pid) - before < 16 << 20
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")


def peak_of(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def test_health_and_readiness(daemon: Daemon) -> None:
    """Alive and ready, for people, load balancers and machines."""
    for path in ("/healthz", "/readyz"):
        answer = httpx.get(daemon.url + path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert httpx.head(daemon.url + path).status_code == 200
        as_json = httpx.get(daemon.url + path, headers={"Accept": "application/json"})
        version = {"version": __version__} if path == "/healthz" else {}
        assert json.loads(as_json.text) == {"ok": True, "missing": [], **version}
    assert f" (digsigd {__version__})\n" in daemon.log()


def test_readiness_tells_what_is_missing(start: Start, tmp_path: Path) -> None:
    """A store and a cst that are not there; the daemon is alive all the same."""
    daemon = start(
        DIGSIGSERVER_KEYFILE_URI=(tmp_path / "nothing").as_uri(), DIGSIGSERVER_IMX_CST_BASE=str(tmp_path / "nothing")
    )
    assert httpx.get(f"{daemon.url}/healthz").status_code == 200
    answer = httpx.get(f"{daemon.url}/readyz")
    assert answer.status_code == 503
    assert "no cst" in answer.text
    assert "key store" in answer.text
    assert str(tmp_path) not in answer.text
    assert daemon.log().count("not ready") == 2
    assert str(tmp_path) in daemon.log()


async def test_a_slow_reader_holds_nobody_up(daemon: Daemon, pki: TrialPki) -> None:
    """Somebody who does not read the answer keeps nothing of the request on this host."""
    with connected(daemon) as connection:
        connection.sendall(body_of(pki, "3.4.1") * 3)
        await deferToThread(daemon.wait_for, lambda: daemon.left_behind() == [])
        answer = await deferToThread(daemon.post, pki)
    assert answer.status_code == 200


def test_a_digest_that_cannot_be_computed_ends_the_request(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """With 500: nobody waits for it, more artifacts than may wait to be hashed are taken, and the daemon can stop."""
    (tmp_path / "sitecustomize.py").write_text(
        "from digsigd.signing.hashing import HashedStream\n"
        "def fails(self, view): raise MemoryError\n"
        "HashedStream._hash = fails\n"
    )
    daemon = start()
    daemon.stop()
    daemon.environ["PYTHONPATH"] = str(tmp_path)
    daemon.start()
    image = TrialImage.of_size(6 << 20)
    for _ in range(4):
        answer = daemon.post(pki, image=image)
        assert (answer.status_code, "digest of an artifact" in answer.text) == (500, True)
    assert daemon.post(pki).status_code == 200
    daemon.stop()
    assert "MemoryError" in daemon.log()


@pytest.mark.parametrize("first", ["csf", "artifact"])
@pytest.mark.parametrize("changed", [False, True])
def test_blocks_with_gaps_are_those_that_were_sent(
    start: Start, pki: TrialPki, cst_base: Path, tmp_path: Path, first: str, changed: bool
) -> None:
    """Whether the description comes before a large artifact or after it; a cst that signs others is not believed."""
    tool = tmp_path / "changing"
    change = "printf XXXX | dd of=../artifact bs=1 seek=1100000 conv=notrunc 2>/dev/null\n" if changed else ""
    tool.write_text(f'#!/bin/sh\n{change}exec "{cst_base}/cst-3.4.1/linux64/bin/cst" "$@"\n')
    tool.chmod(0o755)
    daemon = start(f'[cst.versions]\nchanging = "{tool}"\n')
    image = TrialImage.of_size(2 << 20)
    blocks = [(0, 0x80000), (0x90000, image.signed_size - 0x90000)]
    text = ", ".join(f'{image.address + offset:#x} {offset:#x} {length:#x} "spl.bin"' for offset, length in blocks)
    files: dict[str, tuple[str, bytes, str]] = {
        "csf": ("spl.csf", pki.csf(text).encode(), "text/plain"),
        "artifact": ("spl.bin", bytes(image.data), "application/octet-stream"),
    }
    answer = httpx.post(
        f"{daemon.url}/sign/imx",
        data={"machine": MACHINE, "cstversion": "changing"},
        files=[(first, files.pop(first)), *files.items()],
        timeout=60,
    )
    if changed:
        assert answer.status_code == 500, answer.text
        return
    assert answer.status_code == 200, answer.text
    signed = [hab.Block(image.address + offset, offset, length) for offset, length in blocks]
    hab.verify(
        answer.content,
        srk_table=pki.srk_table,
        expected_blocks=[signed],
        source_index=0,
        digests=[hab.digest_blocks("sha256", signed, [hab.File.of(image.data)])],
        fuse_value=pki.fuse_value,
        now=None,
    )
