"""Tools to put in cst's place, a look at what they left running, and a small PKI for the real one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool

from digsigd.signing.cst import CstRunner
from digsigd.signing.threads import InThread, in_threads_of
from tests.helpers.tools import ToolFolder


@pytest.fixture
def tool_folder(tmp_path: Path) -> Iterator[ToolFolder]:
    """A tool_folder whose runs have to leave no process behind."""
    made = ToolFolder(tmp_path)
    yield made
    left = made.left()
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(int(process.partition(":")[0]), signal.SIGKILL)
    assert left == []


@pytest_twisted.async_yield_fixture
async def in_thread() -> AsyncIterator[InThread]:
    """Calls in a thread of a pool that ends with the test."""
    pool = ThreadPool(1, 2)
    pool.start()
    yield in_threads_of(reactor, pool)  # type: ignore[arg-type]
    pool.stop()


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
