"""Hosts of a fleet: daemons behind a load balancer, with keys in S3 and the record in PostgreSQL if there are these."""

from __future__ import annotations

import signal
from pathlib import Path

from digsigd.testing import TrialPki
from tests.fleet.balancers import Balancer
from tests.helpers.daemons import MACHINE, RIGHTS, TOKEN, Daemon
from tests.helpers.s3 import BUCKET, Store

CONFIG = """[listen]
endpoint = "tcp:{port}:interface=127.0.0.1"
[listen.tls]
certificate = "host.pem"
key = "host.key"
client_ca = "proxies.pem"
[listen.proxy]
caller_header = "X-Digsigd-Caller"
certificate = "sha256:{proxy}"
[record]
{record}
[callers.release]
{rights}
[callers.lab]
{rights}
[callers.yocto-release]
{rights}
[callers.builder]
token_file = "token"
{rights}
"""
S3 = """[keys.s3]
endpoint_url = "{url}"
region = "eu-central-1"
"""


class Host(Daemon):
    """A daemon that believes the load balancer in front of it, on a port that it keeps over restarts."""

    def __init__(
        self,
        folder: Path,
        cst_base: Path,
        pki: TrialPki,
        balancer: Balancer,
        port: int,
        *,
        s3: Store | None = None,
        database: str = "",
    ) -> None:
        folder.mkdir()
        self.balancer = balancer
        self.port = port
        self.state = folder / "state"
        (folder / "token").write_text(TOKEN)
        (folder / "proxies.pem").write_bytes(balancer.proxies.pem)
        record = f'url = "{database}"' if database else 'url = "none"'
        config = CONFIG.format(port=port, proxy=balancer.proxy_fingerprint, record=record, rights=RIGHTS)
        environ = {"STATE_DIRECTORY": str(self.state)}
        if s3 is not None:
            config += S3.format(url=s3.url)
            environ |= {
                "DIGSIGSERVER_KEYFILE_URI": f"s3://{BUCKET}/release%20keys",
                "AWS_ACCESS_KEY_ID": s3.key_id, "AWS_SECRET_ACCESS_KEY": s3.secret,
                "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent",
                "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            }  # fmt: skip
        super().__init__(folder, cst_base, config, environ=environ)
        self.put_keys(MACHINE, pki.tarball())
        self.new_certificate()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def new_certificate(self) -> bytes:
        """Give the host another certificate, and return it. A start or a reload takes it."""
        certificate, key = self.balancer.hosts.issue("host")
        (self.folder / "host.pem").write_bytes(certificate)
        (self.folder / "host.key").touch(mode=0o600)
        (self.folder / "host.key").write_bytes(key)
        return certificate

    def reload(self) -> None:
        """Send SIGHUP, and wait until it is done or refused."""
        assert self.process is not None
        before = self.log().count("reloaded")
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_log("reloaded", before + 1)
        assert "not reloaded" not in self.log()
