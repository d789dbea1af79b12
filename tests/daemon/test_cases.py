"""Requests as people send them: tests/samples/cases, with both csts."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.daemons import DEADLINE, Daemon
from tests.helpers.keys import trial_keys

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "samples/cases").glob("*/expect"))

KEYS: dict[str, tuple[KeyKind, int]] = {"imx2048": ("rsa2048", 2), "imx4096": ("rsa4096", 1)}


def pki_of(machine: str) -> TrialPki:
    """The keys of a machine."""
    kind, srks = KEYS[machine]
    return trial_keys(kind, srks=srks)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("cases"), cst_base)
    for machine in KEYS:
        daemon.put_keys(machine, pki_of(machine).tarball())
    yield daemon.start()
    daemon.stop()


def test_there_are_cases() -> None:
    """None is lost on the way."""
    assert len(CASES) >= 12


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_answered_as_it_has_to_be(daemon: Daemon, case: Path, version: str) -> None:
    """Signed, or refused with a status and words that say whose mistake it is."""
    expect = dict(line.split("=", 1) for line in (case / "expect").read_text().splitlines())
    text = (case / "csf.txt").read_bytes()
    machine = expect.get("machine", "imx2048")
    # Four SRKs would take long to make.
    text = text.replace(b"crts/SRK_1_2_3_4_table.bin", pki_of(machine).table().encode())
    files: list[tuple[str, tuple[str | None, bytes] | tuple[str, bytes, str]]] = [
        ("machine", (None, machine.encode())),
        ("cstversion", (None, version.encode())),
        ("csf", ("csf.txt", text, "text/plain")),
    ]
    for path in sorted(case.iterdir()):
        if path.name not in {"csf.txt", "expect"}:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            files.append(("artifact", (path.name.removesuffix(".gz"), data)))
    answer = httpx.post(f"{daemon.url}/sign/imx", files=files, timeout=DEADLINE)
    assert answer.status_code == int(expect["status"]), answer.text
    if answer.status_code == 200:
        assert answer.content[0] == 0xD4
    else:
        assert expect.get("has", "").lower() in answer.text.lower()
