"""What tells that an image is encrypted: the commands of its CSF, or the blob with the key."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.encryption import encrypted_by, key_length

UNLOCK = bytes([0xB2, 0, 8, 0x1D]) + bytes(4)
SRK = bytes([0xBE, 0, 12, 0, 3, 0x17, 0, 0]) + bytes(4)
AUTHENTICATE = bytes([0xCA, 0, 12, 0, 0, 0xC5, 0, 0]) + bytes(4)
SECRET = bytes([0xBE, 0, 12, 2, 0xBB, 0, 0, 0]) + bytes(4)
DECRYPT = bytes([0xCA, 0, 12, 0, 0, 0xA3, 0, 0]) + bytes(4)


def commands(*some: bytes, length: int | None = None) -> bytes:
    """The start of a CSF."""
    body = b"".join(some)
    return struct.pack(">BHB", 0xD4, 4 + len(body) if length is None else length, 0x43) + body


@pytest.mark.parametrize("before", [(), (UNLOCK,), (SRK, AUTHENTICATE, UNLOCK), (bytes([0xB2, 0, 0, 0]),)])
def test_commands_for_encrypted_images_are_found_behind_any_others(before: tuple[bytes, ...]) -> None:
    """One that says of itself that it is shorter than its header ends nothing."""
    assert encrypted_by(commands(*before)) is None
    assert encrypted_by(commands(*before, SECRET, UNLOCK)) == "Install Secret Key"
    assert encrypted_by(commands(*before, DECRYPT, UNLOCK)) == "Decrypt Data"
    assert encrypted_by(commands(*before, DECRYPT, SECRET)) == "Decrypt Data"


def test_no_command_is_behind_the_end_of_the_header() -> None:
    """By its length, or by the bytes that are there."""
    whole = commands(UNLOCK, SECRET)
    for length in (4, 8, 12, 15):
        assert encrypted_by(commands(UNLOCK, SECRET, length=length)) is None
    assert encrypted_by(commands(UNLOCK, SECRET, length=0xFFFF)) == "Install Secret Key"
    for size in range(16):
        assert encrypted_by(whole[:size]) is None
    for size in (16, 20):
        assert encrypted_by(commands(UNLOCK, SECRET, length=size)) == "Install Secret Key"


@pytest.mark.parametrize(
    ("command", "expected"),
    [(SECRET, "Install Secret Key"), (DECRYPT, "Decrypt Data"), (SRK, None), (AUTHENTICATE, None)],
)
def test_a_damaged_command_counts_by_its_protocol(command: bytes, expected: str | None) -> None:
    """Cut off behind that, or of a length that it does not have."""
    for size in (6, 8, 11):
        assert encrypted_by(commands(UNLOCK, command)[: 12 + size]) == expected
    longer = command[:2] + bytes([14]) + command[3:] + bytes(2)
    assert encrypted_by(commands(UNLOCK, longer, UNLOCK)) == expected


def test_what_stands_in_another_command_is_no_command() -> None:
    """However long that one is, and whatever protocol its bytes would be."""
    write = bytes([0xCC, 0, 20, 4])
    for inner in (SECRET, DECRYPT):
        assert encrypted_by(commands(write + inner + bytes(4), UNLOCK)) is None
        assert encrypted_by(commands(bytes([0xCC, 1, 12, 4]) + bytes(8) + inner + bytes(0xF4), UNLOCK)) is None
    for protocol in (0xBB, 0xA3):
        assert encrypted_by(commands(bytes([0xCC, 0, 12, 4, protocol, protocol, 0, 0]) + bytes(4))) is None
    assert encrypted_by(commands(bytes([0xBE, 0, 12, 2, 0xA3, 0xA3, 0, 0]) + bytes(4))) is None
    assert encrypted_by(commands(bytes([0xCA, 0, 12, 0, 0xBB, 0xBB, 0, 0]) + bytes(4))) is None


def test_a_header_is_as_long_as_both_bytes_of_its_length_say() -> None:
    """HAB takes 768 bytes of it, and no more are looked at."""
    assert encrypted_by(commands(*[UNLOCK] * 40, SECRET)) == "Install Secret Key"
    assert encrypted_by(commands(*[UNLOCK] * 94, DECRYPT)) == "Decrypt Data"
    assert encrypted_by(commands(*[UNLOCK] * 96, DECRYPT)) is None


@pytest.mark.parametrize(
    ("length", "there"),
    [(0, 0), (0x3F, 0), (0x40, 0x40), (0x58, 0x58), (0x60, 0x60), (0x61, 0), (0x158, 0), (0x4000, 0)],
)
def test_a_key_blob_has_0x40_to_0x60_bytes(length: int, there: int) -> None:
    """As HAB wraps keys of 128 to 256 bits."""
    blob = struct.pack(">BHB", 0x81, length, 0x43)
    assert key_length(blob + bytes(0x60)) == there
    assert key_length(blob) == there


@pytest.mark.parametrize("blob", [b"", b"\x81", b"\x81\0\x58", b"\x80\0\x58\x43", b"\x81\0\x58\x53", b"\x81\0\x58\xc3"])
def test_what_is_no_key_blob_has_no_length(blob: bytes) -> None:
    """Another tag, another version, or cut short."""
    assert key_length(blob) == 0
