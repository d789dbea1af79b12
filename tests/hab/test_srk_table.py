"""SRK tables: as srktool makes them, and malformed ones."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.testing import TrialPki
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import KINDS, SRKS, Signing, changed_at, judged
from tests.helpers.forge import certificate_of

both_versions = pytest.mark.parametrize("version", CST_VERSIONS)


def srktool(tool: Path, folder: Path, certificates: Sequence[str]) -> tuple[bytes, bytes]:
    """The real tool's table and fuse file for these certificates of the folder."""
    command = [str(tool), "-h", "4", "-t", "table.bin", "-e", "fuse.bin", "-d", "sha256", "-f", "1"]
    done = subprocess.run([*command, "-c", ",".join(certificates)], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "table.bin").read_bytes(), (folder / "fuse.bin").read_bytes()


@both_versions
@pytest.mark.parametrize("fast", [False, True], ids=["ca", "no-ca"])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_built_as_srktool_builds_them(signing: Signing, kind: KeyKind, fast: bool, version: str) -> None:
    """Byte for byte, for each number of keys, with and without the CA flag; the fuse value too."""
    pki = signing.pki(kind, fast)
    folder = signing.folder(pki.files)
    for count in range(1, SRKS[kind] + 1):
        names = [pki.certificate("SRK", number) for number in range(1, count + 1)]
        theirs, fuses = srktool(signing.tool(version, "srktool"), folder, names)
        ours = hab.build_srk_table([x509.load_pem_x509_certificate(pki.files[name]) for name in names])
        assert ours == theirs
        table = hab.SrkTable.parse(theirs)
        assert table.fuse_value == fuses
        assert table.data == theirs
        assert len(table.records) == count


@pytest.mark.parametrize("fast", [False, True], ids=["ca", "no-ca"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_gives_keys_and_flags(signing: Signing, kind: KeyKind, fast: bool) -> None:
    """The keys are those of the certificates, each record hashes to its own."""
    pki = signing.pki(kind, fast)
    table = hab.SrkTable.parse(pki.srk_table)
    for number, record in enumerate(table.records, 1):
        certificate = x509.load_pem_x509_certificate(pki.files[pki.certificate("SRK", number)])
        assert record.key == certificate.public_key()
        assert record.ca is not fast
        assert record.hash == hashlib.sha256(record.data).digest()
    assert b"".join(record.data for record in table.records) == pki.srk_table[4:]


def test_fuse_words_are_those_of_u_boots_fuse_command(signing: Signing) -> None:
    """Eight words, each of four bytes read little-endian."""
    table = hab.SrkTable.parse(signing.pki("p256").srk_table)
    assert len(table.fuse_words) == 8
    assert b"".join(word.to_bytes(4, "little") for word in table.fuse_words) == table.fuse_value


def with_hashes(table: bytes, *hashed: int) -> bytes:
    """The same table with some records, from 0, given by their hash only."""
    records = [
        struct.pack(">BHB", 0xEE, 36, 0x17) + record.hash if number in hashed else record.data
        for number, record in enumerate(hab.SrkTable.parse(table).records)
    ]
    return struct.pack(">BHB", 0xD7, 4 + sum(map(len, records)), 0x40) + b"".join(records)


def test_a_record_may_be_only_a_hash(signing: Signing) -> None:
    """It stands for the same fuse value, and has no key; nobody can say that it would sign without certificates."""
    full = hab.SrkTable.parse(signing.pki("p256").srk_table)
    hashed = hab.SrkTable.parse(with_hashes(full.data, 1, 3))
    assert hashed.fuse_value == full.fuse_value
    assert [record.key is None for record in hashed.records] == [False, True, False, True]
    assert all(record.ca for record in hashed.records)


@both_versions
def test_a_blob_with_hashes_of_the_other_srks_is_proven(signing: Signing, version: str) -> None:
    """As tables are cut down to fit; the chosen SRK must be there with its key."""
    pki = signing.pki("p256")
    short = with_hashes(pki.srk_table, 1, 2, 3)
    signed = signing.sign(pki, version, files={pki.table(): short})
    assert signed.verify(fuse_value=pki.fuse_value).srk == 1
    signed = signing.sign(pki, version, files={pki.table(): with_hashes(pki.srk_table, 0)})
    error = signed.refused(fuse_value=pki.fuse_value)
    assert isinstance(error, hab.VerificationError)
    assert error.check == "srk-index"
    assert "only a hash of SRK 1" in str(error)


def rsa_record(modulus: bytes, exponent: bytes = b"\1\0\1") -> bytes:
    body = struct.pack(">HH", len(modulus), len(exponent)) + modulus + exponent
    return struct.pack(">BHB4x", 0xE1, 8 + len(body), 0x21) + body


def ec_record(curve: int, bits: int, coordinates: bytes) -> bytes:
    return struct.pack(">BHB4xBBH", 0xE1, 12 + len(coordinates), 0x27, curve, 0, bits) + coordinates


def table_of(*records: bytes, tag: int = 0xD7, version: int = 0x40, more: int = 0) -> bytes:
    body = b"".join(records)
    return struct.pack(">BHB", tag, 4 + len(body) + more, version) + body


HASH = struct.pack(">BHB", 0xEE, 36, 0x17) + bytes(32)


@pytest.mark.parametrize(
    ("data", "says", "offset"),
    [
        (b"", "at least 4 bytes, not 0", 0),
        (b"\xd7\0\4", "at least 4 bytes, not 3", 0),
        (table_of(HASH, tag=0xD4), "begins with the byte 0xd7, not 0xd4", 0),
        (table_of(HASH, version=0x30), "version 0x30", 3),
        (table_of(HASH, more=1), "has 41 bytes according to its header, but 40 are given", 1),
        (table_of(HASH) + b"\0", "has 40 bytes according to its header, but 41 are given", 1),
        (table_of(), "has no key", 4),
        (table_of(*[HASH] * 5), "at most 4 keys", 148),
        (table_of(HASH, b"\xe1"), "ends inside a record", 40),
        (table_of(HASH, b"\xe1\0\x0c"), "ends inside a record", 40),
        (table_of(b"\xee\0\3\x17"), "record of 3 bytes", 5),
        (table_of(b"\xee\0\x25\x17" + bytes(32)), "record of 37 bytes does not fit", 5),
        (table_of(b"\xee\0\x24\x1b" + bytes(32)), "algorithm 0x1b", 4),
        (table_of(b"\xee\0\x14\x17" + bytes(16)), "20 bytes", 4),
        (table_of(b"\xe2\0\x24\x17" + bytes(32)), "not 0xe2", 4),
        (table_of(b"\xe1\0\x08\x21" + bytes(4)), "more than 8 bytes", 5),
        (table_of(b"\xe1\0\x0b\x21" + bytes(7)), "more than 11 bytes", 5),
        (table_of(b"\xee\0\x23\x17" + bytes(31)), "and 35 bytes", 4),
        (table_of(b"\xee\0\x25\x17" + bytes(33)), "and 37 bytes", 4),
        (table_of(b"\xee\0\x04\x17"), "and 4 bytes", 4),
        (table_of(b"\xe1\0\x0c\x22" + bytes(8)), "unknown algorithm 0x22", 7),
        (table_of(b"\xe1\0\x0c\x21" + bytes(8)), "RSA key of an SRK record is invalid", 16),
        (table_of(b"\xe1\0\x0c\x21" + bytes(5) + b"\1\0\0"), "do not add up", 12),
        (table_of(rsa_record(bytes(256))), "RSA key of an SRK record is invalid", 16),
        (table_of(rsa_record(b"\xff" * 256, b"\2")), "RSA key of an SRK record is invalid", 16),
        (table_of(ec_record(0x4C, 256, bytes(64))), "unknown curve 0x4c", 12),
        (table_of(ec_record(0x4B, 384, bytes(64))), "secp256r1 key of an SRK record has 384 bits", 12),
        (table_of(ec_record(0x4D, 384, bytes(64))), "secp384r1 key of an SRK record has 384 bits in 76 bytes", 12),
        (table_of(ec_record(0x4B, 256, bytes(64))), "ECDSA key of an SRK record is invalid", 16),
        (table_of(ec_record(0x4B, 256, b"\xff" * 64)), "ECDSA key of an SRK record is invalid", 16),
    ],
)
def test_a_malformed_table_is_refused_with_its_flaw(data: bytes, says: str, offset: int) -> None:
    """The error says what, and where in the table."""
    with pytest.raises(hab.FormatError, match=says) as error:
        hab.SrkTable.parse(data)
    assert error.value.offset == offset
    assert f"(at offset {offset:#x})" in str(error.value)


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_every_truncation_of_a_table_is_refused(signing: Signing, kind: KeyKind) -> None:
    """Whether the length in its header goes along or not."""
    data = signing.pki(kind).srk_table
    ends = {4 + sum(len(record.data) for record in hab.SrkTable.parse(data).records[:n]) for n in range(1, 5)}
    for length in range(len(data)):
        cut = data[:length]
        with pytest.raises(hab.FormatError):
            hab.SrkTable.parse(cut)
        if length > 4 and length not in ends:
            with pytest.raises(hab.FormatError):
                hab.SrkTable.parse(struct.pack(">BHB", 0xD7, length, 0x40) + cut[4:])


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_a_changed_table_is_malformed_or_has_another_fuse_value(signing: Signing, kind: KeyKind) -> None:
    """Every byte that a record has is under the fuses; the header's last only names the version."""
    table = hab.SrkTable.parse(signing.pki(kind).srk_table)
    same = []
    for offset in range(len(table.data)):
        try:
            changed = hab.SrkTable.parse(changed_at(table.data, offset))
        except hab.FormatError:
            continue
        if changed.fuse_value == table.fuse_value:
            same.append(offset)
    assert same == [3]


@settings(deadline=None)
@given(data=st.binary(max_size=300))
@example(data=table_of(rsa_record(b"\xff" * 2048)))
def test_bytes_that_are_no_table_are_refused(data: bytes) -> None:
    """Nothing but hab's own error, for bytes with and without a table's header."""
    for candidate in (data, table_of(data), table_of(b"\xe1" + struct.pack(">H", len(data) + 3) + data)):
        assert judged(hab.SrkTable.parse, candidate) != ""


@settings(deadline=None)
@given(data=st.data())
def test_a_mutated_table_raises_nothing_but_habs_errors(signing: Signing, data: st.DataObject) -> None:
    """Real tables with some bytes put in place of others."""
    kind = data.draw(st.sampled_from(["rsa2048", "p256", "p521"]))
    table = bytearray(signing.pki(kind).srk_table)  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(table) - 1))
        table[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert judged(hab.SrkTable.parse, bytes(table)) != ""


def test_only_what_hab4_has_goes_into_a_table() -> None:
    """One to four keys, RSA or one of three curves."""
    good = certificate_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    for number in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 keys, not {number}"):
            hab.build_srk_table([good] * number)
    with pytest.raises(ValueError, match="not support the curve secp256k1"):
        hab.build_srk_table([certificate_of(ec.generate_private_key(ec.SECP256K1()).public_key())])
    with pytest.raises(ValueError, match="RSA or ECDSA"):
        hab.build_srk_table([certificate_of(ed25519.Ed25519PrivateKey.generate().public_key())])


@pytest.mark.parametrize("size", [1032, 1033, 1039])
def test_numbers_take_as_many_bytes_as_they_need(size: int) -> None:
    """Keys of odd sizes are no SRKs of HAB4, but a table of them is read as it was built."""
    key = rsa.generate_private_key(65537, size).public_key()
    (record,) = hab.SrkTable.parse(hab.build_srk_table([certificate_of(key)])).records
    assert record.key == key
    assert len(record.data) == 12 + (size + 7) // 8 + 3
    other = rsa.RSAPublicNumbers(0xC5, key.public_numbers().n).public_key()
    (record,) = hab.SrkTable.parse(hab.build_srk_table([certificate_of(other)])).records
    assert record.key == other
    assert len(record.data) == 12 + (size + 7) // 8 + 1


def test_a_certificate_without_basic_constraints_gives_a_key_without_the_ca_flag(signing: Signing) -> None:
    """As srktool does with it."""
    key = rsa.generate_private_key(65537, 2048).public_key()
    certificate = certificate_of(key)
    folder = signing.folder({"srk.der": certificate.public_bytes(serialization.Encoding.DER)})
    theirs, _ = srktool(signing.tool("3.4.1", "srktool"), folder, ["srk.der"])
    assert hab.build_srk_table([certificate]) == theirs
    assert not hab.SrkTable.parse(theirs).records[0].ca


def test_trial_keys_come_with_their_own_table() -> None:
    """The table in the tarball is the one of its certificates."""
    pki = TrialPki.make("p256", srks=3, encoding="der", encrypted=False)
    certificates = [x509.load_der_x509_certificate(pki.files[pki.certificate("SRK", number)]) for number in (1, 2, 3)]
    assert hab.build_srk_table(certificates) == pki.files[pki.table()] == pki.srk_table
