"""From an image back to who had it signed: by the statement of digsign, and by the record itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.admin.main import main as digsigd
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.daemons import MACHINE, RIGHTS, TOKEN, Daemon
from tests.helpers.keys import trial_keys


@pytest.fixture
def daemon(tmp_path: Path, cst_base: Path) -> Iterator[Daemon]:
    config = f'[callers.release]\ntoken_file = "token"\n{RIGHTS}'
    one = Daemon(tmp_path, cst_base, config, environ={"STATE_DIRECTORY": str(tmp_path / "state")})
    one.put_keys(MACHINE, release_keys().tarball())
    (tmp_path / "token").write_text(TOKEN + "\n")
    yield one.start()
    one.stop()


def release_keys() -> TrialPki:
    return trial_keys("rsa2048", srks=2)


def test_an_image_leads_to_its_entries(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each signed part of it: statement, entry and image name the same CSF blobs, keys and bytes."""
    monkeypatch.setenv("DIGSIGN_TOKEN", TOKEN)
    image, out, statement = tmp_path / "flash.bin", tmp_path / "signed.bin", tmp_path / "statement.json"
    image.write_bytes(golden.flash("mm", "nxp-new"))
    # A process of its own: it runs a reactor.
    command: list[str | Path] = [
        "-m",
        "digsigd.cli.main",
        "sign",
        image,
        "-o",
        out,
        "--server",
        daemon.url,
        "--machine",
        MACHINE,
    ]
    subprocess.run([sys.executable, *command, "--provenance", statement], check=True, capture_output=True)
    said = json.loads(statement.read_text())
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["subject"] == [
        {"name": "signed.bin", "digest": {"sha256": hashlib.sha256(out.read_bytes()).hexdigest()}}
    ]
    built = said["predicate"]["buildDefinition"]
    assert built["resolvedDependencies"][0]["digest"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert built["externalParameters"]["fuse_value"] == release_keys().fuse_value.hex()
    parts = said["predicate"]["runDetails"]["byproducts"]
    assert len(parts) == 3
    where = ["--folder", str(tmp_path / "state")]
    capsys.readouterr()
    for part in parts:
        assert digsigd(["record", "show", part["annotations"]["record"], *where]) == 0
        entry = json.loads(capsys.readouterr().out)
        assert entry["blob"]["sha256"] == part["digest"]["sha256"]
        assert entry["certificates"] == part["annotations"]["certificates"]
        assert entry["caller"] == "release"
    assert digsigd(["record", "who", str(out), *where]) == 0
    shown = capsys.readouterr().out
    assert shown.count('"caller": "release"') == 3
    assert all(part["annotations"]["record"] in shown for part in parts)
    assert digsigd(["record", "who", str(image), *where]) == 1
    capsys.readouterr()
    assert digsigd(["record", "list", "--caller", "release", *where]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert digsigd(["record", "list", "--caller", "other", *where]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert digsigd(["record", "export", "--json", "--machine", MACHINE, *where]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [json.loads(line["entry"])["outcome"] for line in lines] == ["signed"] * 3
    assert digsigd(["record", "verify", *where]) == 0
