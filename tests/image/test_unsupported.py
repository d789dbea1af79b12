"""Files that are not signed for HAB are named by their first bytes, wherever those stand."""

from __future__ import annotations

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.unsupported import refuse_ahab, stranger
from tests.image.test_ahab_detect import GOOD, array, container, entry, record, table

SEEN = (
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"\xfd7zXZ\x00", "xz data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\x04\x22\x4d\x18", "LZ4 data"),
    (0, b"\x7fELF", "an ELF file"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"\xd4", "a CSF or the start of one"),
    (0, b"\xd7", "an SRK table or a certificate of HAB"),
    (510, b"\x55\xaa", "the image of a disk"),
)


@pytest.mark.parametrize("place", [0, 0x10, 0x57C00])
def test_formats_are_told_by_their_magic(place: int) -> None:
    """All of it, where it stands in that format."""
    for offset, magic, name in SEEN:
        data = bytes(place) + bytes(offset) + magic + bytes(0x20)
        error = stranger(data, place)
        assert error.what == f"at {place:#x} is {name}, which cannot be signed for HAB"
        assert error.hint
        for number in range(len(magic)):
            changed = bytearray(data)
            changed[place + offset + number] ^= 1
            assert name not in stranger(bytes(changed), place).what
        for shifted in (b"\x13" + data, data[:place] + b"\x13" + data[place:]):
            assert name not in stranger(shifted, place).what


def test_what_nobody_knows_is_shown() -> None:
    """16 bytes of it."""
    data = bytes(8) + bytes(range(0x30, 0x50))
    assert stranger(data, 8).what == f"the data at 0x8 are unknown: {data[8:24].hex(' ')}"
    assert "a legacy uImage" in stranger(bytes(8) + b"\x27\x05\x19\x56", 8).what


def test_containers_and_tables_of_ahab_are_told_wherever_they_are() -> None:
    """A table of any length that it can say."""
    one = container(entry(0, 3))
    assert stranger(bytes(0x123) + one, 0x123).what.startswith("AHAB containers (i.MX 8QM")
    assert "at 0x123" in stranger(bytes(0x123) + one, 0x123).what
    long = table(*[record(key=0x3FF0)] * 4)
    assert len(long) > 1 << 15
    for data in (GOOD, array(GOOD), long, array(long)):
        error = stranger(bytes(0x123) + data, 0x123)
        assert "at 0x123 is an SRK table for AHAB (i.MX 8QM" in error.what
        assert "a different secure boot than HAB" in error.hint
    with pytest.raises(ImageError, match="at 0x400, 0x800"):
        refuse_ahab(bytes(0x400) + one.ljust(0x400, b"\0") + one)
    refuse_ahab(bytes(0x4000))
