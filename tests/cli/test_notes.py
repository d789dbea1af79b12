"""Remarks on keys that sign all the same: expired certificates and trial keys, in the log, a header, and `digsign`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.pki import KeyKind, Pki, Protection, Validity
from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.commands import Run
from tests.helpers.daemons import MACHINE, Daemon

FAST = "fast-machine"


def keys(*, fast_auth: bool = False) -> TrialPki:
    """Keys as `digsign pki new --trial` makes them, whose certificates expired ten days ago."""
    kind: KeyKind = "p256" if fast_auth else "rsa2048"
    made = Pki.make(
        kind,
        Validity.of_days(-10),
        Protection("pass-phrase-of-a-test"),
        srks=1,
        prefix="TRIAL ",
        ca_kind="p256",
        fast_auth=fast_auth,
    )
    return TrialPki(made.files, kind, fast_auth, made.srk_table)


@pytest.fixture(scope="module")
def pki() -> TrialPki:
    return keys()


@pytest.fixture(scope="module")
def fast_pki() -> TrialPki:
    return keys(fast_auth=True)


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki, fast_pki: TrialPki
) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("notes"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys(FAST, fast_pki.tarball())
    daemon.start()
    yield daemon
    daemon.stop()


def test_an_answer_and_the_log_have_what_is_remarkable(daemon: Daemon, pki: TrialPki) -> None:
    """Expired certificates and trial keys, of the CSF key and of the key of the image, with names."""
    answer = daemon.post(pki, headers={"X-Request-Id": "notes-1"})
    assert answer.status_code == 200, answer.text
    notes = answer.headers.get_list("X-Digsigd-Note")
    assert len(notes) == 4
    for words in ("of the CSF key (TRIAL CSF1_1_", "of key 2 (TRIAL IMG1_1_"):
        assert sum(words in note and ") expired on 2" in note for note in notes) == 1, notes
        assert sum(words in note and ") is of trial keys" in note for note in notes) == 1, notes
    logged = [line for line in daemon.log().splitlines() if "[notes-1] note: " in line]
    assert [line.partition(" note: ")[2].rpartition(" (")[0] for line in logged] == notes
    assert all(" warn " in line for line in logged)


def test_fast_authentication_is_remarked_on(daemon: Daemon, fast_pki: TrialPki) -> None:
    """Although the CSF blob has no certificate of the SRK."""
    answer = daemon.post(fast_pki, machine=FAST)
    assert answer.status_code == 200, answer.text
    trial, expired = answer.headers.get_list("X-Digsigd-Note")
    assert trial.startswith("the certificate of the SRK (TRIAL SRK1_")
    assert ") expired on 2" in expired


def test_digsign_shows_each_remark_once(daemon: Daemon, digsign: Run, tmp_path: Path) -> None:
    """For an image of several parts; with --quiet none."""
    (tmp_path / "image").write_bytes(golden.flash("mm", "binman"))
    command = ("sign", "image", "-o", "signed", "--server", daemon.url, "--machine", MACHINE)
    done = digsign(*command)
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if "TRIAL" in line]
    assert len(notes) == len(set(notes)) == 4, done.stderr
    assert all(line.startswith("note: the certificate of ") for line in notes)
    assert sum(" expired on " in line for line in notes) == 2
    done = digsign(*command, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
