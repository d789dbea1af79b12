"""What tests of the client share: daemons, servers that mean harm, clients for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed

from digsigd.client._internal.api import SigningClient
from digsigd.client._internal.retries import Timeouts
from digsigd.client._internal.settings import ClientSettings
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, TOKEN, Daemon
from tests.helpers.hostile_servers import RawServer, Says
from tests.http.clocked import ClockedReactor

# Pauses between tries are short.
QUICK = Timeouts(first_pause=0.01)
MakeClient = Callable[..., SigningClient]
Serve = Callable[..., Awaitable[RawServer]]


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """One that anybody may use."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """One that wants a token, for one machine and backend, and takes up to 1 MiB."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN + "\n")
    caller = f'[callers.ci]\ntoken_file = "{folder}/token"\nmachines = ["{MACHINE}"]\nbackends = ["ssl"]\n'
    caller += 'cst_versions = ["*"]\n'
    daemon = Daemon(folder, cst_base, f"[upload]\nmax_artifact = 1048576\n{caller}")
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


@pytest_twisted.async_yield_fixture
async def client() -> AsyncIterator[MakeClient]:
    """Makes clients that are closed after the test."""
    made: list[SigningClient] = []

    def make(
        server: str,
        *,
        reactor: Any = installed,
        timeouts: Timeouts = QUICK,
        progress: Callable[[int, int], None] | None = None,
        on_retry: Callable[[str], None] | None = None,
        **settings: Any,
    ) -> SigningClient:
        settings = {"timeout": 200.0, "retries": 0, **settings}
        one = SigningClient(
            ClientSettings(server=server, **settings),
            reactor=reactor,
            progress=progress,
            on_retry=on_retry,
            timeouts=timeouts,
        )
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts raw servers that are gone after the test."""
    started: list[RawServer] = []

    async def start(*says: Says, early: bool = False, tls: Any = None) -> RawServer:
        server = await RawServer(*says, early=early).listen(tls)
        started.append(server)
        return server

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
def time() -> ClockedReactor:
    """A reactor whose time only the test moves."""
    return ClockedReactor()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "spl.bin"
    path.write_bytes(IMAGE.data)
    return path


@pytest.fixture
def order(image: Path, pki: TrialPki) -> dict[str, Any]:
    """What `sign` takes to sign the image."""
    return {
        "machine": MACHINE,
        "description": pki.csf(IMAGE.blocks("spl.bin")).encode(),
        "artifact": image,
        "artifact_name": "spl.bin",
        "cst_version": "3.4.1",
    }
