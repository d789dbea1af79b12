"""What tests of the signature provider for SPSDK share: a host with machines for AHAB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ahab_cases
from tests.helpers.daemons import RIGHTS, TOKEN, Daemon
from tests.helpers.spsdk_regions import TABLE

# Machines that are called by their keys.
KEYS = ("p384", "p256", "p521", "pss2048")


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    """One that wants a token. One of its callers may revoke SRKs, the other one may not.

    "bare" has the keys of p384 and no soc, "both" a second table with other keys, "v2" only a table for version 2.
    """
    folder = tmp_path_factory.mktemp("host")
    config = '[policy]\nallow = ["ahab-revocations"]\n'
    for caller, name in (("ci", "token"), ("other", "other")):
        (folder / name).write_text(f"{TOKEN}-{name}\n")
        config += f'[callers.{caller}]\ntoken_file = "{folder / name}"\n{RIGHTS}'
    config += '[callers.ci.csf]\nallow = ["ahab-revocations"]\n'
    config += "".join(f'[machines.{name}]\nsoc = "mx93"\n' for name in (*KEYS, "both"))
    daemon = Daemon(folder, cst_base, config)
    for name in KEYS:
        daemon.put_keys(name, ahab_cases.tarball(name))
    p384 = ahab_cases.members("p384")
    daemon.put_keys("bare", ahab_cases.tarball("p384"))
    other = {name: data for name, data in ahab_cases.members("p256").items() if "SRK" in name}
    other["crts/other_table.bin"] = other.pop(TABLE)
    daemon.put_keys("both", ahab_cases.packed({**p384, **other}))
    daemon.put_keys("v2", ahab_cases.packed({name: data for name, data in p384.items() if name != TABLE}))
    yield daemon.start()
    daemon.stop()
