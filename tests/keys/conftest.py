"""What tests of key stores on the web share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_twisted

from digsigd.testing import TrialPki
from tests.helpers.key_servers import KeyServers


@pytest_twisted.async_yield_fixture
async def key_servers(tmp_path: Path, pki: TrialPki) -> AsyncIterator[KeyServers]:
    key_servers = KeyServers(tmp_path, pki.tarball())
    yield key_servers
    await key_servers.stop()
