"""The signature in the host's answer: SPSDK gets it only if it is one over SPSDK's bytes, and all of it holds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.spsdk.answer import signature_of
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.place import Place
from digsigd.spsdk.region import parse_region
from tests.helpers.ahab_cases import image
from tests.helpers.ahab_forge import Kind, sign, table_of
from tests.helpers.spsdk_regions import CASE, SPL, region

PLACE = Place(SPL, SPL + 0x90)
ASKED = region(srks=table_of("p384"))


def answer(data: bytes = ASKED, *, number: int = 0, kind: Kind = "p384", over: bytes | None = None) -> bytearray:
    """The file of the case with a signed container, as a host returns it."""
    raw = sign(kind, number, data if over is None else over, "sha384")
    file = bytearray(image(CASE))
    block = data + struct.pack("<BHBI", 0, 8 + len(raw), 0xD8, 0) + raw
    file[SPL : SPL + len(block)] = block
    return file


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return tmp_path / "signed"


def taken(signed: Path, file: bytes | bytearray, asked: bytes = ASKED, chip: str | None = None) -> bytes:
    signed.write_bytes(file)
    return signature_of(signed, PLACE, parse_region(asked), ahab.chip(chip) if chip else None)


def refused(signed: Path, file: bytes | bytearray, asked: bytes = ASKED, chip: str | None = None) -> str:
    with pytest.raises(ProviderError) as caught:
        taken(signed, file, asked, chip)
    return str(caught.value)


def test_the_raw_signature_is_taken(signed: Path) -> None:
    """R and s, nothing of the header in front of them."""
    file = answer()
    assert taken(signed, file, chip="mx93") == file[SPL + len(ASKED) + 8 : SPL + len(ASKED) + 8 + 96]


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (region(srks=table_of("p384"), index=1), r"its flags is 0x12, SPSDK's is 0x2"),
        (region(srks=table_of("p384"), upper_flags=0x200000), r"its flags is 0x200002, SPSDK's is 0x2"),
        (region(srks=table_of("p384"), revoked=8), r"its flags is 0x802, SPSDK's is 0x2"),
        (region(srks=table_of("p384"), sw_version=1), r"its software version is 0x1, SPSDK's is 0x0"),
        (region(srks=table_of("p384"), fuse_version=2), r"its fuse version is 0x2, SPSDK's is 0x0"),
        (region(srks=table_of("p256"), signature=64), r"its length is 0x220, SPSDK's is 0x2c0"),
    ],
)
def test_a_container_with_other_values_is_refused(signed: Path, made: bytes, what: str) -> None:
    """Although it holds: SPSDK would put the signature into its own container, which would not."""
    number = made[4] >> 4 & 3
    kind: Kind = "p256" if "length" in what else "p384"
    assert what in refused(signed, answer(made, number=number, kind=kind))


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0x10 + 0x20, "the entry of image 0 differs"),
        (0x98, "the header of its signature block"),
        (0xB0, "its SRK table"),
    ],
)
def test_where_the_containers_differ_is_named(signed: Path, at: int, what: str) -> None:
    """Images, block and table."""
    made = bytearray(ASKED)
    made[at] ^= 1
    assert what in refused(signed, answer(bytes(made)))


def test_no_byte_of_the_signed_bytes_may_differ(signed: Path) -> None:
    """Each of them, whatever it is."""
    file = answer()
    for at in range(len(ASKED)):
        changed = bytearray(file)
        changed[SPL + at] ^= 1
        refused(signed, changed)


@pytest.mark.parametrize(("number", "over"), [(1, None), (0, b"something else")])
def test_a_signature_that_does_not_hold_is_refused(signed: Path, number: int, over: bytes | None) -> None:
    """By another key, or over other bytes: whoever answers may lie."""
    told = refused(signed, answer(number=number, over=over))
    assert "fails verification: signature" in told
    assert "can be trusted" in told


def test_an_image_that_is_not_the_one_of_its_hash_is_refused(signed: Path) -> None:
    """The host has not looked at it."""
    file = answer()
    file[SPL + 0x2400] ^= 1
    assert "fails verification: image" in refused(signed, file)


def test_a_key_that_revokes_itself_is_refused(signed: Path) -> None:
    """Boards would not boot again."""
    data = region(srks=table_of("p384"), revoked=1)
    assert "revoked" in refused(signed, answer(data), data)


def test_a_chip_that_does_not_have_such_containers_is_refused(signed: Path) -> None:
    """soc= names a chip with containers of version 2."""
    assert "version" in refused(signed, answer(), chip="mx94")


@pytest.mark.parametrize("length", [0, 0x10, SPL + 8, SPL + len(ASKED), SPL + len(ASKED) + 50])
def test_a_file_that_ends_too_early_is_refused(signed: Path, length: int) -> None:
    """Wherever it ends."""
    refused(signed, answer()[:length])
