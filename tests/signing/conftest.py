"""Tools to put in cst's place, a look at what they left running, and a small PKI for the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from digsigd.signing.cst import CstRun, CstRunner, Limits

ROOMY = Limits(cpu_seconds=60, memory=4 << 30, file_size=64 << 20, open_files=64)


@dataclass
class Rig:
    """A directory to run in, tools to run, and a mark in the environment of whatever comes of a run."""

    folder: Path
    mark: str = field(default_factory=lambda: f"rig-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.cwd = self.folder / "here"
        self.cwd.mkdir()

    def shell(self, text: str) -> str:
        """A tool written in shell."""
        return self._tool("#!/bin/sh\n" + text)

    def python(self, text: str) -> str:
        """A tool written in Python."""
        return self._tool(f"#!{sys.executable} -ES\n" + text)

    def _tool(self, text: str) -> str:
        path = self.folder / f"tool-{uuid.uuid4().hex}"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    async def run(
        self,
        runner: CstRunner,
        tool: str,
        *arguments: str,
        limits: Limits = ROOMY,
        timeout: float | None = None,
    ) -> CstRun:
        return await runner.run(
            tool,
            arguments,
            cwd=str(self.cwd),
            limits=limits,
            environment={"RIG": self.mark},
            timeout=timeout,
        )

    def start(self, runner: CstRunner, tool: str, *arguments: str) -> Deferred[CstRun]:
        return Deferred.fromCoroutine(self.run(runner, tool, *arguments))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something outside of this process; the test's own timeout bounds it."""
        while not true():
            await deferLater(reactor, 0.005)

    async def wrote(self, name: str) -> str:
        """Wait for a file of the tool, whole with its last newline; its text."""
        path = self.cwd / name
        await self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text().strip()

    async def over(self, deferred: Deferred[CstRun], clock: Clock) -> None:
        """Let a clock run until a run is over."""
        while not self.fired(deferred):
            clock.advance(0.05)
            await deferLater(reactor, 0.005)

    def fired(self, deferred: Deferred[CstRun]) -> bool:
        """Whether it has its result. A cancelled one is called at once, and waits for its coroutine."""
        return deferred.called and not deferred.paused

    def left(self) -> list[str]:
        """The processes that carry the mark and are more than zombies, in any group and session."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    found.append(f"{process.name}: {(process / 'cmdline').read_bytes()!r}")
            except OSError:
                continue
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig whose runs have to leave no process behind."""
    made = Rig(tmp_path)
    yield made
    left = made.left()
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(int(process.partition(":")[0]), signal.SIGKILL)
    assert left == []


@pytest.fixture
def runner() -> CstRunner:
    return CstRunner(reactor)


def _run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "OPENSSL_CONF": str(cwd / "openssl.cnf")}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def signing_folder(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Path:
    """What a real cst needs to sign: an SRK, a CSF and an IMG key, an SRK table, an image, a description."""
    folder = tmp_path_factory.mktemp("pki")
    for name in ("keys", "crts"):
        (folder / name).mkdir()
    (folder / "openssl.cnf").write_text(
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n"
        "subjectKeyIdentifier=hash\n[leaf]\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )
    signer = ("-CA", "crts/SRK1_crt.pem", "-CAkey", "keys/SRK1_key.pem")
    for name, kind, issuer in (("SRK1", "ca", ()), ("CSF1", "leaf", signer), ("IMG1", "leaf", signer)):
        key, certificate = f"keys/{name}_key.pem", f"crts/{name}_crt.pem"
        _run("openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", key, cwd=folder)
        _run(
            *("openssl", "req", "-x509", "-new", "-days", "2", "-subj", f"/CN={name}", "-extensions", kind),
            *("-key", key, "-out", certificate, *issuer),
            cwd=folder,
        )
    srktool = cst_base / "cst-3.4.1/linux64/bin/srktool"
    _run(
        *(srktool, "-h", "4", "-t", "SRK_table.bin", "-e", "SRK_fuse.bin", "-d", "sha256", "-f", "1"),
        *("-c", "crts/SRK1_crt.pem"),
        cwd=folder,
    )
    (folder / "image.bin").write_bytes(bytes(range(256)) * 16)
    (folder / "trial.csf").write_text(
        "[Header]\nVersion = 4.3\nHash Algorithm = sha256\nEngine = CAAM\nEngine Configuration = 0\n"
        "Certificate Format = X509\nSignature Format = CMS\n"
        '[Install SRK]\nFile = "SRK_table.bin"\nSource index = 0\n'
        '[Install CSFK]\nFile = "crts/CSF1_crt.pem"\n[Authenticate CSF]\n'
        '[Install Key]\nVerification index = 0\nTarget index = 2\nFile = "crts/IMG1_crt.pem"\n'
        '[Authenticate Data]\nVerification index = 2\nBlocks = 0x7e0fc0 0x0 0x1000 "image.bin"\n'
    )
    return folder
