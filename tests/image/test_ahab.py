"""AHAB containers and SRK tables are told from HAB's, and named for what they are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.image import ahab
from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from digsigd.testing.pki import KeyKind
from tests.helpers import golden
from tests.helpers.blobs import Signing

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"


def sample(name: str) -> bytes:
    data = (SAMPLES / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def container(images: int = 1, *, version: int = 0, tag: int = 0x87, flags: int = 0x10) -> bytes:
    """An unsigned one, as imx-mkimage writes it."""
    block = 0x10 + 0x80 * images
    head = struct.pack("<BHBIHBBHH", version, block + 0x10, tag, flags, 0, 0, images, block, 0)
    entries = b"".join(
        struct.pack("<IIQQII", 0x2000, 0x400, 0x1000, 0x1000, 3, 0).ljust(0x80, b"\0") for _ in "x" * images
    )
    return head + entries + struct.pack("<BHB", 0, 0x10, 0x90).ljust(0x10, b"\0")


def test_containers_of_a_signed_image_are_found() -> None:
    """NXP's, ours behind it, and the third one behind both, with who signs each."""
    found = ahab.containers(sample("good-93-sd-spl.bin.gz"))
    assert [(one.offset, one.signed_by, len(one.images)) for one in found] == [
        (0, "NXP", 1), (0x400, "OEM", 1), (0x4000, "none: not signed", 3),
    ]  # fmt: skip
    assert [one.signed for one in found] == [True, True, False]
    assert (found[1].images[0].offset, found[1].images[0].load) == (0x2800, 0x2049A000)


def test_offsets_of_images_count_from_their_container() -> None:
    """As the chip counts them; in the file they are behind the container's own place."""
    (first, second) = ahab.containers(bytes(0x400) + container() + bytes(0x400 - len(container())) + container())
    assert (first.images[0].offset, second.images[0].offset) == (0x2400, 0x2800)


def test_container_of_version_2_is_one() -> None:
    """As i.MX 95 B0 and 94 have them, with an SRK array."""
    (one,) = ahab.containers(sample("good-v2-p384.bin.gz"))
    assert (one.version, one.signed_by, one.srk) == (2, "OEM", 2)


def test_srk_is_the_one_that_the_flags_name() -> None:
    """Counted from 1, as everywhere in digsign."""
    assert [one.srk for one in ahab.containers(sample("good-qxp-spl-sgk.bin.gz"))][1] == 2
    (one,) = ahab.containers(container(flags=0x32))
    assert (one.srk, one.signed_by) == (4, "OEM")


@pytest.mark.parametrize("place", [*range(0, 0x2000, 0x400), 0x4000, 0x8000, 0x9000])
def test_container_is_found_where_files_have_it(place: int) -> None:
    """Behind NXP's firmware, or the 4 KiB in front of images for FlexSPI."""
    (one,) = ahab.containers((bytes(place) + container(2)).ljust(0xA000, b"\xff"))
    assert (one.offset, len(one.images)) == (place, 2)


def test_so_many_images_and_containers_are_looked_at() -> None:
    """32 of each: no file takes long."""
    assert len(ahab.containers(container(32))[0].images) == 32
    assert ahab.containers(container(33)) == ()
    assert len(ahab.containers(container().ljust(0x400, b"\0") * 40)) == 32


NOT_ONE = {
    "nothing": b"",
    "zeros": bytes(0x2000),
    "cut short": container()[:12],
    "of another version": b"\x01" + container()[1:],
    "of another tag": container(tag=0x88),
    "block elsewhere": container()[:12] + b"\x91" + container()[13:],
    "reserved bytes": container()[:14] + b"\1" + container()[15:],
    "no block": container()[:0x93] + b"\x91" + container()[0x94:],
    "no images": container()[:11] + b"\0" + container()[12:],
    "too short for its images": container()[:1] + b"\x80\0" + container()[3:],
    "on an odd place": bytes(0x200) + container(),
    "far behind": bytes(0x2000) + container(),
}


@pytest.mark.parametrize("name", NOT_ONE)
def test_what_is_no_container_is_none(name: str) -> None:
    """Its version, tag and the place of its signature block have to fit one another."""
    assert ahab.containers(NOT_ONE[name]) == ()


@pytest.mark.parametrize("soc", golden.SOCS)
@pytest.mark.parametrize("layout", golden.LAYOUTS)
def test_images_for_hab_have_no_containers(soc: str, layout: str) -> None:
    """Nothing in them is taken for one."""
    assert ahab.containers(golden.flash(soc, layout)) == ()


@pytest.mark.parametrize("name", ["good-93-sd-spl.bin.gz", "good-v2-p384.bin.gz", "os-container-unsigned.bin.gz"])
def test_plan_of_containers_says_that_they_are_ahab(name: str) -> None:
    """Signed or not, they are no images for HAB."""
    with pytest.raises(ImageError, match="AHAB containers") as caught:
        plan(sample(name))
    assert "a different secure boot" in caught.value.hint


@pytest.mark.parametrize("front", [golden.FCFB, bytes(0x400) + golden.FCFB, bytes(0x400) + golden.QSPI])
def test_container_behind_the_configuration_of_a_flash_is_ahabs(front: bytes) -> None:
    """Chips of both kinds have FlexSPI, with the same configuration in front."""
    with pytest.raises(ImageError, match=r"AHAB containers .* at 0x1000, 0x1400"):
        plan((front.ljust(0x1000, b"\0") + container().ljust(0x400, b"\0") + container(2)).ljust(0x4000, b"\0"))


@pytest.mark.parametrize(("name", "kind"), [
    ("SRK_p384_table.bin", "ECDSA P-384 with SHA-384"),
    ("SRK_p384_v2_table.bin", "ECDSA P-384 with SHA-384"),
    ("SRK_rsa2048_table.bin", "RSA 2048 with SHA-256"),
])  # fmt: skip
def test_srk_tables_of_ahab_are_known(name: str, kind: str) -> None:
    """Those of both versions, which are damaged ones to HAB."""
    data = sample(name)
    assert ahab.srk_table(data) == (kind,) * 4
    with pytest.raises(hab.FormatError):
        hab.SrkTable.parse(data)
    with pytest.raises(ImageError, match="an SRK table for AHAB"):
        plan(data)
    for size in range(len(data)):
        assert ahab.srk_table(data[:size]) is None


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_srk_tables_of_hab_are_not_ahabs(signing: Signing, kind: KeyKind) -> None:
    """Their lengths have the other order."""
    assert ahab.srk_table(signing.pki(kind).srk_table) is None


@settings(deadline=None)
@given(data=st.data())
def test_damaged_containers_raise_nothing(data: st.DataObject) -> None:
    """Whatever their fields say."""
    whole = bytearray(data.draw(st.sampled_from([
        sample("good-v2-p384.bin.gz")[:0x800], sample("good-93-sd-spl.bin.gz")[:0x800], sample("SRK_p384_table.bin"),
        sample("SRK_p384_v2_table.bin"),
    ])))  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(0x140, len(whole) - 1)))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    ahab.containers(bytes(whole))
    ahab.srk_table(bytes(whole))
