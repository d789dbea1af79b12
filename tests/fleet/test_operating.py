"""The commands of docs/operate/load-balancer.md, as they stand there."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialPki
from tests.fleet.balancers import HAPROXY, HAProxy, Nginx
from tests.fleet.hosts import Host
from tests.fleet.test_balancers import curl, put_form
from tests.helpers.daemons import DEADLINE
from tests.helpers.ports import own_ports

DOCUMENT = Path(__file__).parent.parent.parent / "docs/operate/load-balancer.md"
PROXY, CALLER, CALLER_OF_NGINX, CHECK, DRAIN, READY = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def run(commands: str, balancer: HAProxy | Nginx) -> str:
    """Run commands in the folder of a load balancer, with its paths."""
    text = commands.replace("/run/haproxy/admin.sock", "./admin").replace("/etc/haproxy/haproxy.cfg", str(HAPROXY))
    done = subprocess.run(
        ["sh", "-eu", "-c", text], cwd=balancer.folder, env=balancer.environ, capture_output=True, text=True,
        check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def balancer() -> Iterator[HAProxy]:
    one = HAProxy([f"127.0.0.1:{port}" for port in own_ports(2)])
    yield one
    one.stop()


def test_a_load_balancer_is_set_up_and_a_host_is_drained(
    tmp_path: Path, cst_base: Path, pki: TrialPki, balancer: HAProxy
) -> None:
    """Its certificate is its own authority; a caller is added; a host gets no more requests, then some again."""
    printed = run(PROXY, balancer)
    balancer.proxy = (balancer.folder / "proxy.crt").read_bytes()
    assert printed.partition("=")[2].strip().replace(":", "").lower() == balancer.proxy_fingerprint
    certificate, key = balancer.clients.issue("ci")
    balancer.put("ci.pem", certificate + key)
    hosts = [
        Host(tmp_path / f"host{number}", cst_base, pki, balancer, int(address.rpartition(":")[2]))
        for number, address in enumerate(balancer.addresses, 1)
    ]
    put_form(balancer, pki)
    try:
        for host in hosts:
            (host.folder / "proxies.pem").write_bytes(balancer.proxy)
            host.start()
        balancer.start()
        assert curl(balancer, certificate="ci")[0] == 401
        run(CALLER, balancer)
        run(CHECK, balancer)
        balancer.reload(signal.SIGUSR2, balancer.new_certificate())
        for name in ("sign1", "sign2"):
            balancer.wait_for_status(name, "UP")
        assert curl(balancer, certificate="ci")[0] == 200
        run(DRAIN, balancer)
        before = hosts[1].log().count("answered 200")
        assert [curl(balancer, certificate="ci")[0] for _ in range(4)] == [200] * 4
        assert hosts[1].log().count("answered 200") == before
        assert "sign2" in run(READY, balancer)
        balancer.wait_for_status("sign2", "UP")
        for host in hosts:
            host.stop()
    finally:
        for host in hosts:
            host.kill()


def test_a_line_of_nginxs_list_is_what_nginx_computes() -> None:
    """As the tests write it."""
    nginx = Nginx(["127.0.0.1:1"])
    try:
        certificate, key = nginx.clients.issue("ci")
        nginx.put("ci.pem", certificate + key)
        nginx.certificates["release"] = certificate
        nginx.command()
        expected = (nginx.folder / "callers.map").read_text().splitlines()[0]
        run(CALLER_OF_NGINX, nginx)
        assert (nginx.folder / "callers.map").read_text().splitlines()[-1] == expected.replace(
            "release", "yocto-release"
        )
    finally:
        nginx.stop()


@pytest.mark.parametrize("folder", ["haproxy", "nginx"])
def test_the_example_of_a_list_has_lines_of_the_right_form(folder: str) -> None:
    """One line that is no comment, with as many digits as the digest has."""
    text = (HAPROXY.parent.parent / folder / "callers.map.example").read_text()
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    pattern = {"haproxy": r"0{64} yocto-release", "nginx": r'"SUCCESS:0{40}" yocto-release;'}[folder]
    assert re.fullmatch(pattern, line)
