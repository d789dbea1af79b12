"""The real cst, and keys that all tests of images share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hab.blobs import Signing


@pytest.fixture(scope="session")
def signing(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Signing:
    """The real cst, both versions, and keys of every kind."""
    return Signing(cst_base, lambda: tmp_path_factory.mktemp("signing"))
