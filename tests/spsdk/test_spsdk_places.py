"""The container that SPSDK wants signed, found in the file with its images."""

from __future__ import annotations

from pathlib import Path

import pytest

from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.place import Place, copied
from digsigd.spsdk.region import parse_region
from tests.helpers.ahab_cases import image
from tests.helpers.spsdk_regions import CASE, SPL, UBOOT, region


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flash.bin"
    path.write_bytes(image(CASE))
    return path


def place(file: Path, data: bytes) -> Place:
    return copied(file, file.with_name("copy"), parse_region(data))


@pytest.mark.parametrize(("offset", "images"), [(SPL, 1), (UBOOT, 3)])
def test_each_container_is_found_by_its_images(file: Path, offset: int, images: int) -> None:
    """Wherever it is in the file."""
    assert place(file, region(offset=offset)) == Place(offset, offset + 0x10 + 0x80 * images)


def test_a_container_behind_4_kib_of_flexspi_is_found(file: Path) -> None:
    """SPSDK counts from the containers, the host from the file."""
    file.write_bytes(bytes(0x1000) + image(CASE))
    assert place(file, region()) == Place(0x1000 + SPL, 0x1000 + SPL + 0x90)


def test_the_copy_is_the_file(file: Path) -> None:
    """With the same versions, byte by byte."""
    place(file, region())
    assert file.with_name("copy").read_bytes() == image(CASE)


def test_the_copy_has_the_versions_that_spsdk_decides(file: Path) -> None:
    """And the flags that no description can express; key, set and revocations are the description's."""
    place(file, region(sw_version=0x1234, fuse_version=0x56, upper_flags=0x300000, index=3, revoked=1))
    expected = bytearray(image(CASE))
    expected[SPL + 4 : SPL + 12] = bytes.fromhex("10003000 3412 56 01")
    assert file.with_name("copy").read_bytes() == expected
    assert file.read_bytes() == image(CASE)


def test_a_signed_file_has_the_container_too(file: Path) -> None:
    """`nxpimage ahab re-sign` has such a file."""
    data = region()
    signed = bytearray(image(CASE))
    signed[SPL : SPL + len(data)] = data
    file.write_bytes(signed)
    assert place(file, data).offset == SPL


@pytest.mark.parametrize("at", [0x10 + 0, 0x10 + 8, 0x10 + 0x18, 0x10 + 0x20, 0x10 + 0x7F])
def test_images_of_another_build_are_refused(file: Path, at: int) -> None:
    """Any byte of an image's entry: where it is, what it is for, its hash."""
    data = bytearray(region())
    data[at] ^= 0x40
    with pytest.raises(
        ProviderError, match=r"flash\.bin (was made from something else|has no container with)"
    ) as caught:
        place(file, bytes(data))
    assert "image=FILE" in caught.value.hint


def test_the_image_that_differs_is_named(file: Path) -> None:
    """By its number and the place of its container."""
    data = bytearray(region(offset=UBOOT))
    data[0x10 + 2 * 0x80 + 0x20] ^= 1
    with pytest.raises(ProviderError, match="the container at 0x4000, the entry of image 2"):
        place(file, bytes(data))


def test_two_containers_with_the_same_images_are_refused(file: Path) -> None:
    """Which of them is meant is not known."""
    file.write_bytes(image(CASE) * 2)
    with pytest.raises(ProviderError, match="several containers with these images, at 0x400, 0xa400"):
        place(file, region())


def test_a_file_without_containers_is_refused(file: Path) -> None:
    """Such as the application that goes into one."""
    file.write_bytes(bytes(0x4000))
    with pytest.raises(ProviderError, match="has no AHAB containers"):
        place(file, region())


def test_an_empty_file_is_refused(file: Path) -> None:
    """As one without containers."""
    file.write_bytes(b"")
    with pytest.raises(ProviderError, match="has no AHAB containers"):
        place(file, region())


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    """By the key of the signer."""
    file.unlink()
    with pytest.raises(ProviderError, match=r"^image: .*flash\.bin: No such file"):
        place(file, region())


def test_a_copy_that_cannot_be_written_is_named(file: Path) -> None:
    """As when the disk is full."""
    file.with_name("copy").mkdir()
    with pytest.raises(ProviderError, match=r"cannot be copied to .*copy: File exists"):
        place(file, region())
