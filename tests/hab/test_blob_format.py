"""The form of a CSF blob: every way to get it wrong has its error, and no bytes bring out any other."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.hab.csf_blob import Authenticate, CsfBlob, InstallKey, OtherCommand
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import Signing, judged

# A changed certificate may have a serial number that cryptography warns of.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
both_versions = pytest.mark.parametrize("version", CST_VERSIONS)

NOP = b"\xc0\0\4\0"


def blob(commands: bytes, objects: bytes = b"", *, tag: int = 0xD4, version: int = 0x43, more: int = 0) -> bytes:
    return struct.pack(">BHB", tag, 4 + len(commands) + more, version) + commands + objects


def install(offset: int, *, protocol: int = 0x09) -> bytes:
    return b"\xbe\0\x0c\0" + bytes([protocol, 0, 0, 2]) + struct.pack(">I", offset)


def authenticate(offset: int) -> bytes:
    return b"\xca\0\x0c\0\1\xc5\0\0" + struct.pack(">I", offset)


def part(tag: int, content: bytes = b"", version: int = 0x43) -> bytes:
    return struct.pack(">BHB", tag, 4 + len(content), version) + content


@both_versions
def test_the_commands_of_a_real_blob_are_read(signing: Signing, version: str) -> None:
    """In order, each with its numbers, as `hexdump` shows them."""
    signed = signing.plain("p256", version)
    parsed = CsfBlob.parse(signed.blob)
    assert (parsed.header_length, parsed.version, parsed.loose) == (0x58, 0x43, ())
    srk, csf_key, csf, unlock, img_key, data, rng = parsed.commands
    assert isinstance(srk, InstallKey)
    assert isinstance(csf_key, InstallKey)
    assert isinstance(img_key, InstallKey)
    assert isinstance(csf, Authenticate)
    assert isinstance(data, Authenticate)
    assert (srk.protocol, srk.hash_algorithm, srk.source, srk.target, srk.data_offset) == (3, 0x17, 0, 0, 0x58)
    assert (csf_key.flags, csf_key.protocol, csf_key.source, csf_key.target) == (2, 9, 0, 1)
    assert (img_key.flags, img_key.protocol, img_key.source, img_key.target) == (0, 9, 0, 2)
    assert (csf.key, csf.protocol, csf.blocks) == (1, 0xC5, ())
    assert (data.key, data.blocks) == (2, ((0x7E0FC0, 0x2000),))
    assert unlock == OtherCommand(0x28, 0xB2, 0x1D, b"\0\0\0\1")
    assert rng == OtherCommand(0x50, 0xB2, 0x1D, b"\0\0\0\2")
    assert parsed.object_at(srk) == signed.srk_table


@both_versions
@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "rsa4096", "p256"])
def test_the_certificate_of_fast_authentication_is_found(signing: Signing, kind: KeyKind, version: str) -> None:
    """Behind the table, whether that ends on a multiple of four or is padded."""
    (loose,) = CsfBlob.parse(signing.plain(kind, version, fast=True).blob).loose
    assert loose[0] == 0xD7
    assert loose[4] == 0x30
    assert len(loose) == int.from_bytes(loose[1:3], "big")


@pytest.mark.parametrize(
    ("data", "says", "offset"),
    [
        (b"", "outside of the 0 bytes", 0),
        (b"\xd4\0\4", "outside of the 3 bytes", 0),
        (blob(NOP, tag=0xD7), "begins with the byte 0xd4, not 0xd7", 0),
        (blob(NOP, version=0x30), "version 0x30", 3),
        (blob(NOP, more=4), "has 12 bytes according to its header; it must have at least 4, and end within the 8", 0),
        (b"\xd4\0\3\x43", "has 3 bytes according to its header", 0),
        (blob(NOP * 192), "have 772 bytes; HAB4 allows 768", 1),
        (blob(b"\xc1\0\4\0"), "the command 0xc1 is unknown", 4),
        (blob(b"\xc0\0\3\0"), "has 3 bytes according to its header", 4),
        (blob(b"\xc0\0\0\0"), "has 0 bytes according to its header", 4),
        (blob(b"\xc0\0\x08\0", bytes(4)), "beyond the length in the CSF's header", 4),
        (blob(b"\xbe\0\x0d\0" + bytes(9)), "Install Key command has 13 bytes", 4),
        (blob(b"\xca\0\x0b\0" + bytes(7)), "Authenticate command has 11 bytes", 4),
        (blob(b"\xca\0\x10\0" + bytes(12)), "Authenticate command has 16 bytes", 4),
        (blob(b"\xca\0\x04\0"), "Authenticate command has 4 bytes", 4),
        (blob(b"\xca\0\x04\0" + NOP * 4), "Authenticate command has 4 bytes", 4),
        (blob(install(0x100)), "is outside of the 16 bytes", 0x100),
        (blob(install(16), part(0xD8)), "points to an object 0xd8; it must be 0xd7", 16),
        (blob(authenticate(16), part(0xD7)), "points to an object 0xd7; it must be 0xd8", 16),
        (blob(install(16), part(0xD7, version=0x42)), "version 0x42 in a CSF of version 0x43", 19),
        (blob(authenticate(16), part(0xD8, version=0x44)), "version 0x44", 19),
        (blob(install(8), part(0xD7)), "points to", 8),
        (blob(install(20) + b"\xc0\0\x0c\0" + part(0xD7) * 2), "points into the commands", 20),
        (blob(install(28) * 2, part(0xD7)), "point to the same bytes", 28),
        (blob(install(16), part(0xD7) + b"\0\0\0\1"), "do not belong to a command", 20),
        (blob(install(16), part(0xD7) + b"\0\1"), "do not belong to a command", 20),
        (blob(install(16), part(0xD7) + bytes(4)), "do not belong to a command", 20),
        (blob(install(16), part(0xD7) + part(0xD8)), "4 bytes do not belong to a command", 20),
        (blob(install(16), part(0xD7) + part(0xD7, version=0x41)), "version 0x41", 23),
        (blob(install(16), part(0xD7) + b"\xd7\0\x05\x43"), "has 5 bytes according to its header", 20),
        (blob(install(16), part(0xD7, b"x") + b"\0\0\1" + part(0xD7)), "3 bytes do not belong to", 21),
        (blob(install(16), part(0xD7) + part(0xD7, b"x") + bytes(4)), "4 bytes do not belong to a command", 25),
    ],
)
def test_a_malformed_blob_is_refused_with_its_flaw(data: bytes, says: str, offset: int) -> None:
    """The error says what, and where."""
    with pytest.raises(hab.FormatError, match=says) as error:
        CsfBlob.parse(data)
    assert error.value.offset == offset


def test_as_many_commands_as_are_allowed_are_read() -> None:
    """In 768 bytes, of the shortest command there is."""
    assert len(CsfBlob.parse(blob(NOP * 191)).commands) == 191


def test_a_blob_without_commands_is_one_that_proves_nothing(signing: Signing) -> None:
    """It is in the format, and refused for what it lacks."""
    error = signing.plain("p256", "3.4.1").refused(blob(b""))
    assert isinstance(error, hab.VerificationError)
    assert error.check == "srk-table"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_mutated_blob_raises_nothing_but_habs_errors(signing: Signing, data: st.DataObject) -> None:
    """Real blobs with bytes changed, left out and put in, mostly where lengths and tags stand."""
    kind = data.draw(st.sampled_from(["rsa2048", "p256"]))
    signed = signing.plain(kind, data.draw(st.sampled_from(CST_VERSIONS)), data.draw(st.booleans()))  # type: ignore[arg-type]
    mutated = bytearray(signed.blob)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 0x60), st.integers(0, len(mutated) - 1)))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if bytes(mutated) == signed.blob:
        return
    for judge in (signed.verify, hab.wanted, CsfBlob.parse):
        assert judged(judge, bytes(mutated)) != ""


@settings(deadline=None)
@given(data=st.binary(max_size=400))
@example(data=b"\xd4\xff\xff\x43" + bytes(400))
@example(data=blob(install(16), part(0xD7)))
def test_any_bytes_raise_nothing_but_habs_errors(data: bytes) -> None:
    """With and without a CSF's header."""
    for candidate in (data, blob(data), blob(install(16), part(0xD7, data)), blob(authenticate(16), part(0xD8, data))):
        for judge in (hab.wanted, CsfBlob.parse):
            assert judged(judge, candidate) != ""
