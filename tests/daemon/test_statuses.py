"""The table of statuses, row by row, against a real daemon: its own process, real cst, real HTTP."""

from __future__ import annotations

import http.server
import io
import json
import re
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, TOKEN, Daemon, Start

CONFIG = """
[cst]
timeout = {timeout}
max_running = 2
max_waiting = 0
[cst.versions]
slow = "{folder}/slow"
waiting = "{folder}/waiting"
crashing = "{folder}/crashing"
silent = "{folder}/silent"
refusing = "{folder}/refusing"
wrong = "{folder}/wrong"
[upload]
max_artifact = 1_000_000
idle_timeout = {idle}
"""
TOOLS = {
    "slow": "exec sleep 1000",
    "waiting": 'while [ ! -e "FOLDER/go" ]; do sleep 0.05; done; echo no good; exit 1',
    "crashing": "kill -SEGV $$",
    "silent": "exit 0",
    "refusing": "echo no good; exit 1",
    "wrong": "echo nonsense > csf.bin",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("statuses")
    put_tools(folder)
    # What is answered in time is, on a busy machine as well.
    daemon = Daemon(folder, cst_base, CONFIG.format(folder=folder, timeout=60, idle=60))
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys("with-garbage", b"no tarball at all")
    daemon.put_keys("with-a-link", tarball_with_a_link())
    wrong = dict(pki.files)
    wrong["keys/key_pass.txt"] = b"wrong\nwrong\n"
    daemon.put_keys("with-a-wrong-pass-phrase", TrialPki(wrong, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    other = TrialPki.make(pki.kind, srks=2)

    def put(machine: str, **changes: bytes) -> None:
        """Keys of which some are others: CSF1_crt is the certificate of that key, for example."""
        files = dict(pki.files)
        for name, data in changes.items():
            role, _, what = name.partition("_")
            files[next(one for one in files if role in one and f"_{what}." in one)] = data
        daemon.put_keys(machine, TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table).tarball())

    keys_of = {name: name.replace("crts/", "keys/").replace("_crt", "_key") for name in pki.files}
    put("with-another-key", CSF1_key=pki.files[keys_of[pki.certificate("CSF", 2)]])
    put("with-a-strange-key", CSF1_key=subprocess.check_output(["openssl", "genpkey", "-algorithm", "SM2"]))
    put("with-a-strange-certificate", CSF1_crt=other.files[other.certificate("CSF")])
    put("with-a-broken-certificate", CSF1_crt=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    two = {**pki.files, "old/table.bin": other.srk_table}
    daemon.put_keys("with-two-pkis", TrialPki(two, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    fuses = tarfile.TarInfo("crts/SRK_1_2_fuse.bin")
    fuses.size = len(pki.fuse_value)
    daemon.put_keys("with-a-fuse-file", pki.tarball(extra=[(fuses, pki.fuse_value)]))
    missing = {name: data for name, data in pki.files.items() if name != keys_of[pki.certificate("IMG")]}
    daemon.put_keys("with-a-missing-key", TrialPki(missing, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    offline = {name: data for name, data in pki.files.items() if not name.startswith("keys/SRK")}
    daemon.put_keys("with-srks-offline", TrialPki(offline, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    public = {name: data for name, data in pki.files.items() if not name.startswith("keys/")}
    daemon.put_keys("with-keys-on-a-token", TrialPki(public, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    broken = dict(pki.files)
    broken[pki.table()] = pki.srk_table[:-5]
    daemon.put_keys("with-a-broken-table", TrialPki(broken, pki.kind, pki.fast_auth, pki.srk_table).tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """Limits that a test can wait for."""
    folder = tmp_path_factory.mktemp("hasty")
    put_tools(folder)
    daemon = Daemon(folder, cst_base, CONFIG.format(folder=folder, timeout=5, idle=10))
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


def put_tools(folder: Path) -> None:
    for name, text in TOOLS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.replace('FOLDER', str(folder))}\n")
        (folder / name).chmod(0o755)


def tarball_with_a_link() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        link = tarfile.TarInfo("keys/key_pass.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    return stream.getvalue()


Ask = Callable[[Daemon, TrialPki], httpx.Response]


@dataclass
class Row:
    """What is asked, and what the answer is."""

    ask: Ask
    status: int
    words: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    line: int | None = None
    problem: str = ""


def raw(daemon: Daemon, body: bytes, content_type: str) -> httpx.Response:
    return httpx.post(f"{daemon.url}/sign/imx", content=body, headers={"Content-Type": content_type}, timeout=DEADLINE)


def edited(pki: TrialPki, old: str, new: str) -> str:
    text = pki.csf(IMAGE.blocks("spl.bin"))
    assert old in text
    return text.replace(old, new)


def posted(**changes: object) -> Ask:
    return lambda daemon, pki: daemon.post(pki, **changes)  # type: ignore[arg-type]


def with_csf(old: str, new: str) -> Ask:
    return lambda daemon, pki: daemon.post(pki, csf=edited(pki, old, new))


def path(method: str, where: str) -> Ask:
    return lambda daemon, _: httpx.request(method, daemon.url + where, timeout=DEADLINE)


def with_csf_type(kind: str) -> Ask:
    return lambda daemon, pki: httpx.post(
        f"{daemon.url}/sign/imx",
        data={"machine": MACHINE, "cstversion": "3.4.1"},
        files={"csf": ("a.csf", pki.csf(IMAGE.blocks("spl.bin")), kind), "artifact": ("spl.bin", IMAGE.data)},
        timeout=DEADLINE,
    )


def without_part(part: str) -> Ask:
    def ask(daemon: Daemon, pki: TrialPki) -> httpx.Response:
        files = {"csf": ("a.csf", pki.csf(IMAGE.blocks("spl.bin")), "text/plain"), "artifact": ("spl.bin", IMAGE.data)}
        del files[part]
        data = {"machine": MACHINE, "cstversion": "3.4.1"}
        return httpx.post(f"{daemon.url}/sign/imx", data=data, files=files, timeout=DEADLINE)  # type: ignore[arg-type]

    return ask


def many_parts(daemon: Daemon, pki: TrialPki) -> httpx.Response:
    return daemon.post(pki, **{f"more{number}": "x" for number in range(16)})  # type: ignore[arg-type]


def chunked_too_large(daemon: Daemon, pki: TrialPki) -> httpx.Response:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="artifact"; filename="a"\r\n\r\n'
        for _ in range(32):
            yield bytes(65536)

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    return httpx.post(f"{daemon.url}/sign/imx", content=body(), headers=kind, timeout=DEADLINE)


def declared_too_large(daemon: Daemon, pki: TrialPki) -> httpx.Response:
    """Only headers are sent: the answer comes before any of the body."""
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        connection.sendall(
            b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 500000000\r\nExpect: 100-continue\r\n\r\n"
        )
        return answer_from(connection)


def upload_stands_still(daemon: Daemon, pki: TrialPki) -> httpx.Response:
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        connection.sendall(
            b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 500000\r\n\r\n--b\r\n"
        )
        return answer_from(connection)


def answer_from(connection: socket.socket) -> httpx.Response:
    """One whole answer, to the end of its body or of the connection."""
    data, body, length = b"", b"", 1
    while len(body) < length and (chunk := connection.recv(65536)):
        data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"(?im)^content-length: *(\d+)", head)
        length = int(found[1]) if found else len(data) + 1
    status, *fields = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in fields)
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


TABLE = {
    "signed": Row(
        posted(),
        200,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": 'attachment; filename="artifact.signed"',
        },
    ),
    "signed by 4.0.1": Row(posted(cstversion="4.0.1"), 200),
    "signed without soctype": Row(posted(soctype=None), 200),
    "signed with backend": Row(posted(backend="ssl"), 200),
    "unknown fields are ignored": Row(posted(frobnicate="1"), 200),
    "machine missing": Row(posted(machine=None), 400, ["machine is missing", "-F machine="]),
    "cstversion missing": Row(posted(cstversion=None), 400, ["cstversion is missing"]),
    "csf missing": Row(without_part("csf"), 400, ["csf is missing"]),
    "artifact missing": Row(without_part("artifact"), 400, ["artifact is missing"]),
    "machine with a path": Row(posted(machine="../etc"), 400, ["machine must be 1-64 of"]),
    "cstversion with a path": Row(posted(cstversion="../../bin/sh"), 400, ["cstversion must be 1-32 of"]),
    "soctype": Row(posted(soctype="mx6"), 400, ["soctype must be one of mx8m"]),
    "backend": Row(posted(backend="gpg"), 400, ["backend must be ssl or pkcs11"]),
    "not multipart": Row(lambda d, _: raw(d, b"a=b", "application/x-www-form-urlencoded"), 400, ["multipart"]),
    "no boundary": Row(lambda d, _: raw(d, b"a=b", "multipart/form-data"), 400, ["boundary"]),
    "cut short": Row(
        lambda d, _: raw(
            d, b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx', "multipart/form-data; boundary=b"
        ),
        400,
        ["ends before its last boundary"],
    ),
    "no body": Row(path("POST", "/sign/imx"), 400, ["no body"]),
    "artifact empty": Row(posted(data=b""), 400, ["artifact is empty"]),
    "csf of another type": Row(with_csf_type("image/png"), 400, ["text/plain"]),
    "csf with a charset": Row(with_csf_type("text/plain; charset=utf-8"), 200),
    "csf does not parse": Row(with_csf("Version = 4.3", "Version = ="), 400, ["line 2"]),
    "csf of an unknown command": Row(with_csf("[Unlock]", "[Unlok]"), 400, ["line", "Unlok"]),
    "no keys": Row(posted(machine="unheard-of"), 404, ["unheard-of"], problem="no-keys"),
    "unknown path": Row(path("GET", "/sign"), 404, ["POST /sign/imx"]),
    "with a slash": Row(path("POST", "/sign/imx/"), 404),
    "method": Row(path("GET", "/sign/imx"), 405, headers={"Allow": "POST"}),
    "method of healthz": Row(path("DELETE", "/healthz"), 405, headers={"Allow": "GET, HEAD"}),
    "upload stands still": Row(upload_stands_still, 408, ["stalled"]),
    "artifact too large": Row(posted(data=bytes(1_000_001)), 413, ["1000000"]),
    "compressed": Row(posted(headers={"Content-Encoding": "gzip"}), 415, ["'gzip'"], {"Accept-Encoding": "identity"}),
    "declared too large": Row(declared_too_large, 413, ["500000000", "1000000"]),
    "chunked too large": Row(chunked_too_large, 413, ["1000000"]),
    "csf too large": Row(posted(csf="#" * ((1 << 20) + 1)), 413, ["csf", str(1 << 20)]),
    "field too large": Row(posted(machine="m" * 70_000), 413, ["machine", "65536"]),
    "too many parts": Row(many_parts, 413, ["16 parts"]),
    "refused by policy": Row(
        with_csf("Features = MID", "Features = MID\n[Set MID]\n    Engine = CAAM\n    MID ID = 1"), 422, ["Set MID"]
    ),
    "mode": Row(with_csf("Version = 4.3", "Mode = HSM\n    Version = 4.3"), 422, ["line 2", "HSM"], line=2),
    "names what is not there": Row(with_csf("CSF1_1", "CSF9_1"), 422, ["CSF9_1", "not in the machine's key tarball"]),
    "names another artifact": Row(with_csf('"spl.bin"', '"/etc/passwd"'), 422, ["passwd", "spl.bin"]),
    "past the end": Row(with_csf("0x0 0x2000", "0x0 0x20000"), 422, ["0x20000"]),
    "no ivt": Row(with_csf("0x0 0x2000", "0x400 0x1c00"), 422, ["IVT"]),
    "cst refused it": Row(posted(cstversion="refusing"), 422, ["cst refused", "log of the signing host"]),
    "a Source index that does not fit": Row(
        with_csf("Source index = 0", "Source index = 1"),
        422,
        [
            "Source index = 1 is SRK 2",
            "CSF1_1_sha256_secp256r1_v3_usr_crt.pem",
            "signed by SRK 1",
            "use Source index = 0",
        ],
        line=9,
    ),
    "a Source index beyond the table": Row(
        with_csf("Source index = 0", "Source index = 3"), 422, ["Source index = 3", "2 keys, so use 0 to 1"], line=9
    ),
    "certificates of two SRKs": Row(
        with_csf("IMG1_1", "IMG2_1"), 422, ["Source index = 0 is SRK 1", "IMG2_1", "signed by SRK 2"], line=9
    ),
    "an authority's certificate for an IMG key": Row(
        with_csf("IMG1_1_sha256_secp256r1_v3_usr", "SRK2_sha256_secp256r1_v3_ca"),
        422,
        ["is the certificate of SRK 2 itself"],
    ),
    "another PKI's table": Row(
        lambda daemon, pki: daemon.post(pki, machine="with-two-pkis", csf=edited(pki, pki.table(), "old/table.bin")),
        422,
        ["not signed by an SRK of", "old/table.bin", "SRK_1_2_table.bin"],
    ),
    "a CSF beyond its room": Row(
        lambda daemon, pki: daemon.post(pki, data=IMAGE.data[:0x2100]), 422, ["the CSF has 0x", "0x100", "CSF_SIZE"]
    ),
    "a wrong pass phrase": Row(
        posted(machine="with-a-wrong-pass-phrase"),
        500,
        ["keys/CSF1_1_sha256_secp256r1_v3_usr_key.pem", "pass phrase is wrong"],
        problem="bad-key-tarball",
    ),
    "another certificate's key": Row(
        posted(machine="with-another-key"), 500, ["does not match crts/CSF1_1"], problem="bad-key-tarball"
    ),
    "a key that is missing": Row(
        posted(machine="with-a-missing-key"),
        500,
        ["no private key for crts/IMG1_1", "operator"],
        problem="bad-key-tarball",
    ),
    "an authority's certificate without its key": Row(
        lambda daemon, pki: daemon.post(
            pki,
            machine="with-srks-offline",
            csf=edited(pki, "CSF1_1_sha256_secp256r1_v3_usr", "SRK1_sha256_secp256r1_v3_ca"),
        ),
        422,
        ["no private key for", "SRK1"],
    ),
    "no keys at all": Row(posted(machine="with-keys-on-a-token"), 422, ["no private key for"]),
    "a certificate of another PKI": Row(
        posted(machine="with-a-strange-certificate"),
        500,
        ["not signed by an SRK of the table"],
        problem="bad-key-tarball",
    ),
    "a certificate that is none": Row(
        posted(machine="with-a-broken-certificate"),
        500,
        ["crts/CSF1_1", "is not a certificate"],
        problem="bad-key-tarball",
    ),
    "unknown version": Row(posted(cstversion="2.3.3"), 422, ["cst 2.3.3 is not installed", "3.4.1", "4.0.1"]),
    "no such backend": Row(posted(backend="pkcs11"), 422, ["pkcs11"]),
    "a fuse file for an SRK table": Row(
        lambda daemon, pki: daemon.post(pki, machine="with-a-fuse-file", csf=edited(pki, "_table.bin", "_fuse.bin")),
        422,
        ["line 10", "SRK_1_2_fuse.bin", "SRK_1_2_table.bin"],
        line=10,
    ),
    "a key of a kind that no certificate has": Row(
        posted(machine="with-a-strange-key"), 500, ["does not match crts/CSF1_1"], problem="bad-key-tarball"
    ),
    "a broken SRK table": Row(posted(machine="with-a-broken-table"), 500, ["SRK table"], problem="bad-key-tarball"),
    "bad tarball": Row(posted(machine="with-garbage"), 500, ["tarball"], problem="bad-key-tarball"),
    "hostile tarball": Row(posted(machine="with-a-link"), 500, ["tarball", "link"], problem="bad-key-tarball"),
    "cst crashed": Row(posted(cstversion="crashing"), 500, ["SIGSEGV"], problem="cst-failed"),
    "cst says nothing": Row(posted(cstversion="silent"), 500, ["wrote no CSF blob"], problem="cst-failed"),
    "result fails verification": Row(posted(cstversion="wrong"), 500, ["not sent"], problem="verification-failed"),
    "cst out of time": Row(posted(cstversion="slow"), 504, ["5 s"], problem="cst-timeout"),
}


# Who is told that something took too long.
LATE = (408, 504)


@pytest.mark.parametrize("name", TABLE)
def test_each_case_has_its_status(daemon: Daemon, hasty: Daemon, pki: TrialPki, name: str) -> None:
    """A request of each kind is answered as the table says, with a request id, and leaves nothing behind."""
    row = TABLE[name]
    daemon = hasty if row.status in LATE else daemon
    answer = row.ask(daemon, pki)
    assert answer.status_code == row.status, answer.text
    assert answer.headers["X-Request-Id"]
    for key, value in row.headers.items():
        assert answer.headers[key] == value
    if row.status >= 400:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.text.count("\n") == 1
        assert answer.headers["X-Request-Id"] in answer.text
        assert str(daemon.folder) not in answer.text
    for word in row.words:
        assert word in answer.text
    daemon.wait_for(lambda: daemon.left_behind() == [], what="nothing left behind")


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.problem or row.line])
def test_errors_are_problem_json_where_json_is_asked_for(
    daemon: Daemon, hasty: Daemon, pki: TrialPki, name: str
) -> None:
    """With Accept: application/json an error is an RFC 9457 problem with the request's id."""
    row = TABLE[name]
    daemon = hasty if row.status in LATE else daemon
    original = httpx.post

    def post(*args: object, **kwargs: object) -> httpx.Response:
        given = dict(kwargs.pop("headers", None) or {})  # type: ignore[call-overload]
        wanted = {**given, "Accept": "application/json", "X-Request-Id": "build-17"}
        return original(*args, headers=wanted, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "post", post)
        answer = row.ask(daemon, pki)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.text)
    assert problem["status"] == row.status == answer.status_code
    assert problem["request_id"] == answer.headers["X-Request-Id"] == "build-17"
    assert problem["title"]
    for word in row.words:
        assert word in problem["detail"]
    if row.problem:
        assert problem["type"].endswith(row.problem)
    if row.line:
        assert problem["line"] == row.line


def test_more_than_can_be_taken_are_sent_away(daemon: Daemon, pki: TrialPki) -> None:
    """While two run and none may wait, a third gets 503 and is told when to try again."""
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(daemon.post, pki, cstversion="waiting") for _ in range(3)]
        daemon.wait_for(lambda: any(one.done() for one in asked), what="an answer")
        (daemon.folder / "go").touch()
    answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [422, 422, 503]
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert int(busy.headers["Retry-After"]) >= 1


def test_callers_need_a_token_and_leave(start: Start, pki: TrialPki) -> None:
    """Without or with wrong credentials it is 401; with right ones for another machine, backend or cst 403."""
    daemon = start(
        '[callers.release]\ntoken_file = "token"\nmachines = ["imx8mm-*"]\nbackends = ["ssl"]\ncst_versions = ["3.*"]\n'
    )
    assert daemon.process is not None
    nobody = daemon.post(pki)
    assert nobody.status_code == 401
    assert nobody.headers["WWW-Authenticate"].startswith("Basic")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert daemon.post(pki, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert daemon.post(pki, headers=bearer).status_code == 200
    with httpx.Client(auth=("release", TOKEN)) as client:
        assert daemon.post(pki, client=client).status_code == 200
    with httpx.Client(auth=("somebody", TOKEN)) as client:
        assert daemon.post(pki, client=client).status_code == 401
    other = daemon.post(pki, machine="imx8mp-evk", headers=bearer)
    assert other.status_code == 403
    assert "imx8mp-evk" in other.text
    assert daemon.post(pki, backend="pkcs11", headers=bearer).status_code == 403
    assert daemon.post(pki, cstversion="4.0.1", headers=bearer).status_code == 403
    assert TOKEN not in daemon.log()


@pytest.fixture
def store() -> Iterator[http.server.ThreadingHTTPServer]:
    """A key store on HTTP that answers as the machine's name says."""

    class Store(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/silent/" in self.path:
                released.wait(DEADLINE)
                return
            self.send_response(200 if "/nonsense/" in self.path else 503)
            self.send_header("Content-Length", "1000000000" if "/nonsense/" in self.path else "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    released = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_key_store_in_trouble(start: Start, pki: TrialPki, store: http.server.ThreadingHTTPServer) -> None:
    """A store that fails or sends nonsense is 502, one that does not answer in time 504."""
    uri = f"http://127.0.0.1:{store.server_port}"
    daemon = start("[keys]\ntimeout = 12\ntries = 2\n", DIGSIGSERVER_KEYFILE_URI=uri)
    assert daemon.post(pki, machine="failing").status_code == 502
    assert daemon.post(pki, machine="nonsense").status_code == 502
    late = daemon.post(pki, machine="silent")
    assert late.status_code == 504
    assert f":{store.server_port}" not in late.text
    refused = start("[keys]\ntries = 1\n", DIGSIGSERVER_KEYFILE_URI="http://127.0.0.1:1/keys")
    assert refused.post(pki).status_code == 502
