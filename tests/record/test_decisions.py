"""Every decision of a real daemon is in the record before its answer leaves."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from digsigd.record.merkle import leaf_hash
from digsigd.record.note import VerifierKey
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, TOKEN, USE, Daemon

CALLER = f"""
[callers.team]
token_file = "token"
machines = ["imx8mm-*"]
{USE}
"""
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def daemon(tmp_path: Path, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """A daemon with a record of its own, one machine and one caller."""
    state = tmp_path / "state"
    one = Daemon(tmp_path, cst_base, CALLER, environ={"STATE_DIRECTORY": str(state)})
    one.put_keys(MACHINE, pki.tarball())
    (tmp_path / "token").write_text(TOKEN + "\n")
    yield one.start()
    if not one.process_ended():
        one.stop()


def entries(daemon: Daemon) -> list[tuple[int, bytes, bytes]]:
    """Position, leaf and data of each entry."""
    database = sqlite3.connect(daemon.folder / "state/record.sqlite")
    rows = database.execute("SELECT position, leaf, data FROM entry ORDER BY position").fetchall()
    database.close()
    return rows


def entry_of(daemon: Daemon, answer: httpx.Response) -> Any:
    """The entry that an answer names."""
    position = int(answer.headers["X-Digsigd-Record"].partition(".")[2])
    _, leaf, data = entries(daemon)[position]
    assert leaf == leaf_hash(data)
    return json.loads(data)


def test_an_answer_names_its_entry(daemon: Daemon, pki: TrialPki) -> None:
    """With who asked and how, what was signed with which keys and program, and the result."""
    answer = daemon.post(pki, headers={**BEARER, "X-Request-Id": "build-17", "traceparent": "00-ab-cd-01"})
    assert answer.status_code == 200
    entry = entry_of(daemon, answer)
    assert entry["outcome"] == "signed"
    assert (entry["caller"], entry["proof"], entry["address"]) == (
        "team",
        f"token {hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}",
        "127.0.0.1",
    )
    assert (entry["client_request"], entry["traceparent"]) == ("build-17", "00-ab-cd-01")
    assert len(entry["request"]) == 16
    assert (entry["machine"], entry["soctype"], entry["backend"]) == (MACHINE, "mx8m", "ssl")
    assert entry["cst"]["version"] == "3.4.1"
    assert entry["blob"] == {"sha256": hashlib.sha256(answer.content).hexdigest(), "size": len(answer.content)}
    assert entry["artifacts"] == [
        {"name": "spl.bin", "size": len(IMAGE.data), "sha256": hashlib.sha256(IMAGE.data).hexdigest()}
    ]
    assert entry["fuse_value"] == pki.fuse_value.hex()
    assert (
        entry["tarball"]["sha256"]
        == hashlib.sha256((daemon.keys / MACHINE / "imxsign/imx-cst-keys.tar.gz").read_bytes()).hexdigest()
    )
    assert len(entry["certificates"]) >= 2
    assert entry["blocks"]
    assert set(entry["milliseconds"]) == {"upload", "keys", "wait", "cst", "verify", "all"}


def test_refusals_are_recorded(daemon: Daemon, pki: TrialPki) -> None:
    """By the caller's rights, by policy, and early while the body still arrives; not those of unknown callers."""
    other = daemon.post(pki, headers=BEARER, machine="imx6ul")
    assert other.status_code == 403
    assert entry_of(daemon, other)["outcome"] == "not-allowed"
    assert entry_of(daemon, other)["machine"] == "imx6ul"
    long = daemon.post(pki, headers=BEARER, machine="imx6ul", data=bytes(4 << 20))
    assert long.status_code == 403
    assert entry_of(daemon, long)["outcome"] == "not-allowed"
    wrong = daemon.post(pki, headers=BEARER, csf="[Header]\nVersion = 4.3\n[Install Secret Key]\n")
    assert wrong.status_code in {400, 422}
    assert entry_of(daemon, wrong)["reason"]
    before = len(entries(daemon))
    assert daemon.post(pki, headers={"Authorization": "Bearer wrong-token-wrong"}).status_code == 401
    assert len(entries(daemon)) == before == 3


def test_the_key_is_public_and_its_file_is_not(daemon: Daemon) -> None:
    """GET /record/key answers with it, and it stays the same after a restart."""
    path = daemon.folder / "state/record.key"
    daemon.wait_for(lambda: httpx.get(f"{daemon.url}/record/key").status_code == 200)
    key = httpx.get(f"{daemon.url}/record/key").text
    VerifierKey.parse(key)
    assert path.stat().st_mode & 0o777 == 0o600
    daemon.stop()
    daemon.start()
    daemon.wait_for(lambda: httpx.get(f"{daemon.url}/record/key").status_code == 200)
    assert httpx.get(f"{daemon.url}/record/key").text == key


def test_without_a_record_there_is_no_signature(daemon: Daemon, pki: TrialPki) -> None:
    """503, said by /readyz, too; and signatures again once the record can be written."""
    assert daemon.post(pki, headers=BEARER).status_code == 200
    blocker = sqlite3.connect(daemon.folder / "state/record.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    answer = daemon.post(pki, headers=BEARER)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "X-Digsigd-Record" not in answer.headers
    assert "record" in httpx.get(f"{daemon.url}/readyz").text
    blocker.execute("ROLLBACK")
    blocker.close()
    assert daemon.post(pki, headers=BEARER).status_code == 200
    assert [json.loads(data)["outcome"] for _, _, data in entries(daemon)] == ["signed", "signed"]
