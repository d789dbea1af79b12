"""DER is read in its one form: what has two readings is refused, whichever the boot ROM would take."""

from __future__ import annotations

import pytest

from digsigd.hab import FormatError
from digsigd.hab.der import Element, elements, integer, take

ONE = bytes.fromhex("020105")


def test_values_are_taken_apart_one_after_the_other() -> None:
    """With their tags, their contents and the whole of each."""
    assert elements(b"") == []
    assert elements(ONE + b"\4\0") == [Element(2, b"\5", ONE), Element(4, b"", b"\4\0")]


@pytest.mark.parametrize(
    ("length", "size"),
    [("00", 0), ("01", 1), ("7f", 0x7F), ("8180", 0x80), ("81ff", 0xFF), ("820100", 0x100), ("82ffff", 0xFFFF)],
)
def test_a_length_is_read_in_its_shortest_form(length: str, size: int) -> None:
    """One byte below 128, then one or two digits behind their number."""
    data = b"\4" + bytes.fromhex(length) + bytes(size)
    assert elements(data) == [Element(4, bytes(size), data)]
    assert elements(data + ONE)[1].whole == ONE


@pytest.mark.parametrize(
    ("length", "size"),
    [
        ("8100", 0),
        ("8101", 1),
        ("817f", 0x7F),
        ("820080", 0x80),
        ("8200ff", 0xFF),
        ("83000100", 0x100),
        ("83010000", 0x10000),
        ("8400000001", 1),
        ("80", 0),
        ("82", 0),
        ("8280", 0x80),
        ("ff", 0),
    ],
)
def test_a_length_in_another_form_is_refused(length: str, size: int) -> None:
    """With zeros before it, in a long form where a short one fits, without an end, or beyond 64 KiB."""
    data = b"\4" + bytes.fromhex(length) + bytes(size)
    for behind in (b"", b"\0\0", ONE):
        with pytest.raises(FormatError, match=r"length is not in its shortest form|with only .* left"):
            elements(data + behind)


def test_a_value_longer_than_what_is_left_is_refused() -> None:
    """By one byte as well."""
    for data in (b"\4\1", b"\4\2x", ONE + b"\4\1", b"\4\x81\x80" + bytes(0x7F)):
        with pytest.raises(FormatError, match=r"with only .* left"):
            elements(data)


@pytest.mark.parametrize("data", [b"\4", ONE + b"\4", b"\x1f\x81\0\0", b"\x3f\x01\0", b"\xbf\x20\0"])
def test_a_tag_alone_and_a_long_tag_are_refused(data: bytes) -> None:
    """HAB4's CMS has neither."""
    with pytest.raises(FormatError, match="ends in a tag, or has a long one"):
        elements(data)


def test_exactly_the_values_asked_for_are_taken() -> None:
    """Not one more, not one less, in this order."""
    assert [one.content for one in take(ONE + b"\4\0", 2, 4)] == [b"\5", b""]
    for tags in ((2,), (4, 2), (2, 4, 5), (2, 5), ()):
        with pytest.raises(FormatError, match="expected"):
            take(ONE + b"\4\0", *tags)


@pytest.mark.parametrize(
    ("content", "value"),
    [("00", 0), ("01", 1), ("7f", 127), ("0080", 128), ("00ff", 255), ("0100", 256), ("ff", -1), ("80", -128),
     ("ff7f", -129), ("8000", -32768), ("008000", 32768)],
)  # fmt: skip
def test_an_integer_is_read_in_its_shortest_form(content: str, value: int) -> None:
    """Signed, as INTEGERs are."""
    assert integer(bytes.fromhex(content)) == value


@pytest.mark.parametrize("content", ["", "0000", "0001", "007f", "ffff", "ff80", "000080", "ffff7f"])
def test_an_integer_in_another_form_is_refused(content: str) -> None:
    """One number has one form."""
    with pytest.raises(FormatError, match="INTEGER"):
        integer(bytes.fromhex(content))
