"""What is public of a tarball, by the files alone: chains, odd members, and how long it may take."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from digsigd import hab
from digsigd.errors import BadTarball
from digsigd.hab.chain import is_srk, signing_srk
from digsigd.keys import KeyTarball
from digsigd.signing.machine_keys import MAX_CERTIFICATES, MAX_TABLES, MachineKeys, read_facts
from digsigd.testing import TrialPki
from tests.helpers.work import calls

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])


def tarball(files: dict[str, bytes]) -> KeyTarball:
    return KeyTarball(files, "0" * 64)


def issued(key: Key, issuer: Key, *, ca: bool = False, by: hashes.HashAlgorithm | None = None) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=ca)
        .sign(issuer, by or hashes.SHA256())  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def keys() -> list[Key]:
    return [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ]


def test_the_srk_is_the_one_whose_key_signed(keys: list[Key]) -> None:
    """Whatever names say: here all are the same."""
    table = hab.SrkTable.parse(hab.build_srk_table([issued(key, key, ca=True) for key in keys]))
    below = ec.generate_private_key(ec.SECP256R1())
    for number, key in enumerate(keys, 1):
        for by in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
            certificate = issued(below, key, by=by)
            assert (is_srk(certificate, table), signing_srk(certificate, table)) == (None, number)
        assert is_srk(issued(key, below), table) == number
    stranger = issued(below, below)
    assert (is_srk(stranger, table), signing_srk(stranger, table)) == (None, None)


def test_what_the_rom_would_not_take_is_no_chain(keys: list[Key]) -> None:
    """An SRK without the CA flag, a hash that is too short, a table of hashes, and a broken signature."""
    below = ec.generate_private_key(ec.SECP256R1())
    table = hab.SrkTable.parse(hab.build_srk_table([issued(key, key, ca=False) for key in keys]))
    assert signing_srk(issued(below, keys[0]), table) is None
    assert is_srk(issued(keys[0], keys[0]), table) == 1
    table = hab.SrkTable.parse(hab.build_srk_table([issued(key, key, ca=True) for key in keys]))
    assert signing_srk(issued(below, keys[0], by=hashes.SHA224()), table) is None
    der = bytearray(issued(below, keys[0]).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    assert signing_srk(x509.load_der_x509_certificate(bytes(der)), table) is None
    record = struct.pack(">BHB", 0xEE, 36, 0x17) + hashlib.sha256(b"a key").digest()
    hashed = hab.SrkTable.parse(struct.pack(">BHB", 0xD7, 40, 0x40) + record)
    assert (is_srk(issued(below, keys[0]), hashed), signing_srk(issued(below, keys[0]), hashed)) == (None, None)


def test_the_pinned_table_is_found_among_many() -> None:
    """However many others stand before it; of very many that may be told the first are."""
    others = [TrialPki.make("p256", srks=1).srk_table for _ in range(MAX_TABLES + 2)]
    files = {f"{number:02d}.bin": table for number, table in enumerate(others)}
    assert [one.name for one in read_facts(tarball(files), "m", None).tables] == sorted(files)[:MAX_TABLES]
    wanted = hab.SrkTable.parse(others[-1]).fuse_value
    (only,) = read_facts(tarball(files), "m", wanted).tables
    assert only.name == f"{MAX_TABLES + 1:02d}.bin"
    with pytest.raises(BadTarball, match="fuse value"):
        read_facts(tarball(files), "m", bytes(32))
    with pytest.raises(BadTarball, match="no readable SRK table"):
        read_facts(tarball({"a.bin": b""}), "m", bytes(32))


def test_of_a_full_tarball_only_what_is_told_is_verified() -> None:
    """Of 4096 certificates by keys of the slowest kind, only so many are looked at as are told.

    Bounded are the signatures that are verified: for each of them one below each SRK at most.
    """
    pki = TrialPki.make("p521", srks=4)
    stranger = ec.generate_private_key(ec.SECP521R1())
    # What differs is the number of line ends behind some, and the certificate itself of as many as are told.
    pems = [issued(stranger, stranger).public_bytes(serialization.Encoding.PEM) for _ in range(MAX_CERTIFICATES + 1)]
    pems += [pems[0] + b"\n" * number for number in range(1, 4095 - len(pems))]
    files = {**{f"{number}_crt.pem": pem for number, pem in enumerate(pems)}, pki.table(): pki.srk_table}
    packed = tarball(files)
    told: list[MachineKeys] = []
    verified = calls(lambda: told.append(read_facts(packed, "m", None)), of="verify")
    assert 0 < verified <= 4 * MAX_CERTIFICATES
    facts = told[0]
    assert len(facts.certificates) == MAX_CERTIFICATES
    assert {one.srk for one in facts.certificates} == {None}


def test_each_certificate_is_told_once() -> None:
    """NXP's scripts make each as PEM and as DER, and people copy them: PEM is told, and what lies beside its key."""
    pki = TrialPki.make("p256", srks=2)
    files = dict(pki.files)
    digests = {}
    for name, data in pki.files.items():
        if "_crt.pem" in name:
            der = x509.load_pem_x509_certificate(data).public_bytes(serialization.Encoding.DER)
            digests[name] = hashlib.sha256(der).digest()
            files[name.replace(".pem", ".der")] = der
            files[f"a-backup/{name}"] = data + b"\n"
            files[f"b-backup/{name.replace('.pem', '.der')}"] = der
    files["a-backup/table.bin"] = pki.srk_table
    facts = read_facts(tarball(files), "m", None)
    assert {one.name: one.sha256 for one in facts.certificates if not one.is_srk} == {
        name: digest for name, digest in digests.items() if "SRK" not in name
    }
    assert {one.sha256 for one in facts.certificates} == set(digests.values())
    assert len(facts.certificates) == len(digests)
    assert [one.name for one in facts.tables] == ["a-backup/table.bin"]
    # Where a certificate is there as DER alone, as DER.
    only = {name: data for name, data in files.items() if "_crt.pem" not in name}
    assert {one.name[-4:] for one in read_facts(tarball(only), "m", None).certificates} == {".der"}


@pytest.mark.filterwarnings("error")
def test_serial_numbers_of_any_sign_are_told() -> None:
    """A certificate with the serial number 0 or less is one as others are."""
    pki = TrialPki.make("p256", srks=1)
    (srk,) = (data for name, data in pki.files.items() if "crts/SRK1_" in name and "_crt.pem" in name)
    key = ec.generate_private_key(ec.SECP256R1())
    der = bytearray(issued(key, key).public_bytes(serialization.Encoding.DER))
    place = der.index(b"\x02\x01\x01")
    for serial in (b"\0", b"\xfb"):
        der[place + 2 : place + 3] = serial
        facts = read_facts(tarball({pki.table(): pki.srk_table, "a_crt.der": bytes(der), "b_crt.pem": srk}), "m", None)
        assert next((one.name, one.subject) for one in facts.certificates) == ("a_crt.der", "anybody")


PKI = TrialPki.make("p256", srks=1)
PIECES = st.sampled_from(sorted(PKI.files.values()))


@given(
    st.dictionaries(
        st.sampled_from(["a.bin", "b.bin", "a_crt.pem", "b_crt.der", "c_crt.pem", "_crt.der"]),
        st.one_of(PIECES, st.binary(max_size=200), st.builds(lambda one, n: one[:n], PIECES, st.integers(0, 2000))),
    )
)
def test_whatever_the_files_hold(files: dict[str, bytes]) -> None:
    """There are facts, or the tarball is bad; nothing else is raised, and nothing is told that is not there."""
    try:
        facts = read_facts(tarball(files), "m", None)
    except BadTarball:
        assert not any(files.get(name) == PKI.srk_table for name in ("a.bin", "b.bin"))
        return
    assert {one.name for one in facts.tables} | {one.name for one in facts.certificates} <= set(files)
    assert {one.table.data for one in facts.tables} == {PKI.srk_table}
    for one in facts.certificates:
        assert b"PRIVATE" not in files[one.name]
