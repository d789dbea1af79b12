"""Tarballs as NXP's scripts leave them: every certificate and every key as PEM and as DER, and copies of them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from digsigd.hab.der import INTEGER, SEQUENCE, elements
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, Daemon
from tests.helpers.proof import proven


def der_of(pem: bytes) -> bytes:
    text = pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])


def with_files(pki: TrialPki, files: dict[str, bytes]) -> bytes:
    return TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table).tarball()


def with_serial(pki: TrialPki, name: str, serial: bytes) -> bytes:
    """A certificate below SRK 1 with another serial number, signed anew."""
    return below_srk_1(pki, pki.files[name], serial)


def below_srk_1(pki: TrialPki, pem: bytes, serial: bytes = b"\x07") -> bytes:
    """A certificate signed anew, by SRK 1."""
    (whole,) = elements(der_of(pem))
    body, algorithm, _ = elements(whole.content)
    parts = [one.whole for one in elements(body.content)]
    parts[1] = bytes([INTEGER, len(serial)]) + serial
    tbs = wrapped(SEQUENCE, b"".join(parts))
    key = load_pem_private_key(
        next(data for name, data in pki.files.items() if name.startswith("keys/SRK1_")), pki.pass_phrase.encode()
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = wrapped(SEQUENCE, tbs + algorithm.whole + wrapped(0x03, b"\0" + signature))
    return ssl.DER_cert_to_PEM_cert(der).encode()


def key_name(certificate: str) -> str:
    return certificate.replace("crts/", "keys/").replace("_crt", "_key")


def installing_again(pki: TrialPki, name: str, by: int = 0, place: int = 2) -> str:
    """A description that installs one key more, in the place of the first or in another."""
    first = pki.csf(IMAGE.blocks("spl.bin"))
    again = f"[Install Key]\nVerification index = {by}\nTarget index = {place}\n"
    assert "[Authenticate Data]" in first
    return first.replace("[Authenticate Data]", f'{again}File = "{name}"\n[Authenticate Data]')


def wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (
        bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")
    )
    return bytes([tag]) + length + content


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("whole"), cst_base)
    crts = {name: data for name, data in pki.files.items() if "_crt.pem" in name}
    ders = {name.replace(".pem", ".der"): der_of(data) for name, data in crts.items()}
    rest = {name: data for name, data in pki.files.items() if name not in crts}
    copies = {f"copy/{name.rpartition('/')[2]}": data for name, data in {**crts, **ders}.items()}
    daemon.put_keys("both", with_files(pki, {**pki.files, **ders, **copies, "copy/table.bin": pki.srk_table}))
    daemon.put_keys("der-alone", with_files(pki, {**rest, **ders}))
    misnamed = {name.replace(".der", ".pem"): data for name, data in ders.items()}
    daemon.put_keys("der-in-pem", with_files(pki, {**rest, **misnamed}))
    elsewhere = {name.replace("keys/", "private/"): data for name, data in pki.files.items()}
    daemon.put_keys("keys-elsewhere", with_files(pki, elsewhere))
    odd = {pki.certificate("CSF"): b"\0", pki.certificate("IMG"): b"\xfb"}
    changed = {name: with_serial(pki, name, serial) for name, serial in odd.items()}
    daemon.put_keys("odd-serials", with_files(pki, {**pki.files, **changed}))
    name = pki.certificate("IMG").rpartition("/")[2]
    another = {f"old/{name}": pki.files[pki.certificate("IMG", 2)]}
    another |= {f"old/{name.replace('_crt', '_key')}": pki.files[key_name(pki.certificate("IMG", 2))]}
    daemon.put_keys("two-of-a-name", with_files(pki, {**pki.files, **another}))
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize("machine", ["both", "der-alone", "der-in-pem", "keys-elsewhere", MACHINE])
@pytest.mark.parametrize("ending", ["pem", "der"])
def test_the_key_is_found(
    daemon: Daemon, pki: TrialPki, version: str, machine: str, ending: Literal["pem", "der"]
) -> None:
    """By either ending, whichever of certificate and key is there in which form, with both csts."""
    text = pki.csf(IMAGE.blocks("spl.bin"), prefix="nowhere/").replace("crt.pem", f"crt.{ending}")
    answer = daemon.post(pki, csf=text, machine=machine, cstversion=version)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_serial_numbers_of_any_sign_are_taken(daemon: Daemon, pki: TrialPki, version: str) -> None:
    """Certificates numbered 0 and -5 are those of keys as others are, and nobody is warned of them."""
    answer = daemon.post(pki, machine="odd-serials", cstversion=version)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)
    told = httpx.get(f"{daemon.url}/machines/odd-serials").json()
    assert {one["srk"] for one in told["certificates"]} == {1, 2}
    assert "arning" not in daemon.log()


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_a_key_may_be_installed_again_by_another_of_its_names(daemon: Daemon, pki: TrialPki, version: str) -> None:
    """With another folder, and as DER in place of PEM: it is the certificate that counts."""
    name = pki.certificate("IMG")
    base = name.rpartition("/")[2]
    for machine, again in (("both", name.replace(".pem", ".der")), ("both", f"copy/{base}"), (MACHINE, f"../{name}")):
        answer = daemon.post(pki, csf=installing_again(pki, again), machine=machine, cstversion=version)
        assert answer.status_code == 200, answer.text
        proven(pki, IMAGE, answer.content)


def test_another_key_of_the_same_name_is_not_installed_again(daemon: Daemon, pki: TrialPki) -> None:
    """Two members of a tarball with one last part may be two keys; whose paths are given, they are told apart."""
    base = pki.certificate("IMG").rpartition("/")[2]
    text = installing_again(pki, f"old/{base}").replace("Source index = 1", "Source index = 0")
    answer = daemon.post(pki, csf=text, machine="two-of-a-name")
    assert (answer.status_code, "another key is already installed as key 2" in answer.text) == (422, True), answer.text


def test_a_key_that_may_not_certify_verifies_no_other(daemon: Daemon, pki: TrialPki) -> None:
    """That a description has it do so is the client's mistake."""
    text = installing_again(pki, pki.certificate("IMG"), by=2, place=3)
    answer = daemon.post(pki, csf=text)
    assert answer.status_code == 422, answer.text
    assert "is verified with key 2, whose certificate has no CA flag" in answer.text


def test_a_key_verifies_what_it_has_signed(daemon: Daemon, pki: TrialPki) -> None:
    """A certificate of an authority may stand between; another's than its own it does not vouch for."""
    between = next(name for name in pki.files if "crts/SRK2_" in name)
    text = installing_again(pki, pki.certificate("CSF"), by=4, place=3)
    files = {**pki.files, "crts/MID_crt.pem": below_srk_1(pki, pki.files[between])}
    files["keys/MID_key.pem"] = pki.files[key_name(between)]
    daemon.put_keys("between", with_files(pki, files))
    middle = '[Install Key]\nVerification index = 0\nTarget index = 4\nFile = "MID_crt.pem"\n'
    for name, status in ((pki.certificate("CSF"), 422), (pki.certificate("IMG", 2), 200)):
        text = installing_again(pki, name, by=4, place=3)
        at = text.rindex("[Install Key]")
        answer = daemon.post(pki, csf=text[:at] + middle + text[at:], machine="between")
        assert answer.status_code == status, answer.text
        assert status == 200 or "is verified with key 4, which did not sign it" in answer.text
