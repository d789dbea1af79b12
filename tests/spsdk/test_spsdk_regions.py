"""What the signature provider for SPSDK takes for a container, and all that it refuses before anything is sent."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress

import pytest

from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.region import parse_region
from tests.helpers.ahab_cases import image
from tests.helpers.spsdk_regions import UBOOT, region, table


def test_a_region_is_read() -> None:
    """Key, revocations, versions, images and the length of the signature that belongs there."""
    found = parse_region(region(offset=UBOOT, index=2, revoked=1, sw_version=5, fuse_version=3, upper_flags=0x200000))
    one = found.container
    assert (one.srk_index, one.revoke_mask, one.sw_version, one.fuse_version) == (2, 1, 5, 3)
    assert len(one.images) == 3
    assert found.table == table()
    assert found.signature_length == 96
    assert found.flags_above == 0x200000


@pytest.mark.parametrize("name", ["sha1", "sha256", "sha384", "sha512"])
def test_a_bare_digest_is_refused(name: str) -> None:
    """The host would be an oracle for whatever has that digest."""
    with pytest.raises(ProviderError, match="a bare digest"):
        parse_region(hashlib.new(name, region()).digest())


@pytest.mark.parametrize("length", [0, 1, 15])
def test_less_than_a_header_is_refused(length: int) -> None:
    """As a digest is."""
    with pytest.raises(ProviderError, match="no digests"):
        parse_region(region()[:length])


@pytest.mark.parametrize(
    ("tag", "what"),
    [(0x89, "a signed message"), (0x82, "a container of V2X"), (0xAF, r"a certificate \(SGK\)"), (0x41, "no AHAB")],
)
def test_what_is_not_a_container_is_refused(tag: int, what: str) -> None:
    """SPSDK signs more than containers with the same signer: keys of boards are not for that."""
    data = region()
    with pytest.raises(ProviderError, match=what):
        parse_region(data[:3] + bytes([tag]) + data[4:])


def test_version_2_is_refused() -> None:
    """SPSDK does not pad what cst pads."""
    with pytest.raises(ProviderError, match="is of version 2"):
        parse_region(b"\2" + region()[1:])


@pytest.mark.parametrize("version", [1, 3, 0x80])
def test_an_unknown_version_is_refused(version: int) -> None:
    """Nobody knows what its bytes mean."""
    with pytest.raises(ProviderError, match="no AHAB container"):
        parse_region(bytes([version]) + region()[1:])


def test_a_block_that_is_not_padded_is_refused() -> None:
    """P-521: SPSDK's block has 740 bytes, cst's 744."""
    with pytest.raises(ProviderError, match="740 bytes") as caught:
        parse_region(region(srks=table("p521"), signature=132))
    assert "P-521" in caught.value.hint
    assert "digsign sign" in caught.value.hint


def test_a_certificate_is_refused() -> None:
    """Its SGK is not one of the SRKs, and SPSDK itself refuses cst's certificates."""
    with pytest.raises(ProviderError, match=r"certificate \(SGK\)"):
        parse_region(region(certificate=0x230))


def test_a_blob_is_refused() -> None:
    """The host cannot prove what is in an encrypted image."""
    with pytest.raises(ProviderError, match="encrypted"):
        parse_region(region(blob=0x230))


@pytest.mark.parametrize("srk_set", [0, 1, 3])
def test_other_keys_than_oem_s_are_refused(srk_set: int) -> None:
    """NXP's containers are not for the OEM to sign."""
    with pytest.raises(ProviderError, match="not for OEM keys"):
        parse_region(region(srk_set=srk_set))


def test_what_is_in_front_of_or_behind_a_container_is_refused() -> None:
    """One container, up to its signature: not a byte more or less."""
    data = region()
    signature = struct.pack("<BHBI", 0, 104, 0xD8, 0) + bytes(96)
    for wrong in (data + b"\0", data[:-1], data + bytes(104), data + signature, b"\0" + data, data[:0x90]):
        with pytest.raises(ProviderError):
            parse_region(wrong)


def test_a_signature_block_elsewhere_is_refused() -> None:
    """A board looks for it behind the images' entries."""
    data = bytearray(region())
    struct.pack_into("<H", data, 12, 0x110)
    with pytest.raises(ProviderError, match="signature block is at 0x110"):
        parse_region(bytes(data))


@pytest.mark.parametrize(("at", "what"), [(0x93, "no signature block"), (1, "its length"), (0x91, "its length")])
def test_lengths_and_tags_must_agree(at: int, what: str) -> None:
    """Of the header and of the signature block."""
    data = bytearray(region())
    data[at] ^= 8
    with pytest.raises(ProviderError, match=what):
        parse_region(bytes(data))


def test_no_room_for_a_signature_is_refused() -> None:
    """A block that ends where its signature begins."""
    data = bytearray(region(signature=0))
    with pytest.raises(ProviderError, match="no room for a signature"):
        parse_region(bytes(data))


def test_a_signature_of_another_length_than_the_key_s_is_refused() -> None:
    """P-384 makes 96 bytes."""
    with pytest.raises(ProviderError, match="its signature has 64 bytes, its key makes 96"):
        parse_region(region(signature=64))


def test_every_byte_of_the_table_s_frame_counts() -> None:
    """A damaged table is none, whatever is said of it."""
    data = bytearray(region())
    data[0xA0] ^= 1
    with pytest.raises(ProviderError, match="a container with a fault"):
        parse_region(bytes(data))


def test_no_byte_of_a_region_causes_an_error_of_another_kind() -> None:
    """Whatever stands there, it is a region or refused."""
    data = region(srks=table("p256"), signature=64)
    for at in range(len(data)):
        for value in (0, 1, 2, 0x21, 0x22, 0x27, 0x28, 0x7F, 0x80, 0xD1, 0xD2, 0xFF):
            with suppress(ProviderError):
                parse_region(data[:at] + bytes([value]) + data[at + 1 :])


def test_no_prefix_and_no_tail_of_an_image_is_a_region() -> None:
    """Not even where containers are in it: bounded, and without an error of another kind."""
    whole = image("good-93-sd-spl")
    for start in range(0, 0x4800, 0x200):
        for end in (start + 0x258, start + 0x400, len(whole)):
            with pytest.raises(ProviderError):
                parse_region(whole[start:end])
