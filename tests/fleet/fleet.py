"""A whole fleet on loopback: daemons behind HAProxy, PostgreSQL and S3, and what happens to it while clients sign."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from digsigd.record.audit import audit
from digsigd.record.database import Database
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import logs_of
from digsigd.testing import TrialPki
from tests.fleet.balancers import HAProxy, der, served_at
from tests.fleet.clients import Task, description_blocks
from tests.fleet.hosts import Host
from tests.fleet.processes import cpu_seconds
from tests.helpers.daemons import TOKEN
from tests.helpers.key_servers import MACHINE
from tests.helpers.ports import own_ports
from tests.helpers.postgres import Postgres
from tests.helpers.s3 import Store

ROOT = Path(__file__).parent.parent.parent
NEW_VERSION = "999.0.0"
# What HAProxy counts: requests, retries, those that went to another host, failed connections, answers that broke off.
COUNTS = ("stot", "wretr", "wredis", "econ", "eresp")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a fleet does. `gap` is the number of images that must be signed between two events."""

    images: int
    clients: int
    hosts: int
    code: int
    gap: int
    seconds: float


QUICK = Size(images=60, clients=6, hosts=2, code=0x4000, gap=6, seconds=240)
FULL = Size(images=3000, clients=32, hosts=3, code=0x10000, gap=250, seconds=570)


class Fleet:
    """The servers of one fleet, from `with` to its end. `events` has the name, the begin and the end of each event."""

    def __init__(self, folder: Path, cst_base: Path, pki: TrialPki, size: Size) -> None:
        self.folder, self.size, self._pki = folder, size, pki
        self.events: list[tuple[str, float, float]] = []
        self.counts: Counter[str] = Counter()
        self._stack = ExitStack()
        with self._stack:
            self.postgres = Postgres()
            self._stack.callback(self.postgres.remove)
            self.store = Store(folder)
            self._stack.callback(self.store.stop)
            (folder / "keys.tar.gz").write_bytes(pki.tarball())
            self.store.set_up(folder / "keys.tar.gz")
            ports = own_ports(size.hosts)
            self.balancer = HAProxy([f"127.0.0.1:{port}" for port in ports])
            self._stack.callback(self.balancer.stop)
            self.hosts = [
                Host(
                    folder / f"host{number}",
                    cst_base,
                    pki,
                    self.balancer,
                    port,
                    s3=self.store,
                    database=self.postgres.url,
                )
                for number, port in enumerate(ports, 1)
            ]
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Self:
        with self._stack:
            for host in self.hosts:
                self._stack.callback(host.kill)
                host.start()
            self.balancer.start()
            for number in range(1, len(self.hosts) + 1):
                self.balancer.wait_for_status(f"sign{number}", "UP")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            if kind is None:
                # In order, with a look at what each has logged.
                for host in self.hosts:
                    host.stop()

    def task(self) -> Task:
        """Return what the clients do: some have a certificate, some a token."""
        folder = self.balancer.folder
        return Task(
            url=f"https://localhost:{self.balancer.port}",
            ca_file=str(folder / "hosts-ca.pem"),
            callers=[
                ("release", str(folder / "release.pem"), ""),
                ("builder", "", TOKEN),
                ("lab", str(folder / "lab.pem"), ""),
            ],
            clients=self.size.clients, images=self.size.images, code=self.size.code, machine=MACHINE,
            description=self._pki.csf(description_blocks(self.size.code)),
            srk_table=self._pki.srk_table.hex(), fuse_value=self._pki.fuse_value.hex(), folder=str(self.folder),
        )  # fmt: skip

    @contextmanager
    def event(self, name: str) -> Iterator[None]:
        """Note when something happened."""
        began = time.monotonic()
        yield
        self.events.append((name, began, time.monotonic()))

    def kill(self, number: int) -> None:
        """Kill a host with SIGKILL while it has requests, and wait until the load balancer has noticed."""
        process, name = self.hosts[number - 1].process, f"sign{number}"
        assert process is not None
        least = max(1, self.size.clients // 16)
        self.balancer.wait_for(lambda: int(self.balancer.servers()[name]["scur"]) >= least, f"requests at {name}")
        process.kill()
        process.wait()
        self.balancer.wait_for_status(name, "DOWN")

    def start(self, number: int) -> None:
        """Start a host again, and wait until it gets requests."""
        self.hosts[number - 1].start()
        self.balancer.wait_for_status(f"sign{number}", "UP")

    def upgrade(self, number: int) -> None:
        """Drain a host, stop it, start another version of digsigd in its place, and let it sign."""
        name, host = f"sign{number}", self.hosts[number - 1]
        self.balancer.drain(name)
        host.stop()
        tree = self.folder / "new"
        new_version(tree)
        for one in [one for one in host.environ if one.startswith("COVERAGE")]:
            del host.environ[one]
        host.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": ""}
        host.start()
        assert list(tree.glob("digsigd/__pycache__/service.*.pyc")), "the new version does not run"
        self.balancer.ready(name)

    def restart_database(self) -> None:
        """Restart PostgreSQL as an upgrade of its package does: connections are closed, nothing is lost."""
        self.postgres.stop(signal.SIGINT)
        self.postgres.start()

    def rotate(self, number: int) -> None:
        """Give a host and the load balancer new certificates, and wait until clients see them."""
        host = self.hosts[number - 1]
        expected = host.new_certificate()
        host.reload()
        assert served_at(host.port, self.balancer.folder / "hosts-ca.pem") == der(expected)
        self.count()
        self.balancer.reload(signal.SIGUSR2, self.balancer.new_certificate())

    def count(self) -> None:
        """Add up what HAProxy has counted; a reload begins at 0."""
        row = self.balancer.servers()["BACKEND"]
        self.counts.update({name: int(row[name] or 0) for name in COUNTS})

    def cpu(self) -> dict[str, float]:
        """Return the processor seconds of each server that was never restarted, with its children's."""
        assert self.balancer.process is not None
        return {
            "HAProxy": cpu_seconds(self.balancer.process.pid),
            "S3 server": cpu_seconds(self.store.pid),
            **{f"host {number}": cpu_seconds(host.pid) for number, host in enumerate(self.hosts, 1)},
        }

    def recorded(self) -> list[dict[str, Any]]:
        """Return the entries of all hosts, with their ids as `entry`, without those withdrawn. Each log verifies."""
        database = Database(self.postgres.url, read_only=True)
        logs = {log.hash: log for log in logs_of(database)}
        found: dict[str, dict[str, Any]] = {}
        try:
            for number, host in enumerate(self.hosts, 1):
                state = StateFolder(host.state)
                key = state.key()
                log, last = logs.pop(key.verifier.hash.hex()), state.last(key)
                assert audit(log, [last] if last else []).problems == []
                rows = database.all("SELECT position, data FROM entry WHERE log = ? ORDER BY position", (log.number,))
                for position, data in rows:
                    entry = json.loads(bytes(data))
                    found[log.record_id(position)] = {**entry, "entry": log.record_id(position), "number": number}
        finally:
            database.close()
        assert not logs
        for one in [one for one in found.values() if one["outcome"] == "withdrawn"]:
            del found[one["withdraws"]]
        return list(found.values())


def new_version(tree: Path) -> None:
    """Install the project into a folder as another version."""
    shutil.copytree(ROOT / "digsigd", tree / "digsigd", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "twisted/plugins", tree / "twisted/plugins", ignore=shutil.ignore_patterns("*cache*"))
    info = tree / f"digsigd-{NEW_VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: digsigd\nVersion: {NEW_VERSION}\n")
