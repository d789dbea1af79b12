"""AHAB containers and SRK tables field by field, made of bytes as NXP's headers have them.

Sources: NXP imx-mkimage, include/mkimage_common.h; cst, ahab_types.h; SPSDK, spsdk/image/ahab. Numbers are
little-endian.
"""

from __future__ import annotations

import struct

import pytest

from digsigd.image import ahab

IMAGE = 0x80
HEADER = 0x10


def entry(number: int, flags: int) -> bytes:
    """The entry of an image: each has its own offset, size, load address and entry point."""
    words = (0x2000 + 0x400 * number, 0x400 + number, 0x80000000 + number, 0x90000000 + number, flags, 0)
    return struct.pack("<IIQQII", *words).ljust(IMAGE, b"\0")


def container(
    *entries: bytes, tag: int = 0x87, flags: int = 0x10, block: int | None = None, length: int | None = None
) -> bytes:
    """A container with a signature block of 16 bytes behind its images, if nothing else is said."""
    end = HEADER + IMAGE * len(entries)
    block = end if block is None else block
    length = end + 0x10 if length is None else length
    head = struct.pack("<BHBIHBBHH", 0, length, tag, flags, 7, 3, len(entries), block, 0)
    return head + b"".join(entries) + struct.pack("<BHB", 0, 0x10, 0x90).ljust(0x10, b"\0")


def record(algorithm: int = 0x27, digest: int = 1, size: int = 2, *, key: int = 0x40, tag: int = 0xE1) -> bytes:
    """An SRK record with so many bytes behind what tells its kind."""
    return struct.pack("<BHBBBBB", tag, 8 + key, algorithm, digest, size, 0, 0x80) + bytes(key)


def table(*records: bytes, tag: int = 0xD7, version: int = 0x42) -> bytes:
    """An SRK table."""
    body = b"".join(records)
    return struct.pack("<BHB", tag, 4 + len(body), version) + body


def array(behind: bytes, *, tables: int = 1, first: int = 0, tag: int = 0x5A) -> bytes:
    """An SRK array, as containers of version 2 have it."""
    return struct.pack("<BHBI", first, 8 + len(behind), tag, tables) + behind


P384 = "ECDSA P-384 with SHA-384"
GOOD = table(*[record()] * 4)
ALIKE = (P384,) * 4


def test_images_are_of_the_kind_that_the_low_bits_of_their_flags_say() -> None:
    """The bits behind them are of the core, and of the hash."""
    kinds = {3: "code", 4: "data", 5: "DCD or OEI", 6: "SECO or ELE firmware", 8: "DEK or FCB", 14: "V2X dummy"}
    (found,) = ahab.containers(container(*(entry(number, 0x3F0 | number) for number in range(16))))
    assert [one.kind for one in found.images] == [kinds.get(number, f"type {number:#x}") for number in range(16)]
    assert [(one.offset, one.size, one.load, one.entry) for one in found.images] == [
        (0x2000 + 0x400 * number, 0x400 + number, 0x80000000 + number, 0x90000000 + number) for number in range(16)
    ]


def test_of_an_entry_that_is_cut_off_the_rest_is_nothing() -> None:
    """A file may end in a container without a signature block."""
    whole = container(entry(0, 3), entry(1, 0x13), length=HEADER + 2 * IMAGE)
    (found,) = ahab.containers(whole[: HEADER + IMAGE + 8])
    assert [(one.size, one.load, one.entry, one.kind) for one in found.images] == [
        (0x400, 0x80000000, 0x90000000, "code"), (0x401, 0, 0, "type 0x0"),
    ]  # fmt: skip


def test_flags_say_whose_srk_signs_and_which() -> None:
    """Bits 0 and 1, and 4 and 5; those of the revoked SRKs are behind them."""
    names = ("none: not signed", "NXP", "OEM", "unknown")
    for whose in range(4):
        for index in range(4):
            (found,) = ahab.containers(container(entry(0, 3), flags=0xF00 | index << 4 | whose))
            assert (found.signed_by, found.srk, found.signed) == (names[whose], index + 1, whose in (1, 2))
    assert (found.software_version, found.fuse_version, found.length) == (7, 3, 0xA0)


def test_v2x_containers_are_named_wherever_they_stand() -> None:
    """i.MX 95 has one behind the firmware's."""
    v2x = container(entry(0, 0xB), tag=0x82)
    assert [one.name for one in ahab.containers(v2x)] == ["V2X container"]
    both = ahab.containers(container(entry(0, 6)).ljust(0x400, b"\0") + v2x)
    assert [(one.offset, one.name) for one in both] == [(0, "container"), (0x400, "V2X container")]
    for tag in (0x81, 0x83, 0x86, 0x89):
        assert ahab.containers(container(entry(0, 3), tag=tag)) == ()


def test_the_signature_block_stands_right_behind_the_images() -> None:
    """Where a container has one: it may end with its images."""
    end = HEADER + IMAGE
    (found,) = ahab.containers(container(entry(0, 3), length=end)[:end] + bytes(0x10))
    assert found.length == end
    for place in (end - 4, end + 4):
        moved = container(entry(0, 3), block=place, length=end + 0x20).ljust(0x100, b"\0")
        assert ahab.containers(moved[: place + 3] + b"\x90" + moved[place + 4 :]) == ()
    assert ahab.containers(container(entry(0, 3), length=end - 1)) == ()


@pytest.mark.parametrize("wrap", [lambda one: one, array], ids=["table", "array"])
def test_records_name_algorithm_size_and_hash(wrap: type[bytes]) -> None:
    """And what is not known by its number."""
    algorithms = {0x21: "RSA", 0x22: "RSA-PSS", 0x27: "ECDSA", 0xD1: "Dilithium", 0xD2: "ML-DSA"}
    sizes = {1: "P-256", 2: "P-384", 3: "P-521", 5: "2048", 6: "3072", 7: "4096", 9: "65", 0xA: "87"}
    hashes = {0: "SHA-256", 1: "SHA-384", 2: "SHA-512", 3: "SM3"}
    for code in (0x20, 0x21, 0x22, 0x23, 0x26, 0x27, 0x28, 0xD0, 0xD1, 0xD2, 0xD3):
        found = ahab.srk_table(wrap(table(*[record(code)] * 4)))
        assert found == (f"{algorithms.get(code, f'algorithm {code:#x}')} P-384 with SHA-384",) * 4
    for code in range(12):
        kinds = (f"ECDSA {sizes.get(code, f'size {code:#x}')} with SHA-384",) * 4
        assert ahab.srk_table(wrap(table(*[record(size=code)] * 4))) == kinds
    for code in range(5):
        kinds = (f"ECDSA P-384 with {hashes.get(code, f'hash {code:#x}')}",) * 4
        assert ahab.srk_table(wrap(table(*[record(digest=code)] * 4))) == kinds


def test_tables_have_four_records() -> None:
    """No more and no less; a record's kind is told by its first 8 bytes."""
    assert ahab.srk_table(GOOD) == ahab.srk_table(array(GOOD)) == ALIKE
    assert ahab.srk_table(table(*[record(key=0)] * 4)) == ALIKE
    for count in (0, 1, 3, 5):
        assert ahab.srk_table(table(*[record()] * count)) is None
    assert ahab.srk_table(table(*[record(tag=0xE2)] * 4)) is None
    for short in (
        struct.pack("<BHBBBB", 0xE1, 7, 0x27, 1, 2, 0),
        struct.pack("<BHBBBBB", 0xE1, 0x400, 0x27, 1, 2, 0, 0),
    ):
        assert ahab.srk_table(table(short, *[record()] * 3)) is None
        assert ahab.srk_table(table(*[record()] * 3, short)) is None
        assert ahab.srk_table(table(*[record()] * 4, short)) == ALIKE


def test_a_table_is_one_by_its_tag_version_and_length() -> None:
    """In an array, behind its 8 bytes."""
    assert ahab.srk_table(table(*[record()] * 4, version=0x43)) == ALIKE
    for other in (
        table(*[record()] * 4, version=0x41),
        table(*[record()] * 4, version=0x44),
        table(*[record()] * 4, tag=0xD6),
    ):
        assert ahab.srk_table(other) is None
        assert ahab.srk_table(array(other)) is None
    assert ahab.srk_table(GOOD + b"\0") is None
    assert ahab.srk_table(GOOD[:-1]) is None
    for size in range(5):
        assert ahab.srk_table(struct.pack("<BHB", 0xD7, size, 0x42)[:size]) is None
        assert ahab.srk_table(array(struct.pack("<BHB", 0xD7, size, 0x42)[:size])) is None


def test_an_array_has_one_table_or_two() -> None:
    """The first one counts, as far as its length goes: behind it is the key that signs, and the other table."""
    key = struct.pack("<BHBI", 0, 0x48, 0x5D, 1) + bytes(0x40)
    other = table(*[record(0xD2, 2, 0xA)] * 4, version=0x43)
    assert ahab.srk_table(array(GOOD + key)) == ALIKE
    assert ahab.srk_table(array(GOOD + key + other + key, tables=2)) == ALIKE
    assert ahab.srk_table(array(GOOD + record())) == ALIKE
    for tables in (0, 3, 4):
        assert ahab.srk_table(array(GOOD, tables=tables)) is None
    assert ahab.srk_table(array(GOOD, first=1)) is None
    assert ahab.srk_table(array(GOOD, tag=0x5B)) is None
    assert ahab.srk_table(array(GOOD)[:-1]) is None
