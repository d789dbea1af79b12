"""What is left out where the installed cryptography has no ML-DSA, and cannot make the keys."""

from __future__ import annotations

from tests.helpers import ahab_forge

collect_ignore = [] if ahab_forge.HAS_ML_DSA else ["test_ahab_hybrid.py"]
