"""SRK tables: byte for byte as srktool makes them, and malformed ones."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from digsigd import ahab
from digsigd.ahab import build
from tests.helpers.ahab_cst import pem
from tests.helpers.ahab_forge import KINDS, Kind, certificate_of, digest_of, keys_of, private_key, table_of
from tests.helpers.blobs import Signing, written_at
from tests.helpers.forge import certificate_of as certificate_for

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
TOOLS = [("3.4.1", 0), ("4.0.1", 0), ("4.0.1", 2)]


def srktool(
    signing: Signing, tool: str, version: int, certificates: Sequence[bytes], digest: str, fuse_hash: str = "sha512"
) -> tuple[bytes, bytes, list[int]]:
    """The real tool's table, fuse file, and the words that it prints."""
    names = [f"SRK{number}.pem" for number in range(1, len(certificates) + 1)]
    folder = signing.folder({name: pem("CERTIFICATE", one) for name, one in zip(names, certificates, strict=True)})
    form = {"3.4.1": ["-a"], "4.0.1": ["-a", "2" if version == 2 else "1"]}[tool]
    command = [str(signing.tool(tool, "srktool")), *form, "-t", "table.bin", "-e", "fuse.bin", "-s", digest, "-f", "1"]
    more = [] if fuse_hash == "sha512" else ["-d", fuse_hash]
    done = subprocess.run(
        [*command, *more, "-c", ",".join(names)], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [int(word, 16) for word in re.findall(r"^SRK.*= 0x([0-9A-F]{8})$", done.stdout, re.MULTILINE)]
    return (folder / "table.bin").read_bytes(), (folder / "fuse.bin").read_bytes(), words


@pytest.mark.parametrize(("tool", "version"), TOOLS)
@pytest.mark.parametrize("ca", [False, True], ids=["no-ca", "ca"])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_built_as_srktool_builds_them(
    signing: Signing, kind: Kind, ca: bool, tool: str, version: int
) -> None:
    """Byte for byte, with each hash of the signatures; the fuse value and its words too."""
    certificates = [certificate_of(kind, number, ca=ca) for number in range(4)]
    make = ahab.build_srk_array if version == 2 else ahab.build_srk_table
    for digest in ("sha256", "sha384", "sha512"):
        theirs, fuses, words = srktool(signing, tool, version, certificates, digest)
        assert make(certificates, digest=digest) == theirs
        table = ahab.parse_table(theirs)
        assert table.raw == theirs
        assert table.hash("sha512") == fuses
        assert list(ahab.fuse_words(fuses)) == words
        if digest == digest_of(kind):
            # The hash that the certificates are signed with is the one that is taken without another.
            assert make(certificates) == theirs
            assert table_of(kind, version=version, ca=ca) == theirs
    if version == 0:
        _, fuses, words = srktool(signing, tool, version, certificates, "sha256", "sha256")
        table = ahab.parse_table(ahab.build_srk_table(certificates, digest="sha256"))
        assert table.hash("sha256") == fuses
        assert list(ahab.fuse_words(fuses)) == words


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_gives_keys_and_names(kind: Kind) -> None:
    """The keys are those of the certificates."""
    table = ahab.parse_table(table_of(kind, ca=True))
    assert isinstance(table, ahab.SrkTable)
    for number, record in enumerate(table.records):
        assert record.public_key() == private_key(kind, number).public_key()
        assert record.is_ca
        assert record.hash_name == digest_of(kind)
        size = {"p256": "P-256", "p384": "P-384", "p521": "P-521"}.get(kind, kind[3:])
        family = {"p": "ECDSA", "r": "RSA"}[kind[0]]
        assert record.name == f"{'RSA-PSS' if kind.startswith('pss') else family} {size}"
        assert len(record.data_hash) == 0
    assert not any(record.is_ca for record in keys_in(table_of(kind)))


def keys_in(table: bytes) -> tuple[ahab.SrkRecord, ...]:
    """The records of a table of version 0."""
    found = ahab.parse_table(table)
    assert isinstance(found, ahab.SrkTable)
    return found.records


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_has_the_key_in_use_only(kind: Kind) -> None:
    """The others are hashes; in srktool's file all are."""
    array = ahab.parse_table(build.write_array([keys_of(kind)], 2))
    assert isinstance(array, ahab.SrkArray)
    (table,) = array.tables
    assert table.used.public_key() == private_key(kind, 2).public_key()
    assert table.data.number == 2
    for record in table.records:
        with pytest.raises(ahab.FormatError, match="only the hash of its key"):
            record.public_key()
    theirs = ahab.parse_table(table_of(kind, version=2))
    assert isinstance(theirs, ahab.SrkArray)
    assert theirs.tables[0].raw == table.raw
    assert theirs.hash("sha512") == array.hash("sha512") == hashlib.sha512(table.raw).digest()
    with pytest.raises(ahab.FormatError, match="not those whose hash is in the record"):
        _ = theirs.tables[0].used


@pytest.mark.parametrize("name", ["SRK_p384_table.bin", "SRK_p384_v2_table.bin", "SRK_rsa2048_table.bin"])
def test_tables_of_srktool_are_read(name: str) -> None:
    """Also those that nobody here has the keys of."""
    raw = (SAMPLES / name).read_bytes()
    assert ahab.parse_table(raw).raw == raw


def test_the_table_of_a_container_is_the_machine_s() -> None:
    """In a container of NXP's tools."""
    data = gzip.decompress((SAMPLES / "good-93-sd-spl.bin.gz").read_bytes())
    block = ahab.parse(data, 0x400).block
    assert block is not None
    assert block.srk is not None
    assert block.srk.raw == (SAMPLES / "SRK_p384_table.bin").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_table_has_four_keys(count: int) -> None:
    """Srktool refuses less; it leaves out what is more."""
    certificates = [certificate_of("p256", number) for number in range(count)]
    for make in (ahab.build_srk_table, ahab.build_srk_array):
        with pytest.raises(ahab.AhabError, match=f"exactly 4 keys, not {count}"):
            make(certificates)


def test_keys_of_several_types_are_refused() -> None:
    """Boards want four of one type; srktool refuses a mixture of CA flags."""
    three = [certificate_of("p256", number) for number in range(3)]
    for other, match in (
        (certificate_of("p384", 3, digest="sha256"), "one type, size and hash"),
        (certificate_of("p256", 3, digest="sha384"), "one type, size and hash"),
        (certificate_of("p256", 3, ca=True), "some SRK certificates have the CA flag"),
    ):
        with pytest.raises(ahab.AhabError, match=match):
            ahab.build_srk_table([*three, other])


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_keys_that_ahab_does_not_have_are_refused() -> None:
    """By their size, their curve, their kind; and by the hash of their certificate."""
    for key, match in (
        (rsa.generate_private_key(65537, 2056), "no RSA keys of 2056 bits, only 2048, 3072, 4096"),
        (ec.generate_private_key(ec.SECP256K1()), "no keys on the curve secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "must be an RSA, ECDSA, ML-DSA"),
    ):
        with pytest.raises(ahab.AhabError, match=match):
            ahab.key_of(der(certificate_for(key.public_key())))
    for junk in (b"", b"junk", b"0\x82", certificate_of("p256")[:-1]):
        with pytest.raises(ahab.AhabError, match="cannot be read"):
            ahab.key_of(junk)
    public = private_key("p256").public_key()
    with pytest.raises(ahab.AhabError, match="must be one of sha256, sha384, sha512, not sha1"):
        ahab.key_of(der(certificate_for(public)), "sha1")


def test_the_hash_of_a_certificate_that_is_signed_with_rsa_pss_is_taken() -> None:
    """It is in the parameters of its algorithm: RFC 8017, A.2.3."""
    public = private_key("p256").public_key()
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(public)
    certificate = certificate_for(public)
    builder = builder.serial_number(1).not_valid_before(certificate.not_valid_before_utc)
    builder = builder.not_valid_after(certificate.not_valid_after_utc)
    for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        scheme = padding.PSS(padding.MGF1(algorithm), 32)
        signed = der(builder.sign(key, algorithm, rsa_padding=scheme))
        assert ahab.key_of(signed).hash_name == algorithm.name
        assert ahab.key_of(signed, "sha256").hash_name == "sha256"


def test_certificates_may_be_pem() -> None:
    """As they are in a tarball."""
    certificates = [certificate_of("p256", number) for number in range(4)]
    assert ahab.build_srk_table([pem("CERTIFICATE", one) for one in certificates]) == ahab.build_srk_table(certificates)


def test_a_point_with_zeros_in_front_fills_its_field() -> None:
    """Numbers are as long as the curve."""
    number = next(
        n
        for n in range(1, 3000)
        if ec.derive_private_key(n, ec.SECP256R1()).public_key().public_numbers().x >> 248 == 0
    )
    key = ahab.srk_key(ec.derive_private_key(number, ec.SECP256R1()).public_key(), "sha256")
    assert [len(part) for part in key.parts] == [32, 32]


@pytest.mark.parametrize(
    ("place", "value", "match", "offset"),
    [
        (0, b"\xd6", "neither an SRK table nor an SRK array", 0),
        (1, b"\x33\x01", "307 bytes according to its header, but 308 are given", 1),
        (3, b"\x40", "version 0x40, not 0x42", 3),
        (4, b"\xee", "begins with the byte 0xe1, not 0xee", 4),
        (5, b"\x4b\0", "a SRK record has 75 bytes, not 76|an SRK record has 75 bytes, not 76", 5),
        (5, b"\xff\xff", "an SRK record has 65535 bytes, not 76", 5),
        (7, b"\x20", "unknown algorithm 0x20", 7),
        (8, b"\x07", "unknown hash 0x7", 8),
        (9, b"\x04", "ECDSA has the unknown size 0x4", 9),
        (9, b"\x05", "ECDSA has the unknown size 0x5", 9),
        (10, b"\x01", "unknown flags 01 00", 10),
        (11, b"\x01", "unknown flags 00 01", 10),
        (11, b"\xc0", "unknown flags 00 c0", 10),
        (12, b"\x1f", "has 31 and 32 bytes", 12),
        (14, b"\x21", "has 32 and 33 bytes", 12),
        (0x50, b"\0", "begins with the byte 0xe1, not 0x0", 0x50),
    ],
)
def test_bad_tables(place: int, value: bytes, match: str, offset: int) -> None:
    """What is wrong, and where in the table."""
    raw = table_of("p256")
    with pytest.raises(ahab.FormatError, match=match) as raised:
        ahab.parse_table(written_at(raw, place, value))
    assert raised.value.offset == offset


@pytest.mark.parametrize(
    ("kind", "algorithm", "size", "match"),
    [
        ("rsa2048", 0x21, 1, "RSA has the unknown size 0x1"),
        ("rsa2048", 0x21, 9, "RSA has the unknown size 0x9"),
        ("rsa2048", 0x22, 8, "RSA-PSS has the unknown size 0x8"),
        ("rsa2048", 0x21, 6, "RSA of size 0x6 has 256 and 3 bytes"),
        ("p256", 0x27, 9, "ECDSA has the unknown size 0x9"),
        ("p256", 0x27, 2, "ECDSA of size 0x2 has 32 and 32 bytes"),
        ("p256", 0x21, 1, "RSA has the unknown size 0x1"),
        ("p256", 0xD2, 1, "ML-DSA has the unknown size 0x1"),
        ("p256", 0xD2, 9, "ML-DSA of size 0x9 has 32 and 32 bytes"),
        ("p256", 0xD1, 9, "Dilithium of size 0x9 has 32 and 32 bytes"),
    ],
)
def test_sizes_are_those_of_the_algorithm(kind: Kind, algorithm: int, size: int, match: str) -> None:
    """A record for one kind of key does not have the size of another."""
    raw = bytearray(table_of(kind))
    raw[7], raw[9] = algorithm, size
    with pytest.raises(ahab.FormatError, match=match):
        ahab.parse_table(bytes(raw))


def test_a_modulus_is_as_long_as_its_size() -> None:
    """Not only its exponent counts."""
    raw = bytearray(table_of("rsa2048"))
    raw[12:14] = struct.pack("<H", 255)
    with pytest.raises(ahab.FormatError, match="has 255 and 3 bytes"):
        ahab.parse_table(bytes(raw))


def test_tables_of_other_lengths_are_refused() -> None:
    """At every length, whatever the header says."""
    raw = table_of("p256")
    for length in range(len(raw)):
        with pytest.raises(ahab.FormatError):
            ahab.parse_table(raw[:length])
        if length >= 4:
            with pytest.raises(ahab.FormatError, match="ends inside a record"):
                ahab.parse_table(raw[:1] + struct.pack("<H", length) + raw[3:length])
    with pytest.raises(ahab.FormatError, match="4 bytes behind its 4 records"):
        ahab.parse_table(raw[:1] + struct.pack("<H", len(raw) + 4) + raw[3:] + bytes(4))
    array = table_of("p256", version=2)
    for length in range(len(array)):
        with pytest.raises(ahab.FormatError):
            ahab.parse_table(array[:1] + struct.pack("<H", length) + array[3:length])
    with pytest.raises(ahab.FormatError, match="4 bytes behind its tables"):
        ahab.parse_table(array[:1] + struct.pack("<H", len(array) + 4) + array[3:] + bytes(4))


@pytest.mark.parametrize(
    ("kind", "exponent", "good"),
    [
        ("rsa2048", b"\3", True),
        ("rsa2048", b"\1\0\0\1", True),
        ("rsa2048", b"", False),
        ("rsa2048", b"\1\0\0\0\1", False),
    ],
)
def test_exponents_have_one_to_four_bytes(kind: Kind, exponent: bytes, good: bool) -> None:
    """Those that boards are known to have have three."""
    keys = [
        ahab.SrkKey(one.algorithm, one.size_code, (one.parts[0], exponent), one.ca, one.hash_name)
        for one in keys_of("rsa2048")
    ]
    raw = build.write_table(keys)
    if good:
        assert keys_in(raw)[0].lengths == (256, len(exponent))
    else:
        with pytest.raises(ahab.FormatError, match=f"has 256 and {len(exponent)} bytes"):
            ahab.parse_table(raw)
