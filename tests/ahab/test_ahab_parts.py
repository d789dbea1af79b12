"""What containers, keys and tables are built and read with, down to single fields."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from digsigd import ahab
from digsigd.ahab import build, digests, srk, write
from digsigd.ahab.find import MOST_FOUND
from digsigd.ahab.images import check_images, hashing
from digsigd.hab.der import elements
from tests.helpers.ahab_forge import (
    certificate_of,
    forge,
    keys_of,
    private_key,
    signed_container,
    srk_of,
    table_of,
    written_der,
)

EC_KEY = bytes.fromhex("06072a8648ce3d0201")


def test_the_second_table_has_a_hash_of_its_own_or_that_of_the_first() -> None:
    """Srktool has one -s for both."""
    certificates = [certificate_of("p256", number) for number in range(4)]
    for own, code in ((None, 2), ("sha384", 1)):
        array = ahab.parse_table(ahab.build_srk_array(certificates, certificates, digest="sha512", second_digest=own))
        assert isinstance(array, ahab.SrkArray)
        assert [table.records[0].hash_code for table in array.tables] == [2, code]


def test_keys_that_cannot_be_read_are_refused() -> None:
    """Of a kind that cryptography does not know."""
    good = certificate_of("p256")
    assert good.count(EC_KEY) == 1
    with pytest.raises(ahab.AhabError, match=r"the key of .* is of an unknown kind"):
        ahab.key_of(good.replace(EC_KEY, EC_KEY[:-1] + b"\x77"))


def test_rsa_keys_are_for_pss_if_their_certificate_says_so() -> None:
    """Their identifier is another one; a key alone is for PKCS #1 v1.5, and without the flag CA."""
    assert ahab.key_of(certificate_of("pss2048")).algorithm == srk.RSA_PSS
    assert ahab.key_of(certificate_of("rsa2048")).algorithm == srk.RSA
    alone = ahab.srk_key(private_key("rsa2048").public_key(), "sha256")
    assert (alone.algorithm, alone.ca) == (srk.RSA, False)


@pytest.mark.parametrize(("exponent", "size"), [(3, 1), (129, 1), (257, 2), (65537, 3)])
def test_exponents_have_no_zeros_in_front(exponent: int, size: int) -> None:
    """As srktool writes them."""
    modulus = private_key("rsa2048").public_key().public_numbers().n
    key = ahab.srk_key(rsa.RSAPublicNumbers(exponent, modulus).public_key(), "sha256")
    assert key.parts[1] == exponent.to_bytes(size, "big")


def test_keys_of_unknown_classes_are_refused() -> None:
    """Whatever they have."""
    with pytest.raises(ahab.AhabError, match="must be an RSA, ECDSA, ML-DSA"):
        ahab.srk_key(object(), "sha256")


def test_keys_of_ml_dsa_are_known_by_their_length() -> None:
    """Those that AHAB has; only such classes are asked for their bytes."""
    for size, code in ((1952, 9), (2592, 10)):
        kind = type("MLDSAPublicKey", (), {"public_bytes_raw": lambda _, size=size: bytes(size)})
        assert ahab.srk_key(kind(), "sha384").size_code == code
    other = type("Other", (), {"public_bytes_raw": lambda _: bytes(1952)})
    with pytest.raises(ahab.AhabError, match="must be an RSA, ECDSA, ML-DSA"):
        ahab.srk_key(other(), "sha384")


def test_the_data_of_a_new_array_are_zeros() -> None:
    """As long as the first key, and for record 0."""
    keys = keys_of("rsa2048")
    first = replace(keys[0], parts=(keys[0].parts[0], b"\3"))
    array = ahab.parse_table(build.write_array([[first, *keys[1:]]]))
    assert isinstance(array, ahab.SrkArray)
    data = array.tables[0].data
    assert (data.number, data.key) == (0, bytes(257))
    assert data.raw[:8] == struct.pack("<BHBB3x", 0, 265, 0x5D, 0)


def test_rsa_and_rsa_pss_are_two_types() -> None:
    """Of one size and hash."""
    certificates = [certificate_of("rsa2048" if number else "pss2048", number) for number in range(4)]
    with pytest.raises(ahab.AhabError, match="one type, size and hash"):
        ahab.build_srk_table(certificates, digest="sha256")


def with_signature_algorithm(algorithm: bytes) -> bytes:
    """A certificate of P-256 whose signature has this AlgorithmIdentifier, on which nobody has signed anything."""
    body, _, signature = (one.whole for one in elements(elements(certificate_of("p256"))[0].content))
    parts = [one.whole for one in elements(elements(body)[0].content)]
    parts[2] = algorithm
    return written_der(0x30, written_der(0x30, b"".join(parts)) + algorithm + signature)


def test_certificates_of_version_1_have_no_version() -> None:
    """Their fields are one place further ahead; and they are no CA's."""
    body, *rest = (one.whole for one in elements(elements(certificate_of("p384"))[0].content))
    fields = [one.whole for one in elements(elements(body)[0].content)]
    assert (fields[0][0], fields[-1][0]) == (0xA0, 0xA3)
    old = written_der(0x30, written_der(0x30, b"".join(fields[1:-1])) + b"".join(rest))
    key = ahab.key_of(old)
    assert (key.parts, key.ca) == (srk_of("p384", 0).parts, False)


PSS = bytes.fromhex("06092a864886f70d01010a")
SHA384 = bytes.fromhex("0609608648016503040202")


@pytest.mark.parametrize(
    ("algorithm", "known"),
    [
        (PSS + written_der(0x30, written_der(0xA0, written_der(0x30, SHA384))), True),
        (PSS + written_der(0x30, written_der(0xA1, written_der(0x30, SHA384))), False),
        (PSS + written_der(0x30, b""), False),
        (PSS + written_der(0x30, written_der(0xA0, b"")), False),
        (PSS + written_der(0x30, written_der(0xA0, written_der(0x30, b""))), False),
        (PSS + written_der(0x30, written_der(0xA0, written_der(0x31, SHA384))), False),
        (PSS + written_der(0x30, written_der(0xA0, written_der(0x30, b"\x04" + SHA384[1:]))), False),
        (PSS + written_der(0x31, written_der(0xA0, written_der(0x30, SHA384))), False),
        (PSS, False),
        (PSS[:-1] + b"\x77" + written_der(0x30, written_der(0xA0, written_der(0x30, SHA384))), False),
    ],
)  # fmt: skip
def test_the_hash_of_rsa_pss_is_where_rfc_8017_has_it(algorithm: bytes, known: bool) -> None:
    """Elsewhere it is none: whoever wants a table has to say which."""
    certificate = with_signature_algorithm(written_der(0x30, algorithm))
    if known:
        assert ahab.key_of(certificate).hash_name == "sha384"
    else:
        with pytest.raises(ahab.AhabError, match=r"must be one of sha256, sha384, sha512"):
            ahab.key_of(certificate)
    assert ahab.key_of(certificate, "sha512").hash_name == "sha512"


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        ("mx95", 0, "mx95-a0"),
        ("i.MX 95", 0, "mx95-a0"),
        ("mx95", 2, "mx95"),
        ("mx95-b0", 0, "mx95"),
        ("mx95-a0", 2, "mx95-a0"),
        ("mx93", 0, "mx93"),
        ("mx93", 2, "mx93"),
    ],
)
def test_a_name_of_two_chips_means_the_one_with_such_containers(name: str, version: int, found: str) -> None:
    """i.MX 95 alone is two; all others are what they are called."""
    assert ahab.chip_with(name, version).name == found


def test_fields_of_a_header_that_have_bits_of_their_own() -> None:
    """Core and type of an image; fast boot beside the glitch detector; the distance of containers."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x2000, kind=4, core=7)]
    for version, step, fast, every in ((0, 0x400, 0, False), (2, 0x4000, 5, True)):
        raw = ahab.build_container(images, version=version, flags=0x358010)
        container = ahab.read_header(raw)
        assert (container.images[0].kind, container.images[0].core) == (4, 7)
        assert (container.fast_boot, container.check_all, container.step) == (fast, every, step)


def test_what_a_trial_container_is_not_asked_for_is_zero() -> None:
    """Addresses, meta data, versions; and the room behind its images."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x2000)]
    container = ahab.read_header(ahab.build_container(images))
    (image,) = container.images
    assert (image.load, image.entry, image.meta, image.iv) == (0, 0, 0, bytes(32))
    assert (container.sw_version, container.fuse_version, container.flags) == (0, 0, 0x10)
    assert ahab.build_file([]) == b""
    assert ahab.build_file([], 4) == bytes(4)


def test_heads_of_certificates() -> None:
    """The defaults are version 0 and the permission to sign; only version 0 aligns the signature."""
    record, data = build.write_record(srk_of("p256", 0)), build.write_data(srk_of("p256", 0), 0)
    head = write.write_certificate_head([(record, b"")], [64])
    assert (head[0], head[6], head[7], len(head)) == (0, 0xFE, 1, 88)
    assert head[84:] == bytes(4)
    assert int.from_bytes(head[4:6], "little") == len(head)
    assert write.write_certificate_head([(record, b"")], [64], permissions=0x82)[6:8] == b"\x7d\x82"
    second = write.write_certificate_head([(build.write_record_v2(srk_of("p256", 0), 0), data)], [64], version=2)
    assert (second[0], len(second)) == (2, 8 + 32 + 76 + 72)
    longer = write.write_certificate_head([(record, data[:-1])], [64], version=2)
    assert len(longer) == 8 + 32 + 76 + 71
    assert second[8:40] == bytes(32)


def test_a_blob_follows_zeros() -> None:
    """Behind a signature or a certificate that ends inside of eight bytes."""
    head = write.write_block_head(table_of("p256"), [63], certificate_size=13, blob=b"\xca" * 72)
    block = write.write_block(head, [b"\1" * 63], b"\2" * 13, b"\xca" * 72)
    start = block.index(b"\2" * 13) + 13
    assert block[start : start + 3] == bytes(3)
    assert block[start + 3 :] == b"\xca" * 72
    assert len(block) == int.from_bytes(head[1:3], "little")


def test_all_hashes_of_images() -> None:
    """By their names in containers; SHAKE as long as the name says."""
    parts = [b"one", b"two"]
    for name, expected in (
        ("sha384", hashlib.sha384(b"onetwo").digest()),
        ("sha3-256", hashlib.sha3_256(b"onetwo").digest()),
        ("shake128-256", hashlib.shake_128(b"onetwo").digest(32)),
        ("shake256-512", hashlib.shake_256(b"onetwo").digest(64)),
    ):
        assert digests.digest(name, parts) == expected
    with pytest.raises(ValueError, match="none"):
        digests.new("none")


@pytest.mark.parametrize("name", ["sha3-512", "shake128-256", "shake256-512"])
def test_images_with_hashes_of_version_2_hold(name: str) -> None:
    """And do not, once a byte is another."""
    signed = forge(version=2, images=[ahab.ContainerImage(b"\1" * 0x400, 0x8000, hash_name=name)])
    signed.verify()
    place = signed.offset + 0x8000
    with pytest.raises(ahab.VerificationError, match=f"image-hash: image 0 .* has the {name}"):
        signed.verify(signed.data[:place] + b"\2" + signed.data[place + 1 :])


def test_records_that_only_name_their_key() -> None:
    """Both parts are empty; the other algorithms have sizes, too."""
    array = ahab.parse_table(table_of("p256", version=2))
    assert isinstance(array, ahab.SrkArray)
    assert array.tables[0].records[0].crypto == (b"", b"")
    raw = bytearray(table_of("p256"))
    for number in range(4):
        raw[4 + number * 76 + 3] = srk.SM2
    table = ahab.parse_table(bytes(raw))
    assert isinstance(table, ahab.SrkTable)
    assert table.records[0].signature_size == 64


def test_lengths_of_arrays_and_their_data() -> None:
    """The array's, a table's in it, and that of SRK data without a key."""
    with pytest.raises(ahab.FormatError, match="at least 4 bytes, not 3"):
        srk.table_length(b"\xd7\x04\0")
    raw = table_of("p256", version=2)
    for place, value, match in (
        (1, len(raw) - 1, "according to its header"),
        (9, len(raw), "ends inside a table"),
        (9, 0x134 + 72, "SRK data are not there"),
    ):
        changed = raw[:place] + struct.pack("<H", value) + raw[place + 2 :]
        with pytest.raises(ahab.FormatError, match=match):
            ahab.parse_table(changed)
    for length in (0, 1, 7, 8):
        with pytest.raises(ahab.FormatError, match=f"SRK data of {length} bytes do not fit"):
            srk.parse_data(struct.pack("<BHBB3x", 0, length, 0x5D, 0) + bytes(8), 0)


def test_a_hash_that_is_not_known_hashes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """SM3, where OpenSSL was built without it."""

    def missing(name: str, parts: object) -> bytes:
        raise ValueError(name)

    monkeypatch.setattr(srk, "digest", missing)
    with pytest.raises(ahab.FormatError, match="the hash sm3 of an SRK record is not known here"):
        srk.data_hash("sm3", b"")


@pytest.mark.parametrize(
    ("code", "key", "signature", "name"), [(9, 1952, 3309, "ML-DSA 65"), (0xA, 2592, 4627, "ML-DSA 87")]
)
def test_sizes_of_ml_dsa(code: int, key: int, signature: int, name: str) -> None:
    """FIPS 204, table 2; their numbers in records."""
    raw = struct.pack("<BHBBBBBHH", 0xE1, 76, 0xD2, 1, code, 0, 0, key, 0) + bytes(64)
    record = srk.parse_record(raw, 0, with_data=True)
    assert (record.name, record.signature_size) == (name, signature)


def test_dilithium_is_not_ml_dsa() -> None:
    """Its keys are as long; and a key of another length is none."""
    key = srk_of("mldsa65", 0)
    record = ahab.SrkRecord(key.algorithm, 1, 9, 0, (1952, 0), key.parts, b"", b"")
    assert record.public_key() == private_key("mldsa65").public_key()
    with pytest.raises(ahab.FormatError, match="keys for Dilithium 65 are not known here"):
        replace(record, algorithm=srk.DILITHIUM).public_key()
    with pytest.raises(ahab.FormatError, match="the ML-DSA 65 key of an SRK record is not valid"):
        replace(record, crypto=(key.parts[0][:-1], b"")).public_key()


def test_nxps_container_for_v2x_is_nxps() -> None:
    """Its tag is another one, which no container of an OEM has."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x2000)]
    unsigned = ahab.build_container(images, tag=0x82)
    for srk_set, good in ((1, True), (2, False)):
        data = ahab.build_file([(0, signed_container(unsigned, "p256", srk_set=srk_set), images)])
        if good:
            assert ahab.verify(data, srk_set=ahab.SrkSet.NXP).container.tag == 0x82
        else:
            with pytest.raises(ahab.VerificationError, match=r"^tag: .* has the tag 0x82"):
                ahab.verify(data)


def test_nxps_encrypted_firmware_has_no_blob() -> None:
    """The chip has its key; the owner's does not hold so."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x2000, encrypted=True)]
    for srk_set, good in ((1, True), (2, False)):
        signed = signed_container(ahab.build_container(images), "p256", srk_set=srk_set)
        data = ahab.build_file([(0, signed, images)])
        if good:
            assert ahab.verify(data, srk_set=ahab.SrkSet.NXP).encrypted == (0,)
        else:
            with pytest.raises(ahab.VerificationError, match=r"^blob"):
                ahab.verify(data)
        container = ahab.parse(data)
        with pytest.raises(ahab.VerificationError, match=r"^blob"):
            check_images(container, len(data), (), hashing(data), has_blob=True)


def test_no_more_containers_are_found_than_that() -> None:
    """The first 32 of a file."""
    images = [ahab.ContainerImage(b"", 0)]
    raw = ahab.build_container(images).ljust(0x400, b"\0")
    assert len(ahab.find(raw * 40)) == MOST_FOUND == 32


@pytest.mark.parametrize("code", [4, 5, 6])
@pytest.mark.parametrize("sgk", [False, True], ids=["srk", "sgk"])
def test_only_version_2_signs_with_sha_3(code: int, sgk: bool) -> None:
    """Cst 4.0.1 does so in version 0 too."""
    name = srk.SIGNATURE_HASHES[code]
    signed = forge("p256", digest=name, sgk="p256" if sgk else None)
    with pytest.raises(ahab.VerificationError, match=f"algorithm: signatures with {name} are only in containers"):
        signed.verify()
    forge("p256", version=2, digest=name, sgk="p256" if sgk else None).verify()


def test_a_certificate_for_a_key_with_sha_3_is_for_version_2() -> None:
    """Whatever the SRK has."""

    def other(data: bytearray) -> None:
        data[8 + 4] = 4

    signed = forge("p256", sgk="p256", edit_certificate=other)
    with pytest.raises(ahab.VerificationError, match="algorithm: signatures with sha3-256"):
        signed.verify()


@pytest.mark.parametrize("version", [0, 2])
def test_a_certificate_of_the_first_table_is_not_for_ml_dsa(version: int) -> None:
    """Its key is for the second table, as an SRK is."""
    signed = forge("p384", version=version, sgk="mldsa65", alone=True, images=large())
    with pytest.raises(ahab.VerificationError, match="algorithm: ML-DSA 65 is for the second SRK table"):
        signed.verify()


def test_an_srk_of_the_first_table_is_not_for_ml_dsa_either() -> None:
    """Whatever kind of key it signs a certificate for."""
    signed = forge("mldsa65", version=2, sgk="p256", alone=True, images=large())
    with pytest.raises(ahab.VerificationError, match="algorithm: ML-DSA 65 is for the second SRK table"):
        signed.verify()


def large() -> list[ahab.ContainerImage]:
    """An image behind the longest signature block."""
    return [ahab.ContainerImage(b"\1" * 0x400, 0x7000)]


def test_a_second_table_of_other_keys_is_noted() -> None:
    """Both signatures hold, but no source says that boards want them."""
    signed = forge("p384", version=2, second="p256")
    assert any("the second SRK table has ECDSA P-256 keys" in note for note in signed.verify().notes)
    good: Any = forge("p384", version=2, second="mldsa65").verify().notes
    assert not any("second" in note for note in good)


def test_the_hint_for_other_containers_is_about_them() -> None:
    """Not every note about the chip."""
    signed = forge("p256")
    for name, hint in (("mx95", "mx95-a0"), ("mx94", "")):
        with pytest.raises(ahab.VerificationError, match="has the version 0") as raised:
            signed.verify(chip=ahab.chip(name))
        assert raised.value.hint.endswith(hint)
        assert bool(raised.value.hint) == bool(hint)
