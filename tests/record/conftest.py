"""Closes the databases that tests of the record leave open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.record.logs import OPEN


@pytest.fixture(autouse=True)
def _closed_databases() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()
