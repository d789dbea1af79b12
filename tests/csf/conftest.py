"""Throw-away keys under the names that builds know them by, made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from digsigd.testing import TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.descriptions import Signer
from tests.helpers.keys import trial_keys

# Tarballs as samples expect them: by layout, their files by name.
Tarballs: TypeAlias = Callable[[str], Mapping[str, bytes]]


@pytest.fixture(scope="session")
def normal_pki() -> TrialPki:
    """SRKs with CA flag, and CSF and IMG keys below each, as NXP's scripts name them."""
    return trial_keys("rsa2048")


@pytest.fixture(scope="session")
def fast_pki() -> TrialPki:
    """SRKs without CA flag, which sign by themselves."""
    return trial_keys("rsa2048", fast_auth=True)


@pytest.fixture(scope="session")
def tarballs(normal_pki: TrialPki, fast_pki: TrialPki) -> Tarballs:
    """Files of a tarball by its layout; the keys are of 2048 bits whatever their names say, to be quick."""

    def renamed(pki: TrialPki, *pairs: tuple[str, str]) -> dict[str, bytes]:
        files = {}
        for name, content in pki.files.items():
            for old, new in pairs:
                name = name.replace(old, new)
            files[name] = content
        return files

    lmp = {
        "SRK_1_2_3_4_table.bin": normal_pki.srk_table,
        "key_pass.txt": normal_pki.files["keys/key_pass.txt"],
    }
    for role in ("CSF", "IMG"):
        for kind, folder in (("crt", "crts"), ("key", "keys")):
            lmp[f"{role}_1_{kind}.pem"] = normal_pki.files[f"{folder}/{role}1_1_sha256_2048_65537_v3_usr_{kind}.pem"]
    made = {
        "normal": normal_pki.files,
        "normal 1024": renamed(normal_pki, ("2048", "1024")),
        "normal 4096": renamed(normal_pki, ("2048", "4096")),
        "fast": fast_pki.files,
        "fast 4096": renamed(fast_pki, ("2048", "4096")),
        "lmp": lmp,
        "teensy": renamed(fast_pki, ("crts/", "key/"), ("keys/", "key/"), ("SRK_1_2_3_4_table", "SRK_table")),
    }
    return made.__getitem__


@pytest.fixture(scope="session", params=CST_VERSIONS)
def cst(request: pytest.FixtureRequest, cst_base: Path) -> Path:
    """A real cst."""
    return cst_base / f"cst-{request.param}" / "linux64/bin/cst"


@pytest.fixture
def signer(cst: Path, tmp_path: Path) -> Signer:
    """Signs with that cst, each time in a new folder."""
    return Signer(cst, tmp_path)
