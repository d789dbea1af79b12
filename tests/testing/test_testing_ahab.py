"""The AHAB file and keys of demonstrations and tests have the shape of real ones."""

from __future__ import annotations

import pytest

from digsigd import ahab
from digsigd.testing import TrialAhabImage, TrialAhabPki


@pytest.mark.parametrize("size", [0x10000, 0x20000, 1 << 20])
def test_a_file_of_any_size_has_a_good_layout(size: int) -> None:
    """Three containers, two of them the owner's and unsigned, whose images are where they say, with their hashes."""
    image = TrialAhabImage.of_size(size)
    assert len(image.data) == size
    firmware, *owners = ahab.find(image.data)
    assert firmware.srk_set == ahab.SrkSet.NXP
    assert ahab.verify(image.data, firmware.offset, srk_set=ahab.SrkSet.NXP).encrypted == ()
    assert [(one.offset, one.offset + one.block_offset) for one in owners] == list(image.containers)
    assert image.containers[0] == (0x400, 0x490)
    for one in owners:
        assert not one.is_signed
        for entry in one.images:
            start = one.offset + entry.offset
            assert ahab.images.hashing(image.data)(entry.hash_name, start, entry.size) == entry.digest
    last = owners[-1].images[-1]
    assert owners[-1].offset + last.offset + last.size == size


@pytest.mark.parametrize("size", [0, 0xFC00, 0x10001])
def test_a_size_that_no_file_has_is_refused(size: int) -> None:
    """With the sizes that there are."""
    with pytest.raises(ValueError, match=f"at least 64 KiB, not {size:#x}"):
        TrialAhabImage.of_size(size)


def test_all_signature_blocks_have_room() -> None:
    """Also that of the largest key, with a certificate."""
    image = TrialAhabImage.of_size(0x10000)
    for container in ahab.find(image.data)[1:]:
        ahab.check_room(image.data, container, container.block_offset + 0xA58 + 0x420)


def test_a_description_names_what_signs() -> None:
    """The SRK's certificate, with SGKs also that of the one below it, and the table of the container's version."""
    pki = TrialAhabPki.make("p256", sgk=True)
    text = pki.csf("flash.bin", 0x400, 0x490, srk=3, version=2, prefix="../")
    for words in (
        "Version = 2.0", 'File = "../crts/SRK_1_2_3_4_v2_table.bin"', "Source index = 2",
        'Source = "../crts/SRK3_sha256_secp256r1_v3_ca_crt.pem"',
        'File = "../crts/SGK3_1_sha256_secp256r1_v3_usr_crt.pem"', "Offsets = 0x400 0x490",
    ):  # fmt: skip
        assert words in text
    assert "PRIVATE" not in repr(pki)
    assert pki.fuse_value("sha512", 2) == ahab.fuse_value(ahab.parse_table(pki.srk_table(2)), ahab.chip("mx95"))
