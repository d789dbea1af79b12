"""Remarks on keys that sign all the same: expired certificates and trial keys, in the log, a header, and `digsign`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.pki import KeyKind, Pki, Protection, Validity
from digsigd.pki_ahab import AhabPki
from digsigd.testing import TrialAhabImage, TrialAhabPki, TrialImage, TrialPki
from tests.helpers import golden
from tests.helpers.ahab_daemons import post_ahab
from tests.helpers.commands import Run
from tests.helpers.daemons import MACHINE, Daemon

FAST, AHAB, UNKNOWN = "fast-machine", "ahab-board", "board-of-any-chip"


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
def ahab_pki() -> TrialAhabPki:
    """The same for AHAB, with SGKs."""
    validity, protection = Validity.of_days(-10), Protection("pass-phrase-of-a-test")
    return TrialAhabPki(AhabPki.make("p256", validity, protection, sgk=True, prefix="TRIAL ", ca_kind="p256"))


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory,
    cst_base: Path,
    pki: TrialPki,
    fast_pki: TrialPki,
    ahab_pki: TrialAhabPki,
) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("notes"), cst_base, f'[machines.{AHAB}]\nsoc = "mx8x"\n')
    for machine in (AHAB, UNKNOWN):
        daemon.put_keys(machine, ahab_pki.tarball())
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


def test_ahab_keys_are_remarked_on(daemon: Daemon, ahab_pki: TrialAhabPki, digsign: Run, tmp_path: Path) -> None:
    """Those of the SRK and of the SGK, although a container has no certificate with a name or a date."""
    image = TrialAhabImage.of_size(0x20000)
    text = ahab_pki.csf("flash.bin", *image.containers[0])
    answer = post_ahab(daemon, text=text, data=image.data, machine=AHAB)
    assert answer.status_code == 200, answer.text
    notes = answer.headers.get_list("X-Digsigd-Note")
    assert len(notes) == 4
    for words in ("the certificate of the SRK (TRIAL SRK1_", "the certificate (SGK) (TRIAL SGK1_"):
        assert sum(note.startswith(words) and ") expired on 2" in note for note in notes) == 1, notes
        assert sum(note.startswith(words) and ") is of trial keys" in note for note in notes) == 1, notes
    # Also once the keys are known to be good.
    again = post_ahab(daemon, text=text, data=image.data, machine=AHAB)
    assert again.headers.get_list("X-Digsigd-Note") == notes
    (tmp_path / "flash.bin").write_bytes(image.data)
    command = ("sign", "flash.bin", "-o", "signed", "--server", daemon.url, "--machine", AHAB, "--soc", "imx8qxp")
    done = digsign(*command)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "(TRIAL SRK1_" in line]
    assert len(told) == len(set(told)) == 2, done.stderr


def test_keys_for_the_other_way_to_boot_are_told(
    daemon: Daemon, pki: TrialPki, ahab_pki: TrialAhabPki, digsign: Run, tmp_path: Path
) -> None:
    """Not that a name or a byte of a table is wrong: that the machine is."""
    image = TrialAhabImage.of_size(0x20000)
    text = ahab_pki.csf("flash.bin", *image.containers[0])
    # With names that the other tarball has not, and with those that it has.
    there = re.sub(r"\[Install Certificate\][^\[]*", "", text).replace(
        ahab_pki.certificate(), "crts/SRK1_sha256_2048_65537_v3_ca_crt.pem"
    )
    for one in (text, there):
        answer = post_ahab(daemon, text=one, data=image.data, machine=MACHINE)
        assert answer.status_code == 422
        assert f"the description is for AHAB, but the keys of machine '{MACHINE}' are for HAB" in answer.text
    # The host knows no chip of this one.
    answer = daemon.post(pki, machine=UNKNOWN)
    assert answer.status_code == 422
    assert f"the description is for HAB, but the keys of machine '{UNKNOWN}' are for AHAB" in answer.text
    (tmp_path / "spl.bin").write_bytes(TrialImage.of_size(0x4000).data)
    done = digsign("sign", "spl.bin", "-o", "signed", "--server", daemon.url, "--machine", AHAB)
    assert f"machine '{AHAB}' has no SRK table for HAB; its table is for AHAB" in done.stderr


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
