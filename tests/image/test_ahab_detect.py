"""AHAB containers, messages and SRK tables are told from HAB's, and named for what they are.

Sources of the bytes: NXP imx-mkimage, include/mkimage_common.h; cst, ahab_types.h; SPSDK, spsdk/image/ahab. Numbers are
little-endian.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.image import ahab_detect
from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from digsigd.testing.pki import KeyKind
from tests.helpers import golden
from tests.helpers.blobs import Signing

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
IMAGE, HEADER = 0x80, 0x10


def sample(name: str) -> bytes:
    data = (SAMPLES / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def entry(number: int = 0, flags: int = 3) -> bytes:
    """The entry of an image: each has its own offset, size, load address and entry point."""
    words = (0x2000 + 0x400 * number, 0x400 + number, 0x80000000 + number, 0x90000000 + number, flags, 0)
    return struct.pack("<IIQQII", *words).ljust(IMAGE, b"\0")


def container(
    *entries: bytes,
    version: int = 0,
    tag: int = 0x87,
    flags: int = 0x10,
    block: int | None = None,
    length: int | None = None,
) -> bytes:
    """A container with a signature block of 16 bytes behind its images, if nothing else is said."""
    entries = entries or (entry(),)
    end = HEADER + IMAGE * len(entries)
    block = end if block is None else block
    length = end + 0x10 if length is None else length
    head = struct.pack("<BHBIHBBHH", version, length, tag, flags, 7, 3, len(entries), block, 0)
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


def message() -> bytes:
    """A signed message: no images, a block right behind what it asks for."""
    return (
        struct.pack("<BHBIHBBHH", 0, 0x60, 0x89, 2, 0, 0, 0, 0x48, 0)
        + bytes(0x38)
        + struct.pack("<BHB", 0, 0x18, 0x90).ljust(0x18, b"\0")
    )


GOOD = table(*[record()] * 4)


@pytest.mark.parametrize("place", [*range(0, 0x2000, 0x400), 0x4000, 0x8000, 0x9000])
def test_container_is_found_where_files_have_it(place: int) -> None:
    """Behind NXP's firmware, or what the medium has in front."""
    (one,) = ahab_detect.containers((bytes(place) + container(entry(0), entry(1))).ljust(0xA000, b"\xff"))
    assert (one.offset, len(one.images)) == (place, 2)


def test_containers_of_a_signed_image_are_found() -> None:
    """NXP's, ours behind it, and the third one behind both."""
    found = ahab_detect.containers(sample("good-93-sd-spl.bin.gz"))
    assert [(one.offset, one.srk_set, len(one.images)) for one in found] == [(0, 1, 1), (0x400, 2, 1), (0x4000, 0, 3)]


NOT_ONE = {
    "nothing": b"",
    "zeros": bytes(0x2000),
    "cut short": container()[:12],
    "of another version": b"\x01" + container()[1:],
    "of another tag": container(tag=0x88),
    "block elsewhere": container(block=0x94, length=0x100) + bytes(0x100),
    "reserved bytes": container()[:14] + b"\1" + container()[15:],
    "no block": container()[:0x93] + b"\x91" + container()[0x94:],
    "no images": container()[:11] + b"\0" + container()[12:],
    "too short for its images": container(length=0x80),
    "on an odd place": bytes(0x200) + container(),
    "far behind": bytes(0x2000) + container(),
}


@pytest.mark.parametrize("name", NOT_ONE)
def test_what_is_no_container_is_none(name: str) -> None:
    """Its version, tag and the place of its signature block have to fit one another."""
    assert ahab_detect.containers(NOT_ONE[name]) == ()
    assert not ahab_detect.is_ahab(NOT_ONE[name])


@pytest.mark.parametrize("soc", golden.SOCS)
@pytest.mark.parametrize("layout", golden.LAYOUTS)
def test_images_for_hab_have_no_containers(soc: str, layout: str) -> None:
    """Nothing in them is taken for one."""
    assert not ahab_detect.is_ahab(golden.flash(soc, layout))


def test_a_signed_message_is_told_by_its_header() -> None:
    """It has a container's header without images, and its block is in it."""
    whole = message()
    assert ahab_detect.is_message(whole)
    assert ahab_detect.is_ahab(whole)
    assert ahab_detect.containers(whole) == ()
    for place, value in ((0, 1), (3, 0x87), (11, 1), (12, 0x4C), (14, 1), (0x4B, 0x91), (1, 0x40)):
        assert not ahab_detect.is_message(whole[:place] + bytes([value]) + whole[place + 1 :]), place
    for size in range(len(whole)):
        assert not ahab_detect.is_message(whole[:size])


@pytest.mark.parametrize("name", ["good-93-sd-spl.bin.gz", "good-v2-p384.bin.gz", "os-container-unsigned.bin.gz"])
def test_plan_for_hab_of_containers_says_that_they_are_ahab(name: str) -> None:
    """Signed or not, they are no images for HAB."""
    with pytest.raises(ImageError, match="AHAB containers") as caught:
        plan(sample(name))
    assert "a different secure boot" in caught.value.hint


@pytest.mark.parametrize("front", [golden.FCFB, bytes(0x400) + golden.FCFB, bytes(0x400) + golden.QSPI])
def test_container_behind_the_configuration_of_a_flash_is_ahabs(front: bytes) -> None:
    """Chips of both kinds have FlexSPI, with the same configuration in front."""
    with pytest.raises(ImageError, match=r"AHAB containers .* at 0x1000, 0x1400"):
        plan((front.ljust(0x1000, b"\0") + container().ljust(0x400, b"\0") + container(entry(1))).ljust(0x4000, b"\0"))


@pytest.mark.parametrize("name", ["SRK_p384_table.bin", "SRK_p384_v2_table.bin", "SRK_rsa2048_table.bin"])
def test_srk_tables_of_ahab_are_known(name: str) -> None:
    """Those of both versions, which are damaged ones to HAB."""
    data = sample(name)
    assert ahab_detect.is_srk_table(data)
    with pytest.raises(hab.FormatError):
        hab.SrkTable.parse(data)
    with pytest.raises(ImageError, match="an SRK table for AHAB"):
        plan(data)
    for size in range(len(data)):
        assert not ahab_detect.is_srk_table(data[:size])


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_srk_tables_of_hab_are_not_ahabs(signing: Signing, kind: KeyKind) -> None:
    """Their lengths have the other order."""
    assert not ahab_detect.is_srk_table(signing.pki(kind).srk_table)


def test_a_table_is_one_by_its_tag_version_and_length() -> None:
    """An array by its tag, its length, and one table or two."""
    for good in (GOOD, table(*[record()] * 4, version=0x43), array(GOOD), array(GOOD + GOOD, tables=2)):
        assert ahab_detect.is_srk_table(good)
        assert not ahab_detect.is_srk_table(good + b"\0")
        assert not ahab_detect.is_srk_table(good[:-1])
    for other in (
        table(record(), version=0x41), table(record(), version=0x44), table(record(), tag=0xD6),
        array(GOOD, tables=0), array(GOOD, tables=3), array(GOOD, first=1), array(GOOD, tag=0x5B),
    ):  # fmt: skip
        assert not ahab_detect.is_srk_table(other)


@settings(deadline=None)
@given(data=st.data())
def test_damaged_containers_raise_nothing(data: st.DataObject) -> None:
    """Whatever their fields say."""
    whole = bytearray(data.draw(st.sampled_from([
        sample("good-v2-p384.bin.gz")[:0x800], sample("good-93-sd-spl.bin.gz")[:0x800], sample("SRK_p384_table.bin"),
        sample("SRK_p384_v2_table.bin"), message(),
    ])))  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(0x140, len(whole) - 1)))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    ahab_detect.is_ahab(bytes(whole))
    ahab_detect.is_srk_table(bytes(whole))
