"""HAProxy and nginx with the project's own configurations, which differ only in addresses, paths and users."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha1, sha256
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fleet.processes import children
from tests.helpers.certificates import Authority
from tests.helpers.daemons import DEADLINE
from tests.helpers.ports import own_ports

ROOT = Path(__file__).parent.parent.parent
HAPROXY = ROOT / "etc/haproxy/haproxy.cfg"
NGINX = ROOT / "etc/nginx/digsigd.conf"
# The callers that have a client certificate.
CALLERS = ("release", "lab")


def der(pem: bytes) -> bytes:
    """Return the first certificate of a PEM as DER."""
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def served_at(port: int, ca_file: Path) -> bytes:
    """Return the certificate of a port on loopback, as DER; nothing while there is no connection."""
    context = ssl.create_default_context(cafile=str(ca_file))
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""
    return b""


class Balancer:
    """A load balancer in front of the hosts at `addresses`, all on loopback, with authorities and certificates.

    `clients` issues certificates of clients, `proxies` that of the balancer, `hosts` those of the hosts and of the
    balancer's own port.
    """

    name = ""

    def __init__(self, addresses: list[str]) -> None:
        # Paths of sockets are short.
        self.folder = Path(tempfile.mkdtemp(prefix="digsigd-lb-"))
        self.clients, self.proxies, self.hosts = Authority(), Authority(), Authority()
        self.addresses = addresses
        self.port = own_ports(1)[0]
        self.certificates: dict[str, bytes] = {}
        for name in (*CALLERS, "unknown"):
            certificate, key = self.clients.issue(name)
            self.certificates[name] = certificate
            self.put(f"{name}.pem", certificate + key)
        stranger, key = Authority().issue("release")
        self.put("stranger.pem", stranger + key)
        self.put("clients-ca.pem", self.clients.pem)
        self.put("clients-crl.pem", self.clients.crl())
        self.put("hosts-ca.pem", self.hosts.pem)
        self.proxy, key = self.proxies.issue("load balancer")
        self.put("proxy.pem", self.proxy + key)
        self.put("proxy.key", key)
        self.new_certificate()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def proxy_fingerprint(self) -> str:
        """The fingerprint for `[listen.proxy]`."""
        return sha256(der(self.proxy)).hexdigest()

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)

    def new_certificate(self) -> bytes:
        """Issue another certificate for clients to see, and return it."""
        certificate, key = self.hosts.issue("signing")
        self.put("site.pem", certificate + key)
        self.put("site.key", key)
        return certificate

    def command(self) -> list[str]:
        """Write the configuration, and return the command that starts it in the foreground."""
        raise NotImplementedError

    @property
    def environ(self) -> dict[str, str]:
        # The programs are in /usr/sbin, which is not on every user's PATH.
        return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}

    def start(self) -> Self:
        """Start it, and wait until it accepts connections."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.environ, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_for(self.accepts, "its port")
        return self

    def reload(self, how: signal.Signals, expected: bytes) -> None:
        """Send a signal, and wait until clients see the certificate `expected` and no process from before is left."""
        assert self.process is not None
        pid = self.process.pid
        before = children(pid)
        self.process.send_signal(how)
        self.wait_for(lambda: self.served() == der(expected), "the new certificate")
        self.wait_for(lambda: not before & children(pid), "the end of the processes from before")

    def stop(self) -> None:
        """End it and its processes, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder)

    def accepts(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE):
            return True
        return False

    def served(self) -> bytes:
        """Return the certificate that clients see, as DER; nothing while there is no connection."""
        return served_at(self.port, self.folder / "hosts-ca.pem")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so. The deadline ends a test that would hang."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert self.process is None or self.process.poll() is None, self.log()
            assert time.monotonic() < end, f"waited in vain for {what}: {self.log()}"
            time.sleep(0.02)


class HAProxy(Balancer):
    """HAProxy with etc/haproxy/haproxy.cfg. Addresses and paths come from its environment; only users are left out."""

    name = "haproxy"

    def __init__(self, addresses: list[str], **settings: str) -> None:
        """`settings` replace others of those at the top of the file."""
        super().__init__(addresses)
        self._settings = settings
        self._unused = [f"127.0.0.1:{port}" for port in own_ports(3 - len(addresses))]

    @property
    def environ(self) -> dict[str, str]:
        servers = [*self.addresses, *self._unused]
        return {
            **super().environ,
            "CERTS": str(self.folder), "SITE": f"127.0.0.1:{self.port}", "ADMIN": str(self.folder / "admin"),
            **self._settings,
            **{f"SIGN{number}": address for number, address in enumerate(servers, 1)},
            **{f"SIGN{number}_NAME": "localhost" for number in (1, 2, 3)},
        }  # fmt: skip

    def command(self) -> list[str]:
        lines = [f"{sha256(der(self.certificates[name])).hexdigest()} {name}\n" for name in CALLERS]
        self.put("callers.map", "".join(lines).encode())
        text, left_out = re.subn(r"(?m)^    (user|group|chroot) .*\n", "", HAPROXY.read_text())
        assert left_out == 3
        self.put("haproxy.cfg", text.encode())
        return ["haproxy", "-W", "-f", "haproxy.cfg"]

    def admin(self, command: str) -> str:
        """Return the answer of the admin socket."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(DEADLINE)
            one.connect(str(self.folder / "admin"))
            one.sendall(command.encode() + b"\n")
            one.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: one.recv(65536), b"")).decode()

    def servers(self) -> dict[str, dict[str, str]]:
        """Return the statistics of each host by its name, and of the sum as BACKEND."""
        try:
            text = self.admin("show stat")
        except OSError:
            return {}  # between two of its processes
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == "hosts"}

    def wait_for_status(self, server: str, status: str) -> None:
        """Wait until a host is UP, DOWN or DRAIN."""
        self.wait_for(lambda: self.servers().get(server, {}).get("status", "").startswith(status), f"{server} {status}")

    def drain(self, server: str) -> None:
        """Send a host no more requests, and wait until it has none."""
        assert self.admin(f"set server hosts/{server} state drain").strip() == ""
        self.wait_for(lambda: self.servers().get(server, {}).get("scur") == "0", f"{server} without requests")

    def ready(self, server: str) -> None:
        """Send a host requests again, once it is up."""
        assert self.admin(f"set server hosts/{server} state ready").strip() == ""
        self.wait_for_status(server, "UP")


class Nginx(Balancer):
    """nginx with etc/nginx/digsigd.conf."""

    name = "nginx"

    def command(self) -> list[str]:
        lines = [f'"SUCCESS:{sha1(der(self.certificates[name])).hexdigest()}" {name};\n' for name in CALLERS]  # noqa: S324
        self.put("callers.map", "".join(lines).encode())
        text = NGINX.read_text()
        servers = "".join(f"    server {address} max_fails=2 fail_timeout=5s;\n" for address in self.addresses)
        text, replaced = re.subn(r"(?m)(^    server 192\.0\.2\.\d+:9999 .*\n)+", servers, text)
        assert replaced == 1
        for old, new in (
            ("/etc/nginx/digsigd/", f"{self.folder}/"),
            ("listen 9999 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/var/log/nginx/digsigd.log", f"{self.folder}/log"),
            ("hosts.example", "localhost"),
        ):
            assert old in text
            text = text.replace(old, new)
        self.put("digsigd.conf", text.encode())
        self.put("nginx.conf", NGINX_FRAME.encode())
        return ["nginx", "-p", str(self.folder), "-e", "error.log", "-c", "nginx.conf"]


# What Debian's nginx.conf has around the file.
NGINX_FRAME = """daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 512; }
http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include digsigd.conf;
}
"""
