"""What tests of the signature provider for SPSDK share: a host with machines for AHAB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ahab_cases
from tests.helpers.daemons import RIGHTS, TOKEN, Daemon

# Machines by the name of their keys.
MACHINES = ("p384", "p256", "p521", "pss2048", "r2048")


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    """One that wants a token, whose caller may revoke SRKs."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "token").write_text(TOKEN + "\n")
    caller = f'[callers.ci]\ntoken_file = "{folder}/token"\n{RIGHTS}'
    socs = "".join(f'[machines.{name}]\nsoc = "mx93"\n' for name in MACHINES if name != "r2048")
    policy = '[policy]\nallow = ["ahab-revocations"]\n[callers.ci.csf]\nallow = ["ahab-revocations"]\n'
    daemon = Daemon(folder, cst_base, f"{policy}{caller}{socs}")
    for name in MACHINES:
        daemon.put_keys(name, ahab_cases.tarball(name))
    yield daemon.start()
    daemon.stop()
