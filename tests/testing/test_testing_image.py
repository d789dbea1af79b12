"""The image of demonstrations and tests has the shape of a real one."""

from __future__ import annotations

import pytest

from digsigd import csf, hab
from digsigd.testing import TrialImage


@pytest.mark.parametrize("size", [0x2080, 0x4000, 0x10000, 1 << 20])
def test_an_image_of_any_size_has_a_good_layout(size: int) -> None:
    """An IVT at its start that is signed, and room for the CSF behind what is signed."""
    image = TrialImage.of_size(size)
    assert len(image.data) == size
    block = hab.Block(image.address, 0, image.signed_size)
    layout = hab.check_layout([[block]], [hab.File.of(image.data)])
    (ivt,) = layout.ivts
    assert (ivt.offset, ivt.self_address, ivt.entry) == (0, image.address, image.address + 0x40)
    assert layout.room == 0x2000 == size - image.signed_size


def test_code_stands_behind_the_ivt() -> None:
    """Padded to a multiple of 0x40 bytes."""
    image = TrialImage.make(b"code" * 20)
    assert image.signed_size == 0xC0
    assert image.data[0x40:0x90] == b"code" * 20
    assert not any(image.data[0x90:])


@pytest.mark.parametrize("size", [0, 0x2040, 0x2081, 0x4020])
def test_a_size_that_no_image_has_is_refused(size: int) -> None:
    """With the sizes that there are."""
    with pytest.raises(ValueError, match=f"at least 0x2080, not {size:#x}"):
        TrialImage.of_size(size)


def test_the_same_size_gives_the_same_image() -> None:
    """So that digests may be compared between runs."""
    assert TrialImage.of_size(0x8000) == TrialImage.of_size(0x8000)


def test_a_blob_goes_into_the_room_kept_for_it() -> None:
    """The size stays; a blob that is too long is refused."""
    image = TrialImage.of_size(0x4000)
    whole = image.with_csf(b"blob")
    assert len(whole) == 0x4000
    assert whole[: image.signed_size] == image.data[: image.signed_size]
    assert whole[image.signed_size :] == b"blob".ljust(0x2000, b"\0")
    assert len(image.with_csf(bytes(0x2000))) == 0x4000
    with pytest.raises(ValueError, match="0x2001 bytes, but the space for it only 0x2000"):
        image.with_csf(bytes(0x2001))


def test_its_blocks_cover_what_is_to_be_signed() -> None:
    """In the form that a CSF description has."""
    image = TrialImage.of_size(0x4000)
    assert image.blocks("spl.bin") == '0x7e0fc0 0x0 0x2000 "spl.bin"'
    text = "[Header]\nVersion = 4.3\n[Authenticate Data]\nVerification index = 0\nBlocks = " + image.blocks("spl.bin")
    assert csf.parse(text.encode())
