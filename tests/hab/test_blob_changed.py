"""No byte of a blob can be changed, left out or added without its being noticed."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.hab.csf_blob import Authenticate, CsfBlob, InstallKey
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import Signed, Signing, changed_at

both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
# A changed certificate may have a serial number that cryptography warns of.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def loose_certificate(blob: bytes) -> range:
    """Where the certificate lies that no command points to: what comes behind the table with fast authentication."""
    start = blob.index(CsfBlob.parse(blob).loose[0])
    return range(start, start + int.from_bytes(blob[start + 1 : start + 3], "big"))


def unnoticed(signed: Signed, offsets: Iterable[int], mask: int) -> list[int]:
    """The offsets where a changed byte is accepted. Any error but hab's own fails."""
    accepted = []
    for offset in offsets:
        try:
            signed.verify(changed_at(signed.blob, offset, mask))
        except hab.HabError:
            continue
        accepted.append(offset)
    return accepted


@both_versions
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_every_single_byte_counts(signing: Signing, kind: KeyKind, version: str, mask: int) -> None:
    """Every byte of a whole blob: commands, table, certificates, signatures, and the padding between."""
    signed = signing.plain(kind, version)
    assert unnoticed(signed, range(len(signed.blob)), mask) == []


@pytest.mark.parametrize("bit", range(1, 7))
def test_every_single_bit_counts(signing: Signing, bit: int) -> None:
    """The bits that the masks above leave."""
    signed = signing.plain("p256", "3.4.1")
    assert unnoticed(signed, range(len(signed.blob)), 1 << bit) == []


@both_versions
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_fast_authentication_leaves_only_what_the_rom_does_not_read(
    signing: Signing, kind: KeyKind, version: str
) -> None:
    """Whatever can be changed lies inside the SRK's certificate, which the ROM does not read."""
    signed = signing.plain(kind, version, fast=True)
    accepted = unnoticed(signed, range(len(signed.blob)), 0x01)
    certificate = loose_certificate(signed.blob)
    assert [offset for offset in accepted if offset not in certificate] == []
    # Its header, its key, and what the signatures name it by are looked at even so.
    assert [offset for offset in accepted if offset < certificate.start + 4] == []


@both_versions
@pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])
def test_a_truncated_blob_is_refused(signing: Signing, version: str, fast: bool) -> None:
    """At every length; only the padding behind the last signature may be missing."""
    signed = signing.plain("p256", version, fast)
    end = len(signed.blob.rstrip(b"\0"))
    for length in range(end):
        signed.refused(signed.blob[:length])


@both_versions
@pytest.mark.parametrize("more", [b"\0\0\0\0", b"\1", b"\xd7\0\4\x43", b"\xd8\0\4\x43", b"\0" * 0x2000])
def test_bytes_behind_the_blob_are_refused(signing: Signing, version: str, more: bytes) -> None:
    """More than padding belongs to no command."""
    for fast in (False, True):
        signed = signing.plain("p256", version, fast)
        signed.refused(signed.blob + more)


def objects(blob: bytes) -> list[bytes]:
    """What commands point at, in the commands' order."""
    parsed = CsfBlob.parse(blob)
    return [parsed.object_at(one) for one in parsed.commands if isinstance(one, InstallKey | Authenticate)]


def swapped(blob: bytes, one: bytes, other: bytes) -> bytes:
    """The blob with two of its parts, of the same length, in each other's place."""
    assert len(one) == len(other)
    before, behind = sorted([blob.index(one), blob.index(other)])
    first, second = (one, other) if blob.index(one) == before else (other, one)
    length = len(one)
    return blob[:before] + second + blob[before + length : behind] + first + blob[behind + length :]


@both_versions
def test_parts_in_each_others_place_are_refused(signing: Signing, version: str) -> None:
    """The two certificates, or the two signatures."""
    signed = signing.plain("rsa2048", version)
    _, csf_key, csf_signature, img_key, data_signature = objects(signed.blob)
    error = signed.refused(swapped(signed.blob, csf_signature, data_signature))
    assert isinstance(error, hab.VerificationError)
    assert error.check == "csf-signature"
    error = signed.refused(swapped(signed.blob, csf_key, img_key))
    assert isinstance(error, hab.VerificationError)
    assert error.check == "csf-signature"


@both_versions
def test_a_signature_of_another_request_is_refused(signing: Signing, version: str) -> None:
    """A data signature by the right key over other data, put in place of this one's."""
    signed = signing.plain("rsa2048", version)
    other = signing.sign(signing.pki("rsa2048"), version, files={"spl.bin": changed_at(signed.image, 0x80)})
    error = signed.refused(signed.blob.replace(objects(signed.blob)[-1], objects(other.blob)[-1]))
    assert isinstance(error, hab.VerificationError)
    assert error.check == "data-signature"


def test_two_bits_anywhere_are_noticed(signing: Signing) -> None:
    """Two thousand pairs of changes, from a fixed seed."""
    signed = signing.plain("p256", "3.4.1")
    chance = random.Random(4)
    for _ in range(2000):
        first, second = chance.sample(range(len(signed.blob)), 2)
        changed = changed_at(changed_at(signed.blob, first, 1 << chance.randrange(8)), second, 1 << chance.randrange(8))
        signed.refused(changed)


@settings(deadline=None)
@given(data=st.binary(max_size=600))
@example(data=b"")
@example(data=bytes(4096))
@example(data=b"\xd4\x00\x04\x43")
def test_bytes_that_are_no_blob_are_refused(signing: Signing, data: bytes) -> None:
    """Whatever they are."""
    signing.plain("p256", "3.4.1").refused(data)
