"""What all tests share: where the real Code Signing Tools are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CST_VERSIONS = ("3.4.1", "4.0.1")


@pytest.fixture(scope="session")
def cst_base() -> Path:
    """The folder with cst-3.4.1 and cst-4.0.1 in the layout of NXP's tarball. A missing one fails, it never skips."""
    default = Path(__file__).parent.parent / ".digsigd" / "nxp"
    base = Path(os.environ.get("DIGSIGSERVER_IMX_CST_BASE") or default)
    for version in CST_VERSIONS:
        for tool in ("cst", "srktool"):
            path = base / f"cst-{version}" / "linux64/bin" / tool
            if not path.is_file():
                pytest.fail(f"{path} is missing: `make test` gets it, or `etc/get-cst --base {base} {version}`")
    return base
