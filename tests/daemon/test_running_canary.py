"""The canary of a real daemon: it signs and verifies a known image, and a host that cannot is not ready."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from digsigd.signing.trial import NAME
from digsigd.testing import TrialImage, TrialPki
from tests.helpers.daemons import MACHINE, Daemon, Start
from tests.helpers.hsm import SoftHsm
from tests.helpers.scrapes import OWN_PORT, place, scraped, value

CANARY = f'{OWN_PORT}[canary]\nmachine = "{MACHINE}"\nevery = 0.2\n'


def is_ready(daemon: Daemon) -> bool:
    return httpx.get(f"{daemon.url}/readyz").status_code == 200


def test_a_host_is_ready_once_its_canary_has_signed(start: Start) -> None:
    """Through the whole path: its time and its runs show, and requests of clients are counted without it."""
    daemon = start(CANARY)
    url = place(daemon)
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    daemon.wait_for(lambda: value(scraped(url), "canary_runs_total", result="ok") >= 2, what="two runs")
    samples = scraped(url)
    assert value(samples, "canary_ok") == 1
    assert value(samples, "canary_seconds") > 0
    assert value(samples, "canary_last_success_timestamp_seconds") > 1e9
    assert value(samples, "canary_runs_total", result="failed") == 0
    assert value(samples, "requests_total", machine=MACHINE, outcome="signed") == 0
    assert value(samples, "record_entries") >= 2


def test_a_host_whose_keys_went_bad_is_not_ready(start: Start, pki: TrialPki) -> None:
    """It says why, and is ready again when the keys are."""
    daemon = start(CANARY)
    url = place(daemon)
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    daemon.put_keys(MACHINE, b"this is not a tarball")
    daemon.wait_for(lambda: not is_ready(daemon), what="a host that is not ready")
    assert "canary: the key tarball" in httpx.get(f"{daemon.url}/readyz").text
    assert value(scraped(url), "canary_ok") == 0
    assert value(scraped(url), "canary_runs_total", result="failed") >= 1
    assert "canary: cannot sign" in daemon.log()
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    daemon.wait_for(lambda: value(scraped(url), "canary_ok") == 1, what="a canary that signs")


def test_of_several_workers_one_has_the_canary(start: Start) -> None:
    """It speaks for the host: the others do not sign, too."""
    daemon = start(CANARY + "[daemon]\nworkers = 2\n", form="json")
    url = place(daemon)
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    daemon.wait_for(lambda: value(scraped(url), "canary_runs_total", result="ok") >= 3, what="three runs")
    lines = [json.loads(line) for line in daemon.log().splitlines() if '"caller": "canary"' in line]
    assert lines
    assert {line["worker"] for line in lines} == {1}


def test_the_canary_may_have_a_description_of_its_own(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """For keys that only a description names, such as those on a token. A wrong one is a reason not to be ready."""
    text = tmp_path / "canary.csf"
    text.write_text(pki.csf(TrialImage.of_size(0x4000).blocks(NAME)))
    daemon = start(CANARY + f'csf = "{text}"\n')
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    text.write_text("[Header]\n")
    daemon.wait_for(lambda: not is_ready(daemon), what="a host that is not ready")
    assert "canary: csf:" in httpx.get(f"{daemon.url}/readyz").text
    text.unlink()
    daemon.wait_for(lambda: "canary: No such file" in httpx.get(f"{daemon.url}/readyz").text, what="the reason")


def test_the_canary_signs_with_keys_on_a_token(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """And a host whose token is away is not ready. It shows when the certificates on the token expire."""
    hsm = SoftHsm(tmp_path / "hsm")
    hsm.init_token("release", "73915")
    hsm.put_pki("release", "73915", pki)
    (tmp_path / "pin").write_text("73915\n")
    text = tmp_path / "canary.csf"
    text.write_text(hsm.csf(pki, "release", TrialImage.of_size(0x4000).blocks(NAME)))
    daemon = start(
        f'{CANARY}backend = "pkcs11"\ncst_version = "3.4.1"\ncsf = "{text}"\n[pkcs11]\nmodule = "{SoftHsm.MODULE}"\n'
        f'paths = ["{hsm.folder}"]\n[pkcs11.tokens.release]\npin_file = "{tmp_path / "pin"}"\n[machines.{MACHINE}]\n',
        **hsm.environ,
    )
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
    # The tarball has no certificate: those on the token are seen in what they have signed.
    url = place(daemon)
    assert value(scraped(url), "certificate_expires_in_seconds", machine=MACHINE) > 3600
    hsm.folder.joinpath("tokens").rename(hsm.folder / "away")
    daemon.wait_for(lambda: not is_ready(daemon), what="a host that is not ready")
    hsm.folder.joinpath("away").rename(hsm.folder / "tokens")
    daemon.wait_for(lambda: is_ready(daemon), what="a ready host")
