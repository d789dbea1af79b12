"""Daemons with TLS of their own, and the clients that speak to them."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from digsigd.testing import TrialPki
from tests.helpers.certificates import Authority
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, RIGHTS, TOKEN, Daemon

TLS = """[listen]
[listen.tls]
certificate = "host.pem"
key = "host.key"
client_ca = "clients.pem"
crl = "clients.crl"
"""
CALLERS = f"""[callers.ci]
certificate = "CN=ci"
{RIGHTS}
[callers.other]
token_file = "token"
{RIGHTS}
"""


class OwnTls(Daemon):
    """A daemon with [listen.tls]: `hosts` has issued its certificate, `clients` those of ci, lab and proxy."""

    def __init__(self, folder: Path, cst_base: Path, pki: TrialPki, config: str = CALLERS, *, rsa_key: bool = False):
        self.hosts, self.clients, self.strangers = Authority(), Authority(), Authority()
        self.certificates: dict[str, bytes] = {}
        (folder / "token").write_text(TOKEN + "\n")
        self.put_host(folder, rsa_key=rsa_key)
        (folder / "hosts.pem").write_bytes(self.hosts.pem)
        (folder / "clients.pem").write_bytes(self.clients.pem)
        (folder / "clients.crl").write_bytes(self.clients.crl())
        for name in ("ci", "lab", "proxy"):
            self.put_client(folder, name, self.clients)
        self.put_client(folder, "stranger", self.strangers)
        (folder / "spl.bin").write_bytes(IMAGE.data)
        (folder / "spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")))
        super().__init__(folder, cst_base, TLS + config)
        self.put_keys(MACHINE, pki.tarball())

    def put_host(self, folder: Path, *, rsa_key: bool = False) -> bytes:
        """Give the host a new certificate, and return it."""
        certificate, key = self.hosts.issue("host", rsa_key=rsa_key)
        (folder / "host.pem").write_bytes(certificate)
        (folder / "host.key").write_bytes(key)
        (folder / "host.key").chmod(0o600)
        return certificate

    def put_client(self, folder: Path, name: str, authority: Authority) -> None:
        certificate, key = authority.issue(name)
        self.certificates[name] = certificate
        (folder / f"{name}.pem").write_bytes(certificate + key)

    def start(self) -> OwnTls:
        super().start()
        self.url = self.url.replace("http://", "https://")
        return self

    def reload(self) -> None:
        """Send SIGHUP, and wait until it is done or refused."""
        assert self.process is not None
        before = self.log().count("reloaded")
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_log("reloaded", before + 1)

    def curl(self, *options: str, certificate: str | None = None, path: str = "/sign/imx") -> tuple[int, str]:
        """The status (0 without an answer) and the body or what curl says, for an upload that could be signed."""
        form = (
            "-F", f"machine={MACHINE}", "-F", "cstversion=3.4.1",
            "-F", "csf=@spl.csf;type=text/plain", "-F", "artifact=@spl.bin",
        ) if path == "/sign/imx" else ()  # fmt: skip
        done = subprocess.run(
            [
                "curl", "--noproxy", "*", "--silent", "--show-error", "--cacert", "hosts.pem", *form,
                *(("--cert", f"{certificate}.pem") if certificate else ()),
                "-o", "answer", "-w", "%{http_code}", *options, f"{self.url}{path}",
            ],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip
        answer = (self.folder / "answer").read_bytes().decode("latin-1") if done.returncode == 0 else done.stderr
        return int(done.stdout or 0), answer

    def s_client(self, *options: str, says: str = "") -> subprocess.CompletedProcess[str]:
        """What `openssl s_client` reports of a connection."""
        return subprocess.run(
            [
                "openssl", "s_client", "-connect", self.url.removeprefix("https://"), "-CAfile", "hosts.pem",
                "-verify_return_error", *options,
            ],
            cwd=self.folder, input=says, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip
