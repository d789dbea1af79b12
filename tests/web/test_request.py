"""Uploads on a connection in memory, with a clock that tests turn, and a signer that does what they say."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from klein.resource import KleinResource
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.iweb import INonQueuedRequestFactory, IRequest
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer
from zope.interface.verify import verifyObject

from digsigd import csf
from digsigd.callers.access import Access, CurrentAccess
from digsigd.callers.hosts import LOCAL_NAMES
from digsigd.errors import DigsigError, Refused
from digsigd.settings import UploadSettings
from digsigd.signing.decisions import Decisions
from digsigd.signing.hashing import MOST_WAITING, SMALL, Hashing
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.rules import CurrentRules, MachineRules, Rules
from digsigd.signing.workdir import Workdir
from digsigd.signing.workroot import WorkRoot
from digsigd.web.request import LINGER_SECONDS, RequestFactory, UploadRequest
from digsigd.web.resource import Endpoint
from digsigd.web.site import SigningSite
from digsigd.web.upload import Sign
from digsigd.web.upload_state import LINGER_BYTES
from digsigd.web.uploads import Uploads
from tests.helpers.turns import Turns

TYPE = "multipart/form-data; boundary=b"


class InThread:
    """Calls in the test's own thread: at once, or once what `waits_for` holds has fired."""

    def __init__(self) -> None:
        self.waits_for: Deferred[None] = succeed(None)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return self.waits_for.addCallback(lambda _: function(*args, **kwargs))


class Host:
    """A signing host without sockets. `signing` is what the signer waits for; it has written into its directory."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.root = WorkRoot(folder)
        self.root.open()
        self.signing: list[Deferred[Signed]] = []
        self.asked: list[SigningRequest] = []
        # For each cancelled signing, whether its directory was there until then.
        self.cancelled: list[bool] = []
        self.in_thread = InThread()
        self.uploads = Uploads(
            bounds=UploadSettings(idle_timeout=10.0, timeout=60.0, max_artifact=1000),
            access=CurrentAccess(Access(callers={}, allowed_hosts=LOCAL_NAMES | {"a"})),
            rules=CurrentRules(Rules(MachineRules(csf.Policy()))),
            root=self.root,
            clock=self.clock,
            in_thread=self.in_thread,
            decisions=Decisions(None),
        )
        self.serve(self.sign)

    def serve(self, sign: Sign) -> None:
        unused: Any = None
        self.resource = Endpoint(
            sign=sign,
            missing=unused,
            machine_key_requests=unused,
            record_key=unused,
            is_known=unused,
            version="1",
        ).resource()
        self.site = SigningSite(self.resource, self.uploads)
        self.site.reactor = self.clock

    async def sign(self, request: SigningRequest, workdir: Workdir) -> Signed:
        self.asked.append(request)
        workdir.write("k1/a_key.pem", b"secret")
        waiting: Deferred[Signed] = Deferred()
        self.signing.append(waiting)
        try:
            return await waiting
        except CancelledError:
            self.cancelled.append(workdir.path.exists())
            raise

    def directories(self) -> list[Path]:
        return [path for path in self.root.path.iterdir() if path.is_dir()]

    def connect(self) -> Connection:
        return Connection(self)


class Connection:
    """A client's connection to it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        address = IPv4Address("TCP", "127.0.0.1", 1)
        self.transport = StringTransport(peerAddress=address)
        self.protocol: Any = host.site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)
        self.lost = False

    def send(self, data: bytes) -> None:
        if not self.lost:
            self.protocol.dataReceived(data)
            self.host.clock.advance(0)

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def statuses(self) -> list[int]:
        return [int(code) for code in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", self.transport.value())]

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting


def head(length: int | None = None, *more: str, path: str = "/sign/imx") -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {TYPE}", size, *more, "", ""]).encode()


def form(**fields: str) -> bytes:
    parts = {"machine": "m", "cstversion": "3.4.1", **fields}
    text = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in parts.items()
    )
    for name, value in (("csf", "[Header]"), ("artifact", "image")):
        text += f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.x"\r\n\r\n{value}\r\n'
    return f"{text}--b--\r\n".encode()


GOOD = form()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def events() -> Iterator[list[str]]:
    """The names of what is logged meanwhile."""
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        found.append(event.get("event", ""))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_what_was_sent_is_what_the_signer_gets(host: Host) -> None:
    """One request with the form's fields, its artifact in a file; the blob is the answer, and nothing is left."""
    client = host.connect()
    client.send(head(len(GOOD), "X-Request-Id: mine") + GOOD)
    (request,) = host.asked
    assert (request.request_id, request.machine, request.cst_version) == ("mine", "m", "3.4.1")
    assert (request.backend, request.soctype, request.caller) == ("ssl", None, "anonymous")
    assert request.description == b"[Header]"
    (artifact,) = request.artifacts
    assert (artifact.name, artifact.size, artifact.repeated) == ("artifact.x", 5, False)
    assert artifact.path.read_bytes() == b"image"
    host.signing[0].callback(Signed(b"the blob"))
    assert client.statuses == [200]
    assert client.transport.value().endswith(b"\r\n\r\nthe blob")
    assert host.directories() == []


@pytest.mark.parametrize("lost", [False, True])
def test_no_more_is_read_while_too_much_waits_for_its_digest(host: Host, lost: bool) -> None:
    """Reading goes on when half of it is hashed, unless the connection is lost meanwhile; nothing of it is missing."""
    turns: Any = Turns()
    host.uploads.hashing = Hashing(turns, turns)
    host.uploads.bounds = UploadSettings(max_artifact=2 * MOST_WAITING)
    image = bytes(range(251)) * (MOST_WAITING // 251 + 2 * SMALL // 251)
    body = GOOD.replace(b"\r\nimage\r\n", b"\r\n" + image + b"\r\n")
    client = host.connect()
    client.send(head(len(body)) + body[: MOST_WAITING // 2])
    assert client.transport.producerState == "producing"
    client.send(body[MOST_WAITING // 2 : -1000])
    assert client.transport.producerState == "paused"
    if lost:
        client.lose()
        turns.run()
        assert host.directories() == []
        return
    turns.run()
    assert client.transport.producerState == "producing"
    client.send(body[-1000:])
    turns.run()
    (request,) = host.asked
    (artifact,) = request.artifacts
    assert artifact.sums is not None
    assert artifact.sums.sha256 == sha256(image).hexdigest()
    assert artifact.path.read_bytes() == image


@pytest.mark.parametrize("path", ["/sign/imx", "/no/such/path"])
@pytest.mark.parametrize("end", ["time", "bytes", "the body", "the connection"])
def test_a_long_body_is_answered_early_and_heard_for_a_moment(host: Host, path: str, end: str) -> None:
    """Until its bytes, its time, itself or the connection end, the answer can be read; then no clock runs on."""
    client = host.connect()
    client.send(head(1 << 30, path=path))
    assert client.statuses == [413 if path == "/sign/imx" else 404]
    assert not client.closed
    if end == "time":
        host.clock.advance(LINGER_SECONDS - 0.1)
        assert not client.closed
        host.clock.advance(0.2)
    elif end == "bytes":
        client.send(bytes(LINGER_BYTES))
        assert not client.closed
        client.send(b"x")
    elif end == "the body":
        piece = bytes(LINGER_BYTES)
        client.send(piece)
        assert not client.closed
        client.send(piece)
    assert client.transport.disconnecting == (end != "the connection")
    client.lose()
    assert len(client.statuses) == 1
    assert host.clock.getDelayedCalls() == []
    assert host.uploads.active == 0


def test_an_upload_that_stands_still(host: Host) -> None:
    """Each piece gives it its time anew; then 408, and nothing is left."""
    client = host.connect()
    client.send(head(100_000) + GOOD[:-5])
    for _ in range(5):
        host.clock.advance(9.9)
        client.send(b"x")
    assert client.statuses == []
    assert host.directories() != []
    host.clock.advance(10)
    assert client.statuses == [408]
    assert b"stalled for 10 s" in client.transport.value()
    assert host.directories() == []
    client.lose()
    assert host.clock.getDelayedCalls() == []


def test_an_upload_that_takes_too_long(host: Host) -> None:
    """However steadily it drips."""
    client = host.connect()
    client.send(head(None))
    for _ in range(12):
        host.clock.advance(5)
        client.send(b"2\r\n\r\n\r\n")
    assert client.statuses == [408]
    assert b"took longer than 60 s" in client.transport.value()


def test_a_short_body_that_is_refused_is_read_to_its_end(host: Host) -> None:
    """The answer follows it, and the connection goes on; what never ends is told so."""
    wrong = form(machine="a/b")
    client = host.connect()
    client.send(head(len(wrong)) + wrong[:-1])
    assert (client.statuses, host.uploads.active) == ([], 0)
    client.send(wrong[-1:])
    client.send(head(len(GOOD)) + GOOD)
    host.signing[0].callback(Signed(b"blob"))
    client.send(head(len(wrong)) + wrong[:-1])
    host.clock.advance(10)
    assert client.statuses == [400, 200, 408]


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_wrong_with_the_whole_form_is_answered_at_its_end(host: Host, chunked: bool) -> None:
    """And the connection lives on, also where nothing said how long the body would be."""
    cut = GOOD[:-10]
    client = host.connect()
    client.send(head(None) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(cut), cut) if chunked else head(len(cut)) + cut)
    assert client.statuses == [400]
    assert b"ends before its last boundary" in client.transport.value()
    assert not client.closed


def test_who_waits_to_be_told_to_go_on_is_not_told_so_when_refused(host: Host) -> None:
    """The answer comes in the place of 100 Continue."""
    client = host.connect()
    client.send(head(1 << 30, "Expect: 100-continue"))
    assert client.statuses == [413]
    assert b"100" not in client.transport.value().partition(b"\r\n")[0]
    assert b"Continue" not in client.transport.value()


def test_no_clock_waits_for_a_piece_of_a_lost_connection(host: Host) -> None:
    """Also where the piece had not been looked at yet."""
    client = host.connect()
    client.protocol.dataReceived(head(100) + b"--b")
    assert len(host.clock.getDelayedCalls()) > 2
    client.lose()
    assert host.clock.getDelayedCalls() == []


@pytest.mark.parametrize("fields", [{}, {"machine": "a/b"}], ids=["signed", "refused"])
def test_no_answer_leaves_before_the_directory_is_gone(host: Host, fields: dict[str, str]) -> None:
    """Neither a blob nor an error."""
    body = form(**fields)
    # The artifact comes first, so that there is a directory.
    start, middle, artifact = body.partition(b'--b\r\nContent-Disposition: form-data; name="artifact"')
    body = middle + artifact.removesuffix(b"--b--\r\n") + start + b"--b--\r\n"
    host.in_thread.waits_for = Deferred()
    client = host.connect()
    client.send(head(len(body)) + body)
    if not fields:
        host.signing[0].callback(Signed(b"blob"))
    assert len(host.directories()) == 1
    assert client.statuses == []
    host.in_thread.waits_for.callback(None)
    assert host.directories() == []
    assert client.statuses == [400 if fields else 200]


def test_a_client_that_goes_away_while_its_image_is_signed(host: Host, events: list[str]) -> None:
    """Signing is cancelled, and the directory is there until that has worked."""
    client = host.connect()
    client.send(head(len(GOOD)) + GOOD)
    client.lose()
    assert host.cancelled == [True]
    assert host.directories() == []
    assert host.uploads.active == 0
    assert client.statuses == []
    assert events.count("gone") == 1
    assert "answered" not in events


def test_a_blob_that_nobody_waits_for_is_not_answered_with(host: Host, events: list[str]) -> None:
    """A signer that was done before it could be cancelled."""

    async def sign(request: SigningRequest, workdir: Workdir) -> Signed:
        with contextlib.suppress(CancelledError):
            return await host_sign(request, workdir)
        return Signed(b"blob")

    host_sign = host.sign
    host.serve(sign)
    client = host.connect()
    client.send(head(len(GOOD)) + GOOD)
    client.lose()
    assert host.cancelled == [True]
    assert events.count("gone") == 1
    assert "answered" not in events


def test_what_comes_to_the_endpoint_too_late_is_not_signed(host: Host) -> None:
    """A site may ask somebody else first, for example who the client is; meanwhile the client may have gone."""

    class Slow(Resource):
        isLeaf = True

        def render(self, request: Any) -> Any:
            waiting.append(request)
            return NOT_DONE_YET

    waiting: list[UploadRequest] = []
    host.site = SigningSite(Slow(), host.uploads)
    client = host.connect()
    client.send(head(len(GOOD)) + GOOD)
    client.lose()
    assert host.directories() == []
    upload = waiting[0].upload
    assert upload is not None
    failed: list[Failure] = []
    Deferred.fromCoroutine(upload.sign(host.sign)).addErrback(failed.append)
    assert failed[0].check(DigsigError)
    assert host.asked == []
    assert host.directories() == []


def test_a_directory_is_not_removed_from_under_a_signer_that_ends_slowly(host: Host) -> None:
    """A cancelled signer may still wait for its threads; the removal waits for it."""
    slow: Deferred[None] = Deferred()

    async def sign(request: SigningRequest, workdir: Workdir) -> Signed:
        try:
            return await host_sign(request, workdir)
        finally:
            await slow

    host_sign = host.sign
    host.serve(sign)
    client = host.connect()
    client.send(head(len(GOOD)) + GOOD)
    client.lose()
    assert len(host.directories()) == 1
    assert host.uploads.active == 1
    slow.callback(None)
    assert host.directories() == []
    assert host.uploads.active == 0


def test_the_end_of_a_daemon_ends_every_upload_in_its_way(host: Host) -> None:
    """503 at once for what arrives, the same for what is signed, once that is cancelled; an answer stays as it is."""
    arriving, signed, answered = (host.connect() for _ in range(3))
    answered.send(head(len(GOOD)) + GOOD)
    host.signing[0].errback(Refused("no"))
    arriving.send(head(1000) + GOOD[:100])
    signed.send(head(len(GOOD)) + GOOD)
    host.uploads.stop()
    host.uploads.end()
    assert [one.statuses for one in (arriving, signed, answered)] == [[503], [503], [422]]
    assert host.cancelled == [True]
    assert host.directories() == []
    assert host.uploads.active == 0


def test_a_resource_that_is_somewhere_else_leaves_nothing(host: Host) -> None:
    """Where the site answers by itself, the upload is gone with that answer."""
    host.site = SigningSite(notFound(), host.uploads)
    client = host.connect()
    client.send(head(len(GOOD)) + GOOD)
    assert client.statuses == [404]
    assert host.directories() == []
    assert host.uploads.active == 0


SIZE = len(GOOD)
WIRE = st.sampled_from(
    ["headers", "chunked", "expect", "huge", "piece", "rest", "wrong", "wait", "sign", "fail", "lose", "end"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=st.sampled_from(["headers", "chunked", "expect", "huge"]), steps=st.lists(WIRE, max_size=15))
@example(first="chunked", steps=["piece", "end", "wrong"])
def test_whatever_a_connection_brings(tmp_path: Path, first: str, steps: list[str]) -> None:
    """No request has two answers, and once the connection is lost there is no directory, no clock and no upload."""
    host = Host(tmp_path)
    client = host.connect()
    requests = 0
    rest = GOOD
    for step in [first, *steps]:
        if step in {"headers", "chunked", "expect", "huge"} and (step == first or not rest):
            requests += 1
            rest = GOOD if step != "chunked" else b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, GOOD)
            length = {"headers": SIZE, "expect": SIZE, "huge": 1 << 20, "chunked": None}[step]
            client.send(head(length, *(["Expect: 100-continue"] if step == "expect" else [])))
        elif step == "piece":
            client.send(rest[:60])
            rest = rest[60:]
        elif step == "rest":
            client.send(rest)
            rest = b""
        elif step == "wrong":
            client.send(bytes(len(rest)))
            rest = b""
        elif step == "wait":
            host.clock.advance(4)
        elif step in {"sign", "fail"} and host.signing and not host.signing[-1].called:
            if step == "sign":
                host.signing[-1].callback(Signed(b"blob"))
            else:
                host.signing[-1].errback(Refused("no"))
        elif step == "lose":
            client.lose()
        elif step == "end":
            host.uploads.end()
        if client.closed:
            client.lose()
    client.lose()
    host.root.close()
    assert len(client.statuses) <= requests
    assert host.uploads.active == 0
    assert host.clock.getDelayedCalls() == []
    assert list(tmp_path.iterdir()) == []


def test_the_interfaces_are_whole(host: Host) -> None:
    """What says that it offers an interface of Twisted's has all of it."""
    factory = RequestFactory(host.uploads, keep_others=True)
    assert verifyObject(INonQueuedRequestFactory, factory)
    assert verifyObject(IResource, host.resource)
    assert isinstance(host.resource, KleinResource)
    channel: Any = HTTPChannel()
    channel.site = host.site
    channel.makeConnection(StringTransport())
    request = factory(channel)
    assert isinstance(request, UploadRequest)
    assert verifyObject(IRequest, request)
