"""What each caller may sign, tried with real images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx import Response

from digsigd.callers.tokens import new_token, sha256_of
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, RIGHTS, USE, Daemon

NAMES = ("bold", "timid", "none", "old")
TOKENS = {name: new_token() for name in NAMES}
# U-Boot on an i.MX 8M asks for it to write the zeroizable master key.
UNLOCK = "[Unlock]\n    Engine = SNVS\n    Features = LP SWR\n"


def configured() -> str:
    rights = {
        "bold": f'{RIGHTS}csf.allow = ["unlock-snvs-lp-swr"]\n',
        "timid": RIGHTS,
        "none": USE,
        "old": f'machines = ["{MACHINE}"]\nbackends = ["ssl"]\ncst_versions = ["3.*"]\n',
    }
    text = f'[machines.{MACHINE}]\nallow = ["unlock-snvs-lp-swr"]\n'
    for name in NAMES:
        text += f"[callers.{name}]\n{rights[name]}"
        text += f'[[callers.{name}.tokens]]\nsha256 = "{sha256_of(TOKENS[name].encode()).hex()}"\n'
    return text


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("rights"), cst_base, configured())
    for machine in (MACHINE, "another"):
        daemon.put_keys(machine, pki.tarball())
    yield daemon.start()
    daemon.stop()


def signed_by(
    daemon: Daemon, pki: TrialPki, name: str, *, unlock: bool = False, machine: str = MACHINE, cstversion: str = "3.4.1"
) -> Response:
    text = pki.csf(IMAGE.blocks("spl.bin"))
    if unlock:
        text = text.replace("[Install Key]", UNLOCK + "\n[Install Key]", 1)
        assert UNLOCK in text
    headers = {"Authorization": f"Bearer {TOKENS[name]}"}
    return daemon.post(pki, csf=text, headers=headers, machine=machine, cstversion=cstversion)


def test_a_caller_unlocks_only_what_it_and_the_machine_may(daemon: Daemon, pki: TrialPki) -> None:
    """Both have to allow it: the table of the caller, and that of the machine."""
    assert signed_by(daemon, pki, "bold", unlock=True).status_code == 200
    assert signed_by(daemon, pki, "bold").status_code == 200
    refused = signed_by(daemon, pki, "timid", unlock=True)
    assert (refused.status_code, "unlock-snvs-lp-swr" in refused.text) == (422, True)
    assert signed_by(daemon, pki, "timid").status_code == 200
    assert signed_by(daemon, pki, "bold", unlock=True, machine="another").status_code == 422


def test_a_caller_without_machines_signs_nothing(daemon: Daemon, pki: TrialPki) -> None:
    """What is not listed is not allowed; the start says so."""
    refused = signed_by(daemon, pki, "none")
    assert (refused.status_code, "may not sign for machine" in refused.text) == (403, True)
    daemon.wait_for_log("not safe: callers.none: may sign nothing")


def test_a_caller_signs_with_its_versions_of_cst(daemon: Daemon, pki: TrialPki) -> None:
    """Any other is refused before the image is read."""
    assert signed_by(daemon, pki, "old").status_code == 200
    refused = signed_by(daemon, pki, "old", cstversion="4.0.1")
    assert (refused.status_code, "may not use cst 4.0.1" in refused.text) == (403, True)
    assert signed_by(daemon, pki, "timid", cstversion="4.0.1").status_code == 200
