"""What tests of key stores on the web share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted

from digsigd.testing import TrialPki
from tests.keys.webserver import Rig


@pytest.fixture(scope="module")
def pki() -> TrialPki:
    return TrialPki.make("p256", srks=1)


@pytest_twisted.async_yield_fixture
async def rig(tmp_path: Path, pki: TrialPki) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, pki.tarball())
    yield rig
    await rig.stop()
