"""Tarballs as NXP's scripts leave them: every certificate and every key as PEM and as DER, and copies of them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from digsigd.trial import TrialPki
from tests.daemon.rig import IMAGE, MACHINE, Daemon
from tests.proof import proven


def der_of(pem: bytes) -> bytes:
    text = pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])


def with_files(pki: TrialPki, files: dict[str, bytes]) -> bytes:
    return TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table).tarball()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("whole"), cst_base)
    crts = {name: data for name, data in pki.files.items() if "_crt.pem" in name}
    ders = {name.replace(".pem", ".der"): der_of(data) for name, data in crts.items()}
    rest = {name: data for name, data in pki.files.items() if name not in crts}
    copies = {f"copy/{name.rpartition('/')[2]}": data for name, data in {**crts, **ders}.items()}
    daemon.put_keys("both", with_files(pki, {**pki.files, **ders, **copies, "copy/table.bin": pki.srk_table}))
    daemon.put_keys("der-alone", with_files(pki, {**rest, **ders}))
    elsewhere = {name.replace("keys/", "private/"): data for name, data in pki.files.items()}
    daemon.put_keys("keys-elsewhere", with_files(pki, elsewhere))
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize("machine", ["both", "der-alone", "keys-elsewhere", MACHINE])
@pytest.mark.parametrize("ending", ["pem", "der"])
def test_the_key_is_found(
    daemon: Daemon, pki: TrialPki, version: str, machine: str, ending: Literal["pem", "der"]
) -> None:
    """By either ending, whichever of certificate and key is there in which form, with both csts."""
    text = pki.csf(IMAGE.blocks("spl.bin"), prefix="nowhere/").replace("crt.pem", f"crt.{ending}")
    answer = daemon.post(pki, csf=text, machine=machine, cstversion=version)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)
