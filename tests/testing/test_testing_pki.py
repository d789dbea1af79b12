"""The keys of demonstrations and tests are what NXP's scripts make: names, layout, chain, table."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from digsigd import csf, hab
from digsigd.testing import TrialImage, TrialPki
from digsigd.testing.pki import KeyKind

BLOCKS = TrialImage.of_size(0x4000).blocks("spl.bin")


def certificate(pki: TrialPki, name: str) -> x509.Certificate:
    read = x509.load_pem_x509_certificate if name.endswith(".pem") else x509.load_der_x509_certificate
    return read(pki.files[name])


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "p521"])
def test_files_have_the_names_of_nxps_scripts(kind: KeyKind) -> None:
    """From which cst makes a key's name of its certificate's."""
    pki = TrialPki.make(kind, srks=2)
    label = {"rsa2048": "2048_65537", "p256": "secp256r1", "p384": "secp384r1", "p521": "secp521r1"}[kind]
    names = [f"SRK{n}_sha256_{label}_v3_ca" for n in (1, 2)]
    names += [f"{role}{n}_1_sha256_{label}_v3_usr" for role in ("CSF", "IMG") for n in (1, 2)]
    wanted = {f"crts/{name}_crt.pem" for name in names} | {f"keys/{name}_key.pem" for name in names}
    assert set(pki.files) == wanted | {"crts/SRK_1_2_table.bin", "keys/key_pass.txt"}


def test_fast_authentication_has_srks_only() -> None:
    """Which are no CAs."""
    pki = TrialPki.make("p256", fast_auth=True, srks=2, encrypted=False)
    assert sorted(pki.files) == [
        "crts/SRK1_sha256_secp256r1_v3_usr_crt.pem",
        "crts/SRK2_sha256_secp256r1_v3_usr_crt.pem",
        "crts/SRK_1_2_table.bin",
        "keys/SRK1_sha256_secp256r1_v3_usr_key.pem",
        "keys/SRK2_sha256_secp256r1_v3_usr_key.pem",
    ]
    assert [record.ca for record in hab.SrkTable.parse(pki.srk_table).records] == [False, False]


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_each_certificate_is_issued_by_its_srk(kind: KeyKind) -> None:
    """And by that alone."""
    pki = TrialPki.make(kind, srks=2, encrypted=False)
    srks = [certificate(pki, pki.certificate("SRK", number)) for number in (1, 2)]
    for number in (1, 2):
        for role in ("CSF", "IMG"):
            below = certificate(pki, pki.certificate(role, number))
            below.verify_directly_issued_by(srks[number - 1])
            with pytest.raises(ValueError, match=r"[Ii]ssuer"):
                below.verify_directly_issued_by(srks[2 - number])


@pytest.mark.parametrize("encoding", ["pem", "der"])
@pytest.mark.parametrize("encrypted", [True, False])
def test_keys_belong_to_their_certificates(encoding: str, encrypted: bool) -> None:
    """In PEM or DER, encrypted or plain; the pass phrase stands twice beside them, as NXP's scripts write it."""
    pki = TrialPki.make("p256", srks=1, encoding=encoding, encrypted=encrypted)  # type: ignore[arg-type]
    read = serialization.load_pem_private_key if encoding == "pem" else serialization.load_der_private_key
    password = pki.pass_phrase.encode() if encrypted else None
    keys = [name for name in pki.files if name.endswith(f"_key.{encoding}")]
    assert len(keys) == 3
    for name in keys:
        key = read(pki.files[name], password)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        crt = name.replace("keys/", "crts/").replace("_key.", "_crt.")
        assert key.public_key() == certificate(pki, crt).public_key()
    assert ("keys/key_pass.txt" in pki.files) == encrypted
    if encrypted:
        assert pki.files["keys/key_pass.txt"].decode().split() == [pki.pass_phrase] * 2


@pytest.mark.parametrize(("kind", "size"), [("rsa2048", 2048), ("rsa3072", 3072), ("p384", 384), ("p521", 521)])
def test_keys_have_the_size_asked_for(kind: KeyKind, size: int) -> None:
    """In the table too."""
    pki = TrialPki.make(kind, srks=1, fast_auth=True, encrypted=False)
    (record,) = hab.SrkTable.parse(pki.srk_table).records
    assert isinstance(record.key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    assert record.key.key_size == size
    assert pki.fuse_value == hab.SrkTable.parse(pki.srk_table).fuse_value


def test_serial_numbers_fit_four_bytes() -> None:
    """HAB4 compares no more; each is another."""
    pki = TrialPki.make("p256", srks=4, encrypted=False)
    serials = [certificate(pki, name).serial_number for name in pki.files if name.endswith("_crt.pem")]
    assert len(set(serials)) == 12
    assert all(0 < serial < 1 << 31 for serial in serials)


@pytest.mark.parametrize(("days", "begins", "ends"), [(3650, -1, 3650), (2, -1, 2), (-30, -31, -30)])
def test_certificates_are_valid_as_long_as_asked_for(days: int, begins: int, ends: int) -> None:
    """Since yesterday; a negative number of days makes them expire that long ago."""
    before = datetime.now(UTC).replace(microsecond=0)
    pki = TrialPki.make("p256", srks=1, encrypted=False, valid_days=days)
    after = datetime.now(UTC)
    for name in pki.files:
        if name.startswith("crts/") and name.endswith(".pem"):
            made = certificate(pki, name)
            assert before <= made.not_valid_before_utc - timedelta(days=begins) <= after
            assert before <= made.not_valid_after_utc - timedelta(days=ends) <= after


def names_in(tarball: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as tar:
        return [member.name for member in tar]


def test_a_tarball_holds_the_files() -> None:
    """In the layout asked for, with more members where a test wants some."""
    pki = TrialPki.make("p256", srks=1)
    assert names_in(pki.tarball()) == list(pki.files)
    assert names_in(pki.tarball(top="./")) == [f"./{name}" for name in pki.files]
    assert names_in(pki.tarball(flat=True)) == [name.rpartition("/")[2] for name in pki.files]
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert names_in(pki.tarball(extra=[(link, b"")]))[-1] == "link"


@pytest.mark.parametrize("fast", [False, True])
def test_its_description_is_one_that_builds_send(fast: bool) -> None:
    """It parses, keeps to the policy, and names what is in the tarball."""
    pki = TrialPki.make("p256", srks=2, fast_auth=fast)
    description = csf.parse(pki.csf(BLOCKS, srk=2).encode())
    csf.check(description, csf.Policy())
    plan = csf.resolve(description, members=pki.files, artifacts={"spl.bin": 0x4000})
    assert plan.source_index == 1
    assert plan.srk_table == pki.table()
    assert plan.blocks[0][0].address == 0x7E0FC0


def test_a_description_may_prefix_its_files_and_leave_unlock_out() -> None:
    """As builds do that send their own paths, or a FIT."""
    pki = TrialPki.make("p256", srks=2)
    text = pki.csf(BLOCKS, unlock=False, prefix="../", image_srk=2)
    assert "[Unlock]" not in text
    assert 'File = "../crts/CSF1_1_' in text
    assert 'File = "../crts/IMG2_1_' in text
    assert "[Unlock]" in pki.csf(BLOCKS)


def test_no_repr_shows_a_key() -> None:
    """Nor the pass phrase."""
    pki = TrialPki.make("p256", srks=1)
    assert repr(pki) == "TrialPki(kind='p256', fast_auth=False)"
