"""Containers are read strictly, and every error says where."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd import ahab
from digsigd.ahab import write
from tests.helpers.ahab_forge import Forged, forge, table_of
from tests.helpers.blobs import changed_at, written_at


def unsigned(images: int = 1, **options: int) -> bytes:
    """A container as imx-mkimage makes it, without images behind it."""
    return ahab.build_container([ahab.ContainerImage(b"", 0)] * images, **options)


@pytest.mark.parametrize("version", [0, 2])
def test_unsigned_containers_are_read(version: int) -> None:
    """Header and entries; the block is there, and has nothing."""
    images = ahab.place_images([b"one", b"two" * 400], start=0x2000)
    data = ahab.build_container(images, version=version, sw_version=0x1234, fuse_version=5)
    head = ahab.read_header(bytes(0x400) + data, 0x400)
    assert head.block is None
    assert (head.offset, head.version, head.sw_version, head.fuse_version) == (0x400, version, 0x1234, 5)
    assert (head.tag, head.flags, head.block_offset, head.length) == (0x87, 0x10, 0x110, 0x120)
    assert (head.header_length, head.end, head.signed_length) == (0x110, 0x520, 0)
    assert (head.is_signed, head.srk_set, head.srk_index) == (False, ahab.SrkSet.NONE, 1)
    assert [(one.number, one.offset, one.size) for one in head.images] == [(0, 0x2000, 0x400), (1, 0x2400, 0x800)]
    assert {(one.kind_name, one.core, one.hash_name, one.encrypted) for one in head.images} == {
        ("code", 2, "sha384", False)
    }
    block = ahab.parse(data).block
    assert block == ahab.SignatureBlock(0x110, 0, 0x10, None, None, (), 0, None, 0)


def test_the_flags_of_a_header_are_told() -> None:
    """Where each one is: ahab_types.h."""
    old = ahab.read_header(unsigned(flags=0xFFFFFFFF))
    assert (old.srk_set, old.srk_index, old.revoke_mask, old.check_all, old.fast_boot) == (3, 3, 0xF, False, 0)
    new = ahab.read_header(unsigned(flags=0x00078A22, version=2))
    assert (new.srk_set, new.srk_index, new.revoke_mask, new.check_all, new.fast_boot) == (2, 2, 0xA, True, 7)
    assert ahab.read_header(unsigned(flags=0x8000, version=2)).check_all
    assert not ahab.read_header(unsigned(flags=0x7FFF, version=2)).check_all
    assert ahab.read_header(unsigned(flags=0x10000, version=2)).fast_boot == 1


def test_the_flags_of_an_image_are_told() -> None:
    """The same number means different things in both versions."""

    def image(flags: int, version: int) -> ahab.ImageEntry:
        return ahab.ImageEntry(0, 0, 0, 0, 0, flags, 0, bytes(range(64)), bytes(32), version)

    assert image(0x1A26, 2).encrypted
    assert not image(0x0A26, 2).encrypted
    assert image(0x0A26, 0).encrypted
    assert not image(0x1226, 0).encrypted
    assert image(0x0826, 0).hash_name == "sha256"
    assert image(0x0826, 2).hash_name == "shake128-256"
    assert image(0x0726, 0).hash_name == "hash 7"
    assert image(0x0F26, 2).hash_name == "hash 15"
    assert image(0x0226, 0).digest == bytes(range(64))
    assert image(0x0126, 0).digest == bytes(range(48))
    assert image(0x0026, 0).digest == bytes(range(32))
    assert (image(0x26, 0).kind, image(0x26, 0).kind_name, image(0x26, 0).core) == (6, "SECO or ELE firmware", 2)
    assert image(0x2F, 0).kind_name == "type 0xf"


@pytest.mark.parametrize(
    ("place", "value", "match", "offset"),
    [
        (0, 1, "has the version 1, not 0 or 2", 0),
        (0, 3, "has the version 3, not 0 or 2", 0),
        (3, 0x86, "its tag is 0x86, not 0x87", 3),
        (11, 0, "has 0 images, not 1 to 32", 11),
        (11, 33, "has 33 images, not 1 to 32", 11),
        (11, 2, "is at 0x90, not behind its 2 images at 0x110", 12),
        (12, 0x91, "is at 0x91, not behind its 1 images at 0x90", 12),
        (14, 1, "has 0x1 in its reserved field", 14),
        (15, 1, "has 0x100 in its reserved field", 14),
        (1, 0x9F, "has 0x9f bytes, too few for its signature block", 1),
        (0x93, 0x91, "has no signature block: the tag is 0x91", 0x93),
    ],
)
def test_bad_headers(place: int, value: int, match: str, offset: int) -> None:
    """What is wrong, and where in the file."""
    data = written_at(bytes(0x400) + unsigned() + bytes(0x100), 0x400 + place, bytes([value]))
    for read in (ahab.read_header, ahab.parse):
        with pytest.raises(ahab.FormatError, match=match) as raised:
            read(data, 0x400)
        assert raised.value.offset == 0x400 + offset
        assert raised.value.summary().endswith(f"(at offset {0x400 + offset:#x})")
    assert [one.offset for one in ahab.find(data)] == []


def test_up_to_32_images() -> None:
    """More than any tool makes."""
    assert len(ahab.parse(unsigned(32)).images) == 32


def test_a_container_outside_of_the_file() -> None:
    """Behind its end, before its start, or in part."""
    data = unsigned()
    for offset in (-1, len(data) - 15, len(data), 1 << 40):
        with pytest.raises(ahab.FormatError, match="no container at"):
            ahab.read_header(data, offset)
    for length in (0x10, 0x50, 0x93):
        with pytest.raises(ahab.FormatError, match="the file ends inside the container"):
            ahab.read_header(data[:length])
    ahab.read_header(data[:0x94])
    with pytest.raises(ahab.FormatError, match="has 0xa0 bytes, of which the file has 0x9f"):
        ahab.parse(data[:-1])


def test_a_signed_message_is_not_a_container() -> None:
    """It has a header of the same form. V2X firmware has another tag, and is read."""
    data = unsigned(tag=0x89)
    ahab.read_header(data)
    with pytest.raises(ahab.FormatError, match="a signed message, not a container"):
        ahab.parse(data)
    assert ahab.parse(unsigned(tag=0x82)).tag == ahab.Tag.V2X


def with_block(signed: Forged, place: int, value: bytes) -> bytes:
    """The file with these bytes in the signature block."""
    return written_at(signed.data, signed.offset + signed.container.block_offset + place, value)


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (0, b"\x01", "has the version 1"),
        (0, b"\x02", "has the version 2"),
        (1, b"\x98\x01", "but the container ends at"),
        (1, b"\0\0", "but the container ends at"),
        (6, b"\0\0", "signature of a signature block is at 0x148, not at 0x10"),
        (6, b"\x18\0", "SRK table of a signature block is at 0x18, not at 0x10"),
        (6, b"\x0f\0", "SRK table of a signature block is at 0xf, not at 0x10"),
        (6, b"\xff\xff", "SRK table of a signature block is at 0xffff"),
        (8, b"\x40\x01", "signature of a signature block is at 0x140"),
        (8, b"\x50\x01", "signature of a signature block is at 0x150"),
        (8, b"\0\0", "behind its last part"),
        (4, b"\x10\0", "certificate of a signature block is at 0x10"),
        (4, b"\x90\x01", "ends inside its certificate"),
        (10, b"\x90\x01", "ends inside its blob"),
        (10, b"\x48\x01", "blob of a signature block is at 0x148"),
        (0x10, b"\xd6", "neither an SRK table nor an SRK array"),
        (0x11, b"\x33\x01", "SRK record has|table ends inside|behind its"),
        (0x11, b"\xff\xff", "ends outside of the signature block"),
        (0x13, b"\x43", "version 0x43, not 0x42"),
        (0x148, b"\x01", "begins with version 0"),
        (0x149, b"\x4f\x00", "a signature of 79 bytes does not fit"),
        (0x149, b"\x08\x00", "a signature of 8 bytes does not fit"),
        (0x149, b"\x40\x00", "behind its last part"),
        (0x14B, b"\xd9", "not 0x0, 0xd9"),
        (0x14C, b"\x01", "01000000"),
        (0x14F, b"\x01", "00000001"),
    ],
)
def test_bad_blocks(place: int, value: bytes, match: str) -> None:
    """Each part stands behind the one before, and none of the bytes belongs to two."""
    with pytest.raises(ahab.FormatError, match=match) as raised:
        ahab.parse(with_block(forge("p256"), place, value), 0x400)
    assert raised.value.offset is not None
    assert raised.value.offset >= 0x400


@pytest.mark.parametrize(
    ("place", "value", "match"),
    [
        (0, b"\0", "has the version 0, its container 2"),
        (1, b"\x05\x01", "1 bytes behind its signature|does not fit"),
        (1, b"\xff\xff", "a certificate of 65535 bytes does not fit"),
        (1, b"\x10\0", "is too short|ends inside|signature of a certificate"),
        (1, b"\0\0", "is too short|ends inside|signature of a certificate"),
        (3, b"\xae", "has the tag 0xaf, not 0xae"),
        (4, b"\0\0", "signature of a certificate is at 0x0"),
        (4, b"\xff\xff", "signature of a certificate is at 0xffff"),
        (0x16, b"\1", "reserved bytes 0100"),
        (0x17, b"\1", "reserved bytes 0001"),
        (0x28, b"\0", "0xe1, not 0x0"),
        (0x28 + 76 + 4, b"\1", "have the number 1, not 0"),
        (0x28 + 76 + 3, b"\0", "tag 0x5d"),
    ],
)
def test_bad_certificates(place: int, value: bytes, match: str) -> None:
    """Of version 2, which has more fields."""
    signed = forge("p256", version=2, sgk="p256", number=2)
    block = signed.container.block
    assert block is not None
    assert block.certificate is not None
    start = block.certificate.offset - block.offset
    with pytest.raises(ahab.FormatError, match=match):
        ahab.parse(with_block(signed, start + place, value), signed.offset)


@pytest.mark.parametrize("place", [8, 8 + 31, 8 + 32, 8 + 63], ids=["X", "end of X", "Y", "end of Y"])
def test_a_certificate_has_the_key_of_its_record(place: int) -> None:
    """Of its data, any byte of the key counts."""
    signed = forge("p256", version=2, sgk="p256", number=2)
    block = signed.container.block
    assert block is not None
    assert block.certificate is not None
    data = changed_at(signed.data, signed.offset + block.certificate.offset + 0x28 + 76 + place)
    with pytest.raises(ahab.FormatError, match="not those whose hash is in the record"):
        ahab.parse(data, signed.offset)


def test_a_certificate_tells_its_fields() -> None:
    """Those of version 2 too."""
    signed = forge("p256", version=2, sgk="p384", permissions=5, uuid=bytes(range(16)))
    block = signed.container.block
    assert block is not None
    one = block.certificate
    assert one is not None
    assert (one.version, one.permissions, one.inverted, one.may_sign) == (2, 5, 0xFA, True)
    assert (one.uuid, one.fuse_version, one.permission_data) == (bytes(range(16)), 0, bytes(12))
    assert one.record.name == "ECDSA P-384"
    assert one.raw[: len(one.signed)] == one.signed
    assert one.raw[-64:] == one.signatures[0]
    assert len(one.data[0].key) == 96
    head = write.write_certificate_head(
        [(one.record.raw, one.data[0].raw)], [64], version=2, permission_data=bytes(range(12)), fuse_version=9
    )
    data = signed.data.replace(one.signed, head)
    again = ahab.parse(data, signed.offset).block
    assert again is not None
    assert again.certificate is not None
    assert (again.certificate.permission_data, again.certificate.fuse_version) == (bytes(range(12)), 9)


@pytest.mark.parametrize("version", [0, 2])
def test_a_certificate_of_version_0_has_less(version: int) -> None:
    """Neither data nor UUID."""
    block = forge("p256", version=version, sgk="p256").container.block
    assert block is not None
    one = block.certificate
    assert one is not None
    assert (one.fuse_version, one.permission_data_extension) == (0, 0)
    assert (one.permission_data, one.uuid) == ((bytes(12), bytes(16)) if version == 2 else (b"", b""))


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("blob", [b"", b"\xca" * 72, b"\0\x48\0\x81" + bytes(68)])
def test_blocks_that_end_early_are_refused(version: int, blob: bytes) -> None:
    """At every length, with headers that say the same: inside of any part."""
    signed = forge("p256", version=version, sgk="p521", blob=blob, alone=True)
    container = signed.container
    block = container.block
    assert block is not None
    last = block.padding[-1][0] if block.padding[-1][0] + 4 == container.length else container.length
    for length in range(block.offset + 0x10, container.length):
        data = bytearray(signed.data)
        struct.pack_into("<H", data, 1, length)
        struct.pack_into("<H", data, block.offset + 1, length - block.offset)
        if length >= last:
            assert ahab.parse(bytes(data)).length == length
            continue
        with pytest.raises(ahab.FormatError):
            ahab.parse(bytes(data))


def test_the_kind_of_table_is_named() -> None:
    """When it is not the one of the container's version."""
    for version, other, named in ((0, 2, "an SRK array"), (2, 0, "an SRK table")):
        signed = forge("p256", version=version, srk=table_of("p256", version=other))
        with pytest.raises(ahab.FormatError, match=f"a container of version {version} has {named}"):
            signed.verify()


def test_parts_may_follow_each_other_without_padding() -> None:
    """As SPSDK lays version 2 out; cst begins each on a multiple of 8."""
    signed = forge("p256", version=2)
    block = signed.container.block
    assert block is not None
    start = signed.offset + block.offset
    raw = signed.data[start : start + block.length]
    array = 0x10 + int.from_bytes(raw[0x11:0x13], "little")
    assert array % 8 == 4
    joined = raw[:array] + raw[array + 4 :] + bytes(4)
    joined = joined[:8] + struct.pack("<H", array) + joined[10:]
    data = signed.data[:start] + joined + signed.data[start + len(raw) :]
    again = ahab.parse(data, signed.offset).block
    assert again is not None
    assert again.signatures == block.signatures
    assert again.signature_offset == block.signature_offset - 4


GOOD = [forge("p256"), forge("p256", version=2, sgk="p256")]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.integers(0, 0x500), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 0x600),
)
def test_damaged_containers_are_verified_or_refused(signed: Forged, changes: list[tuple[int, int]], cut: int) -> None:
    """Any error is one of AHAB's."""
    data = signed.data
    for place, value in changes:
        data = changed_at(data, signed.offset + place, value)
    if cut > 0x500:
        data = data[: signed.offset + cut - 0x500]
    try:
        signed.verify(data)
    except ahab.AhabError:
        return


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=0x200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, header: bool) -> None:
    """As a container, as a table, as a file."""
    if header:
        data = b"\0\x20\1\x87" + data
    ahab.find(data)
    for read in (ahab.parse, ahab.parse_table):
        try:
            read(data)
        except ahab.FormatError:
            continue
