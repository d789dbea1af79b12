"""Single fields of what SPSDK wants signed, of the file with its images, and of the host's answer."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.spsdk.answer import signature_of
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.place import Place, copied
from digsigd.spsdk.region import parse_region
from tests.helpers.ahab_cases import image
from tests.helpers.spsdk_regions import CASE, SPL, UBOOT, region

NAMES = [
    *["version"], *["length"] * 2, *["tag"], *["flags"] * 4, *["software version"] * 2, *["fuse version"],
    *["number of images"], *["offset of the signature block"] * 2, *["reserved field"] * 2,
]  # fmt: skip


def told(folder: Path, asked: bytes, made: bytes, offset: int) -> str:
    """The error for an answer with other bytes in place of those that were asked for."""
    file = bytearray(image(CASE))
    file[offset : offset + len(made)] = made
    signed = folder / "signed"
    signed.write_bytes(file if made else file[: offset + 0x20])
    with pytest.raises(ProviderError) as raised:
        signature_of(signed, Place(offset, offset), parse_region(asked))
    return str(raised.value)


@pytest.mark.parametrize("at", range(16))
def test_each_field_of_a_header_is_named(tmp_path: Path, at: int) -> None:
    """By any of its bytes, with both values."""
    asked = region()
    made = bytearray(asked)
    made[at] ^= 0x40
    name = NAMES[at]
    start, end = NAMES.index(name), NAMES.index(name) + NAMES.count(name)
    theirs, ours = (int.from_bytes(one[start:end], "little") for one in (made, asked))
    text = f": its {name} is {theirs:#x}, SPSDK's is {ours:#x}"
    assert told(tmp_path, asked, bytes(made), SPL).endswith(text)


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0x10, "the entry of image 0 differs at 0x10"),
        (0x8F, "the entry of image 0 differs at 0x8f"),
        (0x90, "the entry of image 1 differs at 0x90"),
        (0x18F, "the entry of image 2 differs at 0x18f"),
        (0x190, "the header of its signature block differs at 0x190"),
        (0x19F, "the header of its signature block differs at 0x19f"),
        (0x1A0, "its SRK table differs at 0x1a0"),
    ],
)
def test_each_part_of_a_container_is_named(tmp_path: Path, at: int, what: str) -> None:
    """From its first to its last byte."""
    asked = region(offset=UBOOT)
    made = bytearray(asked)
    made[at] ^= 1
    assert what in told(tmp_path, asked, bytes(made), UBOOT)


def test_an_answer_that_ends_too_early_is_told(tmp_path: Path) -> None:
    """Nothing of it can be compared."""
    assert "the host's file ends before its signature" in told(tmp_path, region(), b"", SPL)


def placed(folder: Path, data: bytes, asked: bytes) -> Place:
    """Where the container is in a file of this content, which is copied."""
    (folder / "flash.bin").write_bytes(data)
    return copied(folder / "flash.bin", folder / "copy", parse_region(asked))


def test_the_copy_has_only_the_upper_flags_of_spsdk(tmp_path: Path) -> None:
    """Those of the file are gone; the lower ones are the description's."""
    data = bytearray(image(CASE))
    data[SPL + 4 : SPL + 8] = struct.pack("<I", 0xF00013)
    placed(tmp_path, bytes(data), region(upper_flags=0x300000))
    assert (tmp_path / "copy").read_bytes()[SPL + 4 : SPL + 8] == struct.pack("<I", 0x300013)


def test_a_container_of_another_version_is_another_one(tmp_path: Path) -> None:
    """Though its images are the same."""
    data = bytearray(image(CASE))
    data[SPL] = 2
    with pytest.raises(ProviderError, match=r"image: .*flash.bin"):
        placed(tmp_path, bytes(data), region())


def test_containers_with_other_images_are_others(tmp_path: Path) -> None:
    """By their number, and by each of them; what differs is told if only an entry does."""
    data = bytearray(image(CASE))
    data[SPL + 0x10 : SPL + 0x14] = struct.pack("<I", 0x1234000)
    data[UBOOT + 0x10 : UBOOT + 0x18] = image(CASE)[SPL + 0x10 : SPL + 0x18]
    with pytest.raises(ProviderError, match="has no container with the images of the one to be signed"):
        placed(tmp_path, bytes(data), region())
    data = bytearray(image(CASE))
    data[UBOOT + 0x90 : UBOOT + 0x94] = struct.pack("<I", 0x1234000)
    with pytest.raises(ProviderError, match="has no container with the images of the one to be signed"):
        placed(tmp_path, bytes(data), region(offset=UBOOT))
    data = bytearray(image(CASE))
    data[UBOOT + 0x90 + 0x30] ^= 1
    with pytest.raises(ProviderError, match="the entry of image 1 differs"):
        placed(tmp_path, bytes(data), region(offset=UBOOT))


def test_a_digest_of_sha_224_is_one() -> None:
    """28 bytes, as long as a header and more."""
    with pytest.raises(ProviderError, match="a bare digest"):
        parse_region(region()[:28])
    for length in (27, 29):
        with pytest.raises(ProviderError, match="its signature block is at"):
            parse_region(region()[:length])


def test_a_block_is_padded_in_front_of_its_signature_too() -> None:
    """Both the signature's place and the whole length are multiples of 8."""
    good = region()
    block = 0x90
    for signature, length in ((len(good) - block - 4, 0x230), (len(good) - block, 0x22C)):
        data = bytearray(good[: block + signature])
        data[1:3] = struct.pack("<H", block + length)
        data[block + 1 : block + 3] = struct.pack("<H", length)
        data[block + 8 : block + 10] = struct.pack("<H", signature)
        with pytest.raises(ProviderError, match="does not pad the signature block"):
            parse_region(bytes(data))


def test_a_block_without_an_srk_table_is_not_signed() -> None:
    """Whoever signs it would not know with which key."""
    head = bytearray(region()[:0x90])
    head[1:3] = struct.pack("<H", 0x90 + 16 + 104)
    data = bytes(head) + struct.pack("<BHBHHHHI", 0, 16 + 104, 0x90, 0, 0, 16, 0, 0)
    with pytest.raises(ProviderError, match="it has no SRK table"):
        parse_region(data)


def test_a_block_without_a_signature_is_not_signed() -> None:
    """Not even one of no bytes."""
    good = region()
    for rest in (0, 8):
        data = bytearray(good)
        length = len(good) - 0x90 + rest
        data[1:3] = struct.pack("<H", 0x90 + length)
        data[0x91:0x93] = struct.pack("<H", length)
        with pytest.raises(ProviderError, match="has no room for a signature"):
            parse_region(bytes(data))
    assert ahab.chip("mx93")
