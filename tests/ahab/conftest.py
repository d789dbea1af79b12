"""What is left out where the installed cryptography has no ML-DSA, and cannot make the keys. Tables are read anew."""

from __future__ import annotations

import pytest

from digsigd.ahab import srk
from tests.helpers import ahab_forge

collect_ignore = [] if ahab_forge.HAS_ML_DSA else ["test_ahab_hybrid.py"]


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """What an earlier test has read would hide that a table is not read as it should be."""
    srk._parsed.cache_clear()
