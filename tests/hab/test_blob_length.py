"""Where a blob ends that stands in a file, and parts of blobs in an order of their own."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from digsigd.hab.csf_blob import CsfBlob
from tests.hab.test_blob_format import NOP, blob, install, part
from tests.hab.test_blob_format import authenticate as command
from tests.hab.test_blob_rules import BLOCK, CSF, DATA, IMAGE, SRK_CSFK, SRK_IMG, TABLE, USER_SRK, USER_TABLE, by, over
from tests.helpers.forge import authenticate, forge, install_srk, padded, secret_key, unpadded

WHOLE = unpadded(forge(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE))
FAST = install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK)


def test_what_follows_a_blob_is_not_of_it() -> None:
    """Whatever it is; with keys of its own a CSF has no certificate that no command points to."""
    following = padded(struct.pack(">BHB", 0xD7, 0x14, 0x43) + bytes(0x10))
    for more in (b"", bytes(0x1000), b"\xff" * 0x100, b"\xd7", following):
        assert hab.blob_length(padded(WHOLE) + more) == len(WHOLE)


def test_the_certificate_of_fast_authentication_is_of_the_blob() -> None:
    """Where it is the last thing in it, from the next multiple of four on; and where there is none, nothing is."""
    without, loose = forge(*FAST), padded(struct.pack(">BHB", 0xD7, 4 + len(USER_SRK.der), 0x43) + USER_SRK.der)
    end = len(unpadded(without))
    for more in (b"", bytes(0x1000), b"\xff" * 0x100):
        assert hab.blob_length(without + more) == end
        assert hab.blob_length(without + loose[: 4 + len(USER_SRK.der)] + more) == len(without) + 4 + len(USER_SRK.der)
    with pytest.raises(hab.FormatError, match="a certificate that no command points to has"):
        hab.blob_length(without + loose[:-8])
    for odd in (1, 2, 3, 4):
        short = blob(install(16), part(0xD7, bytes(odd)) + bytes(-odd % 4) + part(0xD7, b"rest") + bytes(8))
        fast = short.replace(b"\x09", b"\x03", 1)
        assert hab.blob_length(fast) == 16 + 4 + odd + -odd % 4 + 8
        assert hab.blob_length(short) == 16 + 4 + odd


def test_a_blob_that_is_none_has_no_length() -> None:
    """What it begins with is told; most of the rest is for reading it."""
    for data in (b"", b"\xd1\0\x20\x40"):
        with pytest.raises(hab.FormatError, match="a CSF begins with the byte 0xd4, not with"):
            hab.blob_length(data)
    assert hab.blob_length(blob(NOP)) == 8
    assert hab.blob_length(blob(NOP * 200)) == 768
    with pytest.raises(hab.FormatError, match="the object that a command points to is outside"):
        hab.blob_length(blob(install(0x100)))


def test_parts_may_stand_in_any_order() -> None:
    """Commands point at them; each is there once."""
    last, first = part(0xD7, b"last"), part(0xD8, b"first") + bytes(3)
    parsed = CsfBlob.parse(blob(install(28 + len(first)) + command(28), first + last))
    assert [parsed.object_at(one)[4:] for one in parsed.commands] == [b"last", b"first"]  # type: ignore[arg-type]


def test_commands_of_odd_lengths_count() -> None:
    """One byte more than HAB takes is too much."""
    assert CsfBlob.parse(blob(NOP * 189 + b"\xcc\0\x08\0" + bytes(4))).header_length == 768
    with pytest.raises(hab.FormatError, match="commands have 769 bytes"):
        CsfBlob.parse(blob(NOP * 190 + b"\xcc\0\x05\0" + bytes(1)))


def test_parts_have_the_version_of_the_csf() -> None:
    """But for SRK tables, whose version is their own, whatever protocol a signature's command names."""
    table = b"\xbe\0\x0c\0\3\x17\0\0" + struct.pack(">I", 16)
    assert CsfBlob.parse(blob(table, part(0xD7, version=0x40))).version == 0x43
    wrong = command(16).replace(b"\xc5", b"\x03")
    with pytest.raises(hab.FormatError, match="a part has version 0x44 in a CSF of version 0x43"):
        CsfBlob.parse(blob(wrong, part(0xD8, version=0x44)))


def test_only_the_key_of_an_encrypted_image_may_be_elsewhere() -> None:
    """Which its flag says; without, it would be in the blob."""
    assert CsfBlob.parse(forge(secret_key(0x7EC000, 0, 0))).commands[0].outside  # type: ignore[union-attr]
    for flags in (0, 2):
        with pytest.raises(hab.FormatError, match="the object that a command points to is outside"):
            CsfBlob.parse(forge(secret_key(0x7EC000, 0, 0, flags=flags)))
    with pytest.raises(hab.FormatError, match="the object that a command points to is outside"):
        CsfBlob.parse(blob(install(0x7EC000).replace(b"\x0c\0", b"\x0c\1", 1)))
