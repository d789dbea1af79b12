"""The configurations of HAProxy and nginx: who is calling, what is passed on, and what is tried again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.fleet.balancers import HAPROXY, Balancer, HAProxy, Nginx
from tests.fleet.breaking import Breaking
from tests.fleet.hosts import Host
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, TOKEN
from tests.helpers.ports import own_ports

BOTH = pytest.mark.parametrize("kind", [HAProxy, Nginx], ids=lambda kind: kind.name)
HEADER = "X-Digsigd-Caller"


class Front:
    """A load balancer and one host behind it."""

    def __init__(self, balancer: Balancer, host: Host, pki: TrialPki) -> None:
        self.balancer, self.host = balancer, host
        put_form(balancer, pki)

    def curl(self, *options: str, certificate: str | None = None, path: str = "/sign/imx") -> tuple[int, str]:
        return curl(self.balancer, *options, certificate=certificate, path=path)

    def caller(self, *options: str, certificate: str | None = None) -> str:
        """Sign, and return the caller in the host's log; the status and the text of a refusal."""
        before = len(self.host.log())
        status, text = self.curl(*options, certificate=certificate)
        if status != 200:
            return f"{status} {text}"
        lines = [line for line in self.host.log()[before:].splitlines() if "answered 200" in line]
        (line,) = lines
        return next(word for name in ("release", "lab", "builder") if (word := name) in line)


def curl(balancer: Balancer, *options: str, certificate: str | None = None, path: str = "/sign/imx") -> tuple[int, str]:
    """The status (0 without an answer), and headers and body or what curl says, for a form that can be signed."""
    form = (
        "-F", f"machine={MACHINE}", "-F", "cstversion=3.4.1", "-F", "csf=@spl.csf;type=text/plain",
        "-F", "artifact=@spl.bin",
    ) if path == "/sign/imx" else ()  # fmt: skip
    done = subprocess.run(
        [
            "curl", "--noproxy", "*", "--silent", "--show-error", "--include", "--path-as-is",
            "--cacert", "hosts-ca.pem", "-H", "Expect:", *form,
            *(("--cert", f"{certificate}.pem") if certificate else ()), "-o", "answer",
            "-w", "%{http_code}", *options, f"{balancer.url}{path}",
        ],
        cwd=balancer.folder, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    answer = (balancer.folder / "answer").read_bytes().decode("latin-1") if done.returncode == 0 else done.stderr
    return int(done.stdout or 0), answer


def ready(balancer: Balancer, *servers: str) -> None:
    if isinstance(balancer, HAProxy):
        for one in servers:
            balancer.wait_for_status(one, "UP")


@pytest.fixture(scope="module", params=[HAProxy, Nginx], ids=lambda kind: kind.name)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki
) -> Iterator[Front]:
    """Either of the two, and one host."""
    (port,) = own_ports(1)
    balancer: Balancer = request.param([f"127.0.0.1:{port}"])
    host = Host(tmp_path_factory.mktemp("front") / "host", cst_base, pki, balancer, port)
    try:
        host.start()
        balancer.start()
        ready(balancer, "sign1")
        yield Front(balancer, host, pki)
        host.stop()
    finally:
        host.kill()
        balancer.stop()


def test_a_client_certificate_is_passed_on_as_its_caller(front: Front) -> None:
    """Each as the caller that the list has for it."""
    assert front.caller(certificate="release") == "release"
    assert front.caller(certificate="lab") == "lab"


def test_a_token_is_passed_on(front: Front) -> None:
    """Without a certificate, and with one: a token takes precedence."""
    bearer = ("-H", f"Authorization: Bearer {TOKEN}")
    assert front.caller(*bearer) == "builder"
    assert front.caller(*bearer, certificate="release") == "builder"


@pytest.mark.parametrize(
    ("header", "values"),
    [(HEADER, ["lab"]), (HEADER.lower(), ["lab", "lab"]), (HEADER.upper(), [""]), (HEADER, ["release,lab"])],
)
def test_a_client_cannot_forge_the_header(front: Front, header: str, values: list[str]) -> None:
    """Nobody becomes another caller, and nobody without a certificate or a token becomes a caller."""
    forged = [word for value in values for word in ("-H", f"{header}: {value}" if value else f"{header};")]
    assert front.caller(*forged, certificate="release") == "release"
    assert front.caller(*forged).startswith("401 ")
    assert front.caller(*forged, certificate="unknown").startswith("401 ")
    assert front.caller(*forged, "-H", f"Authorization: Bearer {TOKEN}") == "builder"


@pytest.mark.parametrize("name", ["X_Digsigd_Caller", "X-Digsigd_Caller"])
def test_a_name_that_looks_like_the_header_is_not_passed_on(front: Front, name: str) -> None:
    """It is refused or dropped."""
    assert front.caller("-H", f"{name}: lab").startswith(("401 ", "403 "))


def test_the_header_cannot_be_taken_away(front: Front) -> None:
    """`Connection` names headers that end at the next hop: the caller's own is not one of them."""
    assert front.caller("-H", f"Connection: close, {HEADER}", certificate="release").startswith(("release", "40"))


def test_certificates_of_others_and_revoked_ones_end_the_handshake_or_the_request(front: Front) -> None:
    """No request of theirs reaches a host."""
    assert front.curl(certificate="stranger")[0] in {0, 400}
    balancer = front.balancer
    assert front.caller(certificate="lab") == "lab"
    balancer.put("clients-crl.pem", balancer.clients.crl(balancer.certificates["lab"]))
    reload(balancer)
    try:
        assert front.curl(certificate="lab")[0] in {0, 400}
        assert front.caller(certificate="release") == "release"
    finally:
        balancer.put("clients-crl.pem", balancer.clients.crl())
        reload(balancer)
    assert front.caller(certificate="lab") == "lab"


def reload(balancer: Balancer) -> None:
    """Load the files again. A new certificate shows when it is done."""
    balancer.reload(signal.SIGUSR2 if isinstance(balancer, HAProxy) else signal.SIGHUP, balancer.new_certificate())
    ready(balancer, "sign1")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/metrics", "/record/key", "/sign/imx/", "/%6detrics", "//readyz", "/machines", "/machines/a/b",
        "/machines/../metrics", "/machines/%2e%2e/metrics", "/healthz/../metrics",
    ],
)  # fmt: skip
def test_only_the_api_of_builds_is_there(front: Front, path: str) -> None:
    """What is of one host only, and what is unknown, is 404 of the load balancer."""
    status, text = front.curl(path=path, certificate="release")
    assert (status, "load balancer: not found" in text) == (404, True)


def test_a_machine_and_readiness_are_there(front: Front) -> None:
    """A machine's keys for its callers only."""
    assert front.curl(path=f"/machines/{MACHINE}", certificate="release")[0] == 200
    assert front.curl(path=f"/machines/{MACHINE}")[0] == 401
    assert front.curl(path="/readyz")[0] == 200
    assert front.curl(path="/healthz")[0] == 200


def test_one_id_leads_from_the_load_balancers_log_to_the_hosts(front: Front) -> None:
    """The client's id if it sends one, else a new one."""
    status, text = front.curl("-H", "X-Request-Id: build-4711", certificate="release")
    assert (status, "build-4711" in text) == (200, True)
    assert "build-4711" in front.host.log()
    front.balancer.wait_for(lambda: "caller=release id=build-4711" in front.balancer.log(), "the line of the log")
    assert front.curl("-H", "X-Request-Id: x caller=lab", certificate="release")[0] == 200
    assert front.curl("-H", "X-Request-Id: y", "-H", "X-Request-Id: z caller=lab", certificate="release")[0] == 200
    front.balancer.wait_for(lambda: front.balancer.log().count("caller=release") >= 3, "the lines of the log")
    assert "caller=lab" not in front.balancer.log().partition("id=build-4711")[2]
    assert TOKEN not in front.balancer.log()


@BOTH
def test_a_request_that_a_host_has_begun_is_not_sent_to_another(tmp_path: Path, kind: type[Balancer]) -> None:
    """It may be signed and recorded already: the client is told to try again, and nothing has tried for it."""
    ports = own_ports(2)
    balancer = kind([f"127.0.0.1:{port}" for port in ports])
    hosts = [Breaking(tmp_path / f"host{number}", balancer, port) for number, port in enumerate(ports)]
    try:
        put_form(balancer)
        # So small that HAProxy could keep it, and send it again.
        (balancer.folder / "spl.bin").write_bytes(b"small")
        balancer.start()
        ready(balancer, "sign1", "sign2")
        status, text = curl(balancer, certificate="release")
        assert (status in {502, 503}, "retry-after: " in text.lower(), "load balancer: " in text) == (
            True,
            True,
            True,
        ), text
        assert sum(host.begun for host in hosts) == 1
    finally:
        for host in hosts:
            host.stop()
        balancer.stop()


@BOTH
def test_a_request_that_has_not_reached_a_host_is_sent_to_another(
    tmp_path: Path, cst_base: Path, pki: TrialPki, kind: type[Balancer]
) -> None:
    """The client notices nothing, whichever host comes first."""
    first, second = own_ports(2)
    addresses = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
    # Checks do not find out first.
    balancer = HAProxy(addresses, CHECK_EVERY="1h") if kind is HAProxy else Nginx(addresses)
    breaking = Breaking(tmp_path / "breaking", balancer, first, early=True)
    host = Host(tmp_path / "host", cst_base, pki, balancer, second)
    try:
        host.start()
        put_form(balancer, pki)
        balancer.start()
        ready(balancer, "sign1", "sign2")
        breaking.break_now = True
        answers = [curl(balancer, certificate="release") for _ in range(4)]
        assert [status for status, _ in answers] == [200] * 4, answers
        assert (breaking.begun, breaking.refused > 0) == (0, True)
        if isinstance(balancer, HAProxy):
            assert int(balancer.servers()["BACKEND"]["wredis"]) > 0
        host.stop()
    finally:
        host.kill()
        breaking.stop()
        balancer.stop()


@BOTH
def test_without_a_host_the_client_is_told_to_try_again(tmp_path: Path, kind: type[Balancer]) -> None:
    """In plain text, with Retry-After, as a host that is busy would."""
    balancer = kind([f"127.0.0.1:{own_ports(1)[0]}"])
    try:
        put_form(balancer)
        balancer.start()
        if isinstance(balancer, HAProxy):
            balancer.wait_for_status("sign1", "DOWN")
        status, text = curl(balancer, certificate="release")
        assert status == 503
        assert "retry-after: 5" in text.lower()
        assert "load balancer: no signing host" in text
    finally:
        balancer.stop()


def test_a_host_that_cannot_sign_gets_no_requests_from_haproxy(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """`/readyz` decides: without its keys a host is down, and with them up again."""
    (port,) = own_ports(1)
    balancer = HAProxy([f"127.0.0.1:{port}"])
    host = Host(tmp_path / "host", cst_base, pki, balancer, port)
    try:
        host.start()
        balancer.start()
        ready(balancer, "sign1")
        host.keys.rename(tmp_path / "away")
        balancer.wait_for_status("sign1", "DOWN")
        (tmp_path / "away").rename(host.keys)
        ready(balancer, "sign1")
        host.stop()
    finally:
        host.kill()
        balancer.stop()


@BOTH
def test_a_host_of_another_name_or_authority_is_not_believed(
    tmp_path: Path, cst_base: Path, pki: TrialPki, kind: type[Balancer]
) -> None:
    """Whoever can take a host's address gets no request."""
    (port,) = own_ports(1)
    balancer = kind([f"127.0.0.1:{port}"])
    host = Host(tmp_path / "host", cst_base, pki, balancer, port)
    balancer.put("hosts-ca.pem", balancer.clients.pem)
    site, key = balancer.clients.issue("signing")
    balancer.put("site.pem", site + key)
    balancer.put("site.key", key)
    try:
        put_form(balancer, pki)
        host.start()
        balancer.start()
        if isinstance(balancer, HAProxy):
            balancer.wait_for_status("sign1", "DOWN")
        assert curl(balancer, certificate="release")[0] == 503
        assert "/sign/imx" not in host.log()
        host.stop()
    finally:
        host.kill()
        balancer.stop()


def put_form(balancer: Balancer, pki: TrialPki | None = None) -> None:
    (balancer.folder / "spl.bin").write_bytes(IMAGE.data)
    (balancer.folder / "spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")) if pki else "no description")


def test_the_configurations_are_valid_as_they_are(tmp_path: Path) -> None:
    """HAProxy's with all its lines; it looks only for the files that it names."""
    balancer = HAProxy(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"])
    try:
        balancer.command()
        environ = {**balancer.environ, "SIGN1_NAME": "sign1.example"}
        command = ["haproxy", "-c", "-f", str(HAPROXY)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
    finally:
        balancer.stop()
    nginx = Nginx(["127.0.0.1:1"])
    try:
        done = subprocess.run(
            [*nginx.command(), "-t"], cwd=nginx.folder, env=nginx.environ, capture_output=True, text=True, check=False,
            timeout=DEADLINE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr
    finally:
        nginx.stop()
