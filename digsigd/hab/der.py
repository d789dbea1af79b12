"""Reads DER: the part of X.690 that CMS signatures of HAB4 need, without anything that has two encodings.

asn1crypto could read them as well, but takes ten times as long as checking the signatures.
"""

from __future__ import annotations

from typing import NamedTuple

from digsigd.hab.errors import FormatError

INTEGER, OCTET_STRING, NULL, OID, SEQUENCE, SET = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31
CONTEXT_0 = 0xA0  # [0], constructed


class Element(NamedTuple):
    """One value: its tag, its contents, and all of its bytes with tag and length."""

    tag: int
    content: bytes
    whole: bytes


def elements(data: bytes) -> list[Element]:
    """Return the values in `data`, which they must fill. Raises `FormatError`."""
    found = []
    position = 0
    while position < len(data):
        header = data[position : position + 4]
        if len(header) < 2 or header[0] & 0x1F == 0x1F:
            raise FormatError("DER that ends in a tag, or has a long one")
        size, start = header[1], position + 2
        if size & 0x80:
            # Of the longer forms only the shortest that fits is DER; 64 KiB are more than a CSF can hold.
            digits = header[2 : 2 + (size & 0x7F)]
            start += len(digits)
            size = int.from_bytes(digits, "big")
            if size < 0x80 or len(digits) != (size.bit_length() + 7) // 8 or len(digits) != header[1] & 0x7F:
                raise FormatError("DER whose length is not in its shortest form, or is over 64 KiB")
        end = start + size
        if end > len(data):
            raise FormatError(f"DER with a value of {size} bytes with only {len(data) - start} left")
        found.append(Element(header[0], data[start:end], data[position:end]))
        position = end
    return found


def take(data: bytes, *tags: int) -> list[Element]:
    """Return the values that fill `data`, which must have exactly these tags. Raises `FormatError`."""
    found = elements(data)
    if [one.tag for one in found] != list(tags):
        has = " ".join(f"{one.tag:02x}" for one in found[:10])
        raise FormatError(f"DER with the parts {has or 'none'}, expected {bytes(tags).hex(' ')}")
    return found


def integer(content: bytes) -> int:
    """Return the number in an INTEGER's contents. Raises `FormatError` if it is not in the shortest form."""
    value = int.from_bytes(content, "big", signed=True)
    # (~value for negative ones, as -128 needs no more bits than 127.)
    if len(content) != (value if value >= 0 else ~value).bit_length() // 8 + 1:
        raise FormatError(f"DER with an INTEGER in {len(content)} bytes, which is not its shortest form")
    return value
