"""Containers that are signed as they should be, and that boards refuse for what they say."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from digsigd import ahab
from digsigd.ahab import build, digests, write
from tests.helpers.ahab_forge import KINDS, Edit, Forged, Kind, forge, keys_of, srk_of
from tests.helpers.blobs import changed_at, written_at

# Places in a container with two images: of its block, of the first record.
BLOCK = 0x110
ARRAY = BLOCK + 0x10


def put(place: int, value: bytes) -> Edit:
    """An edit that writes these bytes; see `written_at`."""

    def edit(data: bytearray) -> None:
        data[:] = written_at(bytes(data), place, value)

    return edit


def refused(signed: Forged, check: str, match: str, **options: Any) -> None:
    """`check` is "format" for what cannot be read."""
    kind: type[ahab.AhabError] = ahab.FormatError if check == "format" else ahab.VerificationError
    with pytest.raises(kind, match=match) as raised:
        signed.verify(**options)
    if isinstance(raised.value, ahab.VerificationError):
        assert raised.value.check == check


@pytest.mark.parametrize(
    ("edit", "check", "match"),
    [
        (put(ARRAY + 4, b"\0"), "format", "1 or 2 tables, not 0"),
        (put(ARRAY + 4, b"\3"), "format", "1 or 2 tables, not 3"),
        (put(ARRAY + 4, b"\2"), "format", "at least 4 bytes, not 0|table"),
        (put(ARRAY + 5, b"\1"), "format", "reserved bytes 010000"),
        (put(ARRAY + 7, b"\1"), "format", "reserved bytes 000001"),
        (put(ARRAY + 3, b"\x5b"), "format", "tag 0x5b"),
        (put(ARRAY, b"\1"), "format", "version 0x1"),
        (put(ARRAY + 8 + 3, b"\x42"), "format", "version 0x42, not 0x43"),
        (put(ARRAY + 8, b"\xd8"), "format", "0xd7, not 0xd8"),
        (put(ARRAY + 8 + 308 + 4, b"\1"), "srk-index", "record 1, but the container is for 0"),
        (put(ARRAY + 8 + 308 + 4, b"\4"), "format", "record 4"),
        (put(ARRAY + 8 + 308 + 5, b"\1"), "format", "reserved bytes 010000"),
        (put(ARRAY + 8 + 308 + 3, b"\x5c"), "format", "tag 0x5d"),
        (put(ARRAY + 8 + 308, b"\1"), "format", "0x1 and"),
        (put(BLOCK, b"\0"), "version", "signature block .* version 0, not 1"),
        (put(BLOCK, b"\2"), "format", "signature block has the version 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_version_2_with_a_bad_array(edit: Edit, check: str, match: str) -> None:
    """Above all one without tables, which a loop over them would find nothing wrong with."""
    refused(forge(version=2, edit=edit), check, match)


def test_a_key_that_is_not_the_record_s() -> None:
    """Its signature holds; the record, which the fuses vouch for, has the hash of another key."""
    other = build.write_array([[*keys_of("p256")[1:], srk_of("p256", 0)]], 0)
    own = build.write_array([keys_of("p256")], 0)
    mixed = own[: 8 + 308] + other[8 + 308 :]
    refused(forge(version=2, srk=mixed, signer=("p256", 1)), "srk-data", "not those whose hash is in the record")
    # SRK 2's data, with its own number, below the index of SRK 1.
    second = build.write_array([keys_of("p256")], 1)
    refused(forge(version=2, srk=second, signer=("p256", 1)), "srk-index", "record 1")
    forge(version=2, srk=second, signer=("p256", 1), index=1).verify()


def test_srk_data_of_another_length_are_refused() -> None:
    """Those of the record are as long as its key."""
    keys = keys_of("p256")
    array = build.write_array([keys], 0)
    data = array[8 + 308 :] + bytes(8)
    longer = array[: 8 + 308] + data[:1] + struct.pack("<H", len(data)) + data[3:]
    longer = longer[:1] + struct.pack("<H", len(longer)) + longer[3:]
    refused(forge(version=2, srk=longer), "srk-data", "have 72 bytes of key, their record has 64")


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda: [*keys_of("p384")[:3], srk_of("p256", 3, digest="sha384")],
        lambda: [*keys_of("p384")[:3], srk_of("p384", 3, digest="sha256")],
        lambda: [*keys_of("p384")[:3], srk_of("p384", 3, ca=True)],
    ],
    ids=["curve", "hash", "flag"],
)
def test_records_of_several_types(change: Callable[[], list[ahab.SrkKey]], version: int) -> None:
    """All four are of one algorithm, size, hash and flag."""
    keys = change()
    srk = build.write_array([keys], 0) if version == 2 else build.write_table(keys)
    refused(forge("p384", version=version, srk=srk), "srk-table", "not of one type")


def test_rsa_and_rsa_pss_are_two_types() -> None:
    """Of the same size and hash."""
    srk = build.write_table([*keys_of("rsa2048")[:3], srk_of("pss2048", 3)])
    refused(forge("rsa2048", srk=srk, alone=True), "srk-table", "not of one type")


@pytest.mark.parametrize("count", [3, 5])
def test_another_number_of_records(count: int) -> None:
    """A table has exactly four."""
    keys = [*keys_of("p256"), srk_of("p256", 4)][:count]
    refused(forge("p256", srk=build.write_table(keys)), "format", "SRK")


def test_index_and_signer_differ() -> None:
    """The header's index says whose signature it is."""
    for version in (0, 2):
        srk = build.write_array([keys_of("p256")], 2) if version == 2 else None
        signed = forge(version=version, number=1, index=2, srk=srk)
        refused(signed, "signature", "signature: signature of the container at .* was not made with this ECDSA P-256")
        good = forge(version=version, number=2)
        refused(good, "srk-index", "is for SRK 3, not 2", srk_index=1)
        good.verify(srk_index=2)


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    ("options", "check", "match"),
    [
        ({"srk_set": 0}, "srk-set", "not signed"),
        ({"srk_set": 1}, "srk-set", "NXP's"),
        ({"srk_set": 3}, "srk-set", "3, which does not exist"),
        ({"revoke": 1}, "revoked", "SRK 1, and revokes it"),
        ({"revoke": 0xF}, "revoked", "mask 0xf"),
    ],
)
def test_flags_of_the_header(version: int, options: dict[str, Any], check: str, match: str) -> None:
    """They are signed; all the same no board accepts them."""
    refused(forge("p384", version=version, **options), check, match)


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("sgk", [False, True], ids=["srk", "sgk"])
@pytest.mark.parametrize("kind", KINDS)
def test_signatures_of_every_kind_count(kind: Kind, sgk: bool, version: int) -> None:
    """Something else is signed, or the signature is another one: by container and certificate."""
    signed = forge(kind, version=version, sgk=kind if sgk else None, alone=True)
    block = signed.container.block
    assert block is not None
    places = {8: "signature", block.signature_offset + 8 + 40: "signature"}
    if block.certificate is not None:
        places[block.certificate.offset + len(block.certificate.signed) + 8 + 40] = "certificate"
    for place, check in places.items():
        with pytest.raises(ahab.VerificationError, match="was not made with this") as raised:
            signed.verify(changed_at(signed.data, place))
        assert raised.value.check == check


def test_the_other_srks_may_be_revoked() -> None:
    """That is what the mask is for."""
    assert forge(revoke=0xD, number=1).verify().container.revoke_mask == 0xD


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (put(6, b"\xff"), "complement 0xff do not match"),
        (put(6, b"\x01\x00"), "complement 0x01 do not match"),
        (put(6, b"\xff\x00"), "do not have bit 0"),
        (put(6, b"\x01\xfe"), "do not have bit 0"),
    ],
)
def test_permissions_of_a_certificate(version: int, edit: Edit, match: str) -> None:
    """Signed by the SRK, even so."""
    refused(forge(version=version, sgk="p256", edit_certificate=edit), "certificate", match)


@pytest.mark.parametrize("permissions", [0x01, 0x05, 0xFF])
def test_other_permissions_do_not_matter(permissions: int) -> None:
    """They are for debugging and fuses."""
    forge(sgk="p256", permissions=permissions).verify()


@pytest.mark.parametrize("version", [0, 2])
def test_certificate_of_another_srk(version: int) -> None:
    """The SRK that the index names has not signed it."""
    good, other = (forge(version=version, sgk="p256", number=number) for number in (0, 1))
    block, foreign = good.container.block, other.container.block
    assert block is not None
    assert block.certificate is not None
    assert foreign is not None
    assert foreign.certificate is not None
    place = good.offset + block.certificate.offset
    raw = foreign.certificate.raw
    with pytest.raises(ahab.VerificationError, match="certificate: the signature of the certificate was not made"):
        good.verify(good.data[:place] + raw + good.data[place + len(raw) :])


@pytest.mark.parametrize("version", [0, 2])
def test_an_srk_signs_although_there_is_a_certificate(version: int) -> None:
    """Its key must."""
    refused(forge(version=version, sgk="p256", signer=("p256", 0)), "signature", "was not made with")


@pytest.mark.parametrize("version", [0, 2])
def test_an_srk_without_the_flag_signs_a_certificate(version: int) -> None:
    """It has no right to."""
    refused(forge(version=version, sgk="p256", ca=False), "certificate", "does not have the flag CA")


def test_a_container_that_says_it_is_signed_and_is_not() -> None:
    """Whatever is missing: all of the block, the table, the signature."""
    data = bytearray(forge().unsigned)
    data[0x404] = 0x02
    for table, signature in ((b"", False), (build.write_table(keys_of("rsa2048")), False), (b"", True)):
        head = write.write_block_head(table, [64] if signature else [])
        block = write.write_block(head, [bytes(64)] if signature else [])
        container = bytearray(data[0x400 : 0x400 + BLOCK] + block)
        container[1:3] = len(container).to_bytes(2, "little")
        file = bytes(data[:0x400] + container + data[0x400 + len(container) :])
        with pytest.raises(ahab.VerificationError, match=r"signature: .* has no SRK table or no signature"):
            ahab.verify(file, 0x400)


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("place", [0, 3])
def test_padding_that_is_not_zero(version: int, place: int) -> None:
    """Every byte of it, signed or not."""
    signed = forge("p256", version=version, sgk="p521")
    block = signed.container.block
    assert block is not None
    assert [len(padding) for _, padding in block.padding] == [4, 4]
    for at, padding in block.padding:
        start = signed.offset + at + min(place, len(padding) - 1)
        with pytest.raises(ahab.VerificationError, match="padding: the padding of the container"):
            signed.verify(written_at(signed.data, start, b"\1"))


def test_padding_at_the_end_of_a_block() -> None:
    """Behind the signature, where nothing signs it."""
    signed = forge("p521")
    block = signed.container.block
    assert block is not None
    assert [place for place, _ in block.padding] == [0x364, 0x3F4]
    for place in (0x3F4, 0x3F7):
        with pytest.raises(ahab.VerificationError, match="padding"):
            signed.verify(changed_at(signed.data, signed.offset + place))


def test_a_certificate_without_srks_is_not_looked_at() -> None:
    """Nothing vouches for it."""
    signed = forge(sgk="p256")
    data = written_at(signed.data, signed.offset + BLOCK + 6, b"\0\0")
    with pytest.raises(ahab.FormatError, match="signature of a signature block is at"):
        signed.verify(data)


def encrypted(blob: bytes = b"", version: int = 0) -> Forged:
    """A container whose second image is encrypted."""
    plain, cipher = (ahab.ContainerImage(bytes([n]) * 0x400, 0x8000 + n * 0x400, encrypted=n > 0) for n in range(2))
    return forge(version=version, images=[plain, cipher], blob=blob)


def blob_of(size: int = 32, **changed: int) -> bytes:
    """A blob as boards make it: SPSDK, ahab_blob.py."""
    fields = {"version": 0, "length": 56 + size, "tag": 0x81} | changed
    return struct.pack("<BHBBBBB", *fields.values(), 1, size, 3, 0) + bytes(range(48 + size))


@pytest.mark.parametrize("version", [0, 2])
def test_encrypted_images_need_a_blob(version: int) -> None:
    """Without it no board has their key. What is inside is said to be unproved."""
    refused(encrypted(version=version), "blob", "image 1 .* is encrypted, but the container has no blob")
    for size in (16, 24, 32):
        found = encrypted(blob_of(size), version).verify()
        assert found.encrypted == (1,)
        assert found.notes == ("image 1 is encrypted: what is inside can only be proved by a board with the key",)
    found = encrypted(b"\xca" * 88, version).verify()
    assert found.container.block is not None
    blob = found.container.block.blob
    assert blob is not None
    assert (blob.flags, blob.size, blob.algorithm, blob.mode, blob.raw) == (0, 0, 0, 0, b"\xca" * 88)
    assert found.notes[0].endswith("the key's blob is still a placeholder")


@pytest.mark.parametrize("version", [0, 2])
def test_a_blob_for_nothing_is_noted(version: int) -> None:
    """It is not signed, and nobody needs it."""
    images = [ahab.ContainerImage(b"\1" * 0x400, 0x8000)]
    (note,) = forge(version=version, images=images, blob=blob_of()).verify().notes
    assert note == "it has a blob, though no image is encrypted: what is in it is not signed"
    assert forge(version=version, images=images).verify().notes == ()


@pytest.mark.parametrize(
    "blob",
    [
        blob_of(length=72), blob_of(length=0), blob_of(length=0xFFF0), blob_of(tag=0x80), blob_of(version=1),
        b"\xca" * 64, b"\xca" * 96, b"\xca" * 71 + b"\0", blob_of(8), b"\xca" * 8 + bytes(64),
    ],
)  # fmt: skip
def test_damaged_blobs(blob: bytes) -> None:
    """They are not signed, so all that can be checked is their form."""
    with pytest.raises(ahab.FormatError, match=r"blob|behind its last part"):
        encrypted(blob).verify()


def test_the_hash_of_an_encrypted_image_counts() -> None:
    """It is over the cipher text."""
    signed = encrypted(blob_of())
    place = signed.offset + 0x8400
    with pytest.raises(ahab.VerificationError, match="image-hash: image 1"):
        signed.verify(changed_at(signed.data, place))


def test_a_hash_of_another_length() -> None:
    """Behind it are zeros."""
    refused(forge(edit=put(0x10 + 0x20 + 0x3F, b"\1")), "image-hash", "is longer than one of sha384")


@pytest.mark.parametrize(("version", "flags"), [(0, 0x423), (0, 0x723), (2, 0x723), (2, 0xA23), (2, 0xF23)])
def test_unknown_hashes_of_images(version: int, flags: int) -> None:
    """Numbers that no source names, and those of version 2 in version 0."""
    signed = forge(version=version, edit=put(0x10 + 0x18, struct.pack("<I", flags)))
    refused(signed, "image-hash", "has the unknown")


def test_sm3_is_for_whoever_can_check_it() -> None:
    """Both versions have it; a digest may come from elsewhere."""
    for version in (0, 2):
        signed = forge(version=version, edit=put(0x10 + 0x18, struct.pack("<I", 0x323)))
        image = signed.container.images[0]
        with pytest.raises(ahab.VerificationError, match=r"the hash of image 0 .* is longer than one of sm3"):
            signed.verify()
        assert (image.hash_name, len(image.digest)) == ("sm3", 32)

        def short(data: bytearray) -> None:
            put(0x10 + 0x18, struct.pack("<I", 0x323))(data)
            put(0x10 + 0x20 + 0x20, bytes(0x20))(data)

        shorter = forge(version=version, edit=short)
        known = {one.offset: one.digest for one in shorter.container.images}
        shorter.verify(digest=lambda _, offset, __: known[offset - shorter.offset])  # noqa: B023 - called at once


def test_an_image_without_bytes_is_nowhere() -> None:
    """Its offset does not matter, and others may be there."""
    for offset in (0, 0x10, 0x8000, 0xFFFFFFFF):
        images = [
            ahab.ContainerImage(b"", offset, kind=5),
            ahab.ContainerImage(b"\1" * 0x400, 0x8000),
            ahab.ContainerImage(b"", 0x8100),
        ]
        assert len(forge(images=images).verify().images) == 3


def test_images_may_touch() -> None:
    """Each other, and the ends of containers: it is the next byte that is another's."""
    signed = forge("p256", alone=True)
    end = signed.container.end
    images = [ahab.ContainerImage(b"\1" * 0x100, end), ahab.ContainerImage(b"\2" * 0x100, end + 0x100)]
    touching = forge("p256", alone=True, images=images)
    assert touching.container.end == end
    touching.verify()
    before = [ahab.ContainerImage(b"\1" * 0x100, end + 0x100), ahab.ContainerImage(b"\2" * 0x100, end)]
    forge("p256", alone=True, images=before).verify()
    other = ahab.Container(end + 0x200, 0, 0x100, 0x87, 0, 0, 0, (), 0x90, None)
    touching.verify(containers=[other])
    beside = ahab.Container(end, 0, 0x40, 0x87, 0, 0, 0, (), 0x90, None)
    forge("p256", alone=True).verify(containers=[beside])
    second = forge("p256")
    first = ahab.Container(0, 0, 0x400, 0x87, 0, 0, 0, (), 0x90, None)
    second.verify(containers=[first])
    with pytest.raises(ahab.VerificationError, match=r"^room"):
        second.verify(containers=[replace(first, length=0x401)])


def test_a_hash_that_python_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """SM3, where OpenSSL was built without it."""

    def missing(name: str) -> None:
        raise ValueError(name)

    signed = forge()
    monkeypatch.setattr(digests, "new", missing)
    refused(signed, "image-hash", "the sha384 of the image at .* cannot be checked here")


def test_a_hash_that_openssl_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """SHA-3, where it was built without it."""

    def missing(*_: object) -> None:
        raise UnsupportedAlgorithm("no")

    signed = forge()
    monkeypatch.setattr("digsigd.ahab.signature._verify", missing)
    refused(signed, "signature", "uses the hash sha256, which OpenSSL lacks here")


def test_an_image_in_another_container() -> None:
    """Whatever its hash: the board would load a header that is not signed with it."""
    signed = forge()
    image = ahab.ContainerImage(signed.data[:0x100], -0x400 & 0xFFFFFFFF)
    assert image.offset == 0xFFFFFC00
    ours = ahab.ContainerImage(b"\x5e" * 0x200, 0)
    with pytest.raises(ahab.VerificationError, match="overlaps the container at 0x0"):
        forge(edit=put(0x10, struct.pack("<II", ours.offset, 0x10)), alone=True).verify()
    own = signed.container
    third = ahab.build_container([ahab.ContainerImage(b"", 0)])
    place = 0x2400
    data = signed.data[:place] + third + signed.data[place + len(third) :]
    known = (*ahab.find(signed.data), ahab.read_header(data, place))
    with pytest.raises(ahab.VerificationError, match=r"image-place: image 0 .* overlaps the container at 0x2400"):
        signed.verify(data, containers=known)
    assert own.images[0].offset == 0x2000


def test_a_container_over_the_next_one() -> None:
    """Where the next header is still found."""
    signed = forge("p256", alone=True)
    other = ahab.build_container([ahab.ContainerImage(b"\0", 0x7000)])
    place = 0x200
    shown = (ahab.Container(place, 0, len(other), 0x87, 0, 0, 0, (), 0x90, None),)
    with pytest.raises(ahab.VerificationError, match="room: the container at 0x0 overlaps the one at 0x200"):
        signed.verify(containers=shown)


@pytest.mark.parametrize("algorithm", [0x28, 0xD1])
def test_keys_that_cannot_be_checked(algorithm: int) -> None:
    """SM2 and Dilithium: nobody is told that they hold."""
    key = ahab.SrkKey(0xD1, 9, (bytes(1952), b""), False, "sha384")
    table = bytearray(build.write_table(keys_of("p256") if algorithm == 0x28 else [key] * 4))
    size = (len(table) - 4) // 4
    for number in range(4):
        table[4 + number * size + 3] = algorithm
    signed = forge("p256", srk=bytes(table), alone=True)
    refused(
        signed, "signature" if algorithm == 0x28 else "algorithm", "cannot be checked here|for the second SRK table"
    )


def test_a_hash_of_signatures_that_cannot_be_checked() -> None:
    """SM3."""
    table = bytearray(build.write_table(keys_of("p256")))
    for number in range(4):
        table[4 + number * 0x4C + 4] = 3
    refused(forge("p256", srk=bytes(table)), "signature", "uses the hash sm3, which cannot be checked here")


def test_a_point_that_is_not_on_the_curve() -> None:
    """The key of the record is not one."""
    table = bytearray(build.write_table(keys_of("p256")))
    table[4 + 12 : 4 + 12 + 64] = b"\x11" * 64
    refused(forge("p256", srk=bytes(table)), "signature", "key of an SRK record is not valid")


def test_a_modulus_that_is_none() -> None:
    """RSA keys have an odd one, of their size."""
    table = bytearray(build.write_table(keys_of("rsa2048")))
    table[4 + 12 : 4 + 12 + 256] = bytes(256)
    refused(forge("rsa2048", srk=bytes(table), alone=True), "signature", "key of an SRK record is not valid")
