"""Containers that boards accept: of every kind of key and both versions, forged here and signed by the real cst."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from digsigd import ahab
from tests.helpers.ahab_cst import second_opinion, signed_by_cst
from tests.helpers.ahab_forge import KINDS, Kind, forge
from tests.helpers.blobs import Signing

both_containers = pytest.mark.parametrize("version", [0, 2])
CST_AND_CONTAINER = [("3.4.1", 0), ("4.0.1", 0), ("4.0.1", 2)]


@both_containers
@pytest.mark.parametrize("with_sgk", [False, True], ids=["srk", "sgk"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_holds(kind: Kind, with_sgk: bool, version: int) -> None:
    """With and without a certificate, with each SRK; and what was verified is told."""
    for number in range(4):
        # Blocks of RSA are too large for the place in front of another container.
        signed = forge(kind, version=version, number=number, sgk=kind if with_sgk else None, alone=True)
        found = signed.verify(srk_table=signed.table, srk_index=number, original=signed.unsigned)
        table = ahab.parse_table(signed.table)
        assert found.srk == number + 1
        assert found.certificate == with_sgk
        assert found.key_name == found.srk_name == table_name(table)
        assert found.fuse_values == {name: table.hash(name) for name in ("sha256", "sha512")}
        assert found.pqc_fuse_value is None
        assert (found.encrypted, found.notes) == ((), ())
        assert [image.size for image in found.images] == [0x400, 0x400]
        assert found.bytes_covered == found.container.signed_length + 0x800
        assert f"SRK {number + 1} ({found.srk_name})" in str(found)
        assert ("a certificate for" in str(found)) == with_sgk


def table_name(table: ahab.SrkTable | ahab.SrkArray) -> str:
    """The kind of key of a table."""
    records = table.records if isinstance(table, ahab.SrkTable) else table.tables[0].records
    (name,) = {record.name for record in records}
    return name


@pytest.mark.parametrize(
    ("srk", "sgk"), [("p384", "rsa2048"), ("rsa4096", "p521"), ("pss2048", "p256"), ("p256", "pss3072")]
)
@both_containers
def test_certificates_of_other_kinds_than_the_srk_s_hold(srk: Kind, sgk: Kind, version: int) -> None:
    """The container is signed with the certificate's key and hash, the certificate with the SRK's."""
    signed = forge(srk, version=version, sgk=sgk, alone=True)
    found = signed.verify(srk_table=signed.table)
    assert found.key_name != found.srk_name


@pytest.mark.parametrize("salt", [0, 20, 32, 222], ids=["none", "20", "digest", "longest"])
@both_containers
def test_rsa_pss_may_have_any_salt(version: int, salt: int) -> None:
    """Cst's is as long as it can be, SPSDK's as long as the hash."""
    forge("pss2048", version=version, salt=salt, alone=True).verify()


@both_containers
@pytest.mark.parametrize("place", [0, 31, 32, 63], ids=["r", "end of r", "s", "end of s"])
def test_signatures_with_zeros_at_an_end_hold(version: int, place: int) -> None:
    """One of 256 has a zero in front of r: both numbers are as long as the curve, whatever they are."""
    for _ in range(20_000):
        signed = forge("p256", version=version, alone=True)
        block = signed.container.block
        assert block is not None
        if block.signatures[0][place] == 0:
            signed.verify()
            return
    pytest.fail("none of 20000 signatures has a zero there")


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        *((version, digest) for version in (0, 2) for digest in ("sha256", "sha384", "sha512")),
        *((2, digest) for digest in ("sha3-256", "sha3-384", "sha3-512")),
    ],
)
def test_every_hash_of_signatures_holds(version: int, digest: str) -> None:
    """It is that of the signing key's record."""
    found = forge("p384", version=version, digest=digest).verify()
    assert found.container.block is not None
    assert found.container.block.srk is not None


@both_containers
@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_every_hash_of_images_holds(version: int, name: str) -> None:
    """Whichever the image's entry has; an image without bytes has the hash of nothing."""
    images = [
        ahab.ContainerImage(b"\x11" * 0x400, 0x8000, hash_name=name),
        ahab.ContainerImage(b"", 0, kind=5, hash_name=name),
    ]
    found = forge(version=version, images=images).verify()
    assert found.images[0].digest == hashlib.new(name, b"\x11" * 0x400).digest()
    assert found.images[1].digest == hashlib.new(name).digest()


@pytest.mark.parametrize("name", ["sha3-256", "sha3-384", "sha3-512", "shake128-256", "shake256-512"])
def test_version_2_has_more_hashes_of_images(name: str) -> None:
    """SHA-3 and SHAKE; version 0 does not have them."""
    image = ahab.ContainerImage(b"\x11" * 0x400, 0x8000, hash_name=name)
    assert forge(version=2, images=[image]).verify().images[0].hash_name == name
    # (What are the bits of SHAKE there says that the image is encrypted in version 0.)
    with pytest.raises(ahab.VerificationError, match=r"unknown|no blob"):
        forge(images=[image]).verify()


def test_one_table_leaves_nothing_of_a_second_one_to_note() -> None:
    """Only an array of two has a value that may be missing."""
    signed = forge(version=2)
    value = ahab.parse_table(signed.table).hash("sha512")
    assert signed.verify(fuse_value=value).notes == ()


@pytest.mark.parametrize(("cst", "version"), CST_AND_CONTAINER)
@pytest.mark.parametrize("with_sgk", [False, True], ids=["srk", "sgk"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_cst_signs_holds(
    signing: Signing, tmp_path: Path, kind: Kind, with_sgk: bool, cst: str, version: int
) -> None:
    """Byte for byte as forged, but for what is random; and NXP's own verifier agrees."""
    sgk = kind if with_sgk else None
    signed = signed_by_cst(signing, cst, kind, version=version, sgk=sgk, number=2, alone=True)
    found = signed.verify(srk_table=signed.table, srk_index=2, original=signed.unsigned)
    assert found.certificate == with_sgk
    forged = forge(kind, version=version, number=2, sgk=sgk, alone=True)
    # (RSA's signatures are the same every time, those of the others and of their certificates are not.)
    same = len(signed.data) if kind.startswith("rsa") else found.container.signed_length
    assert signed.data[:same] == forged.data[:same]
    assert found.container.length == forged.container.length
    assert second_opinion(signing, tmp_path, signed.data, signed.offset) == "good"


@pytest.mark.parametrize("kind", ["p256", "p521", "pss2048"])
@both_containers
def test_what_is_forged_here_holds_for_nxp_s_verifier(
    signing: Signing, tmp_path: Path, kind: Kind, version: int
) -> None:
    """So that tests with it are tests of what boards see."""
    for sgk in (None, kind):
        signed = forge(kind, version=version, sgk=sgk, alone=True)
        assert second_opinion(signing, tmp_path, signed.data, signed.offset) == "good"


def test_what_was_verified_is_said_in_one_line() -> None:
    """With the number of images."""
    assert str(forge().verify()).endswith("the container at 0x400 and 2 images, 2648 bytes")
    alone = forge(images=[ahab.ContainerImage(b"\1" * 0x400, 0x2000)]).verify()
    assert str(alone).endswith("the container at 0x400 and 1 image, 1496 bytes")


def test_a_container_may_be_in_the_middle_of_a_file() -> None:
    """All its offsets count from its header; NXP's own one holds with NXP's set."""
    signed = forge("p384")
    assert signed.offset == 0x400
    signed.verify()
    ahab.verify(signed.data, 0, srk_set=ahab.SrkSet.NXP)
    with pytest.raises(ahab.VerificationError, match=r"^srk-set: .* NXP's; it must be the OEM's"):
        ahab.verify(signed.data, 0)


def test_digests_may_come_from_elsewhere() -> None:
    """They are asked for by file offset, once for each image; the file's own images are not read."""
    signed = forge("p256")
    asked: list[tuple[str, int, int]] = []

    def digest(name: str, offset: int, length: int) -> bytes:
        asked.append((name, offset, length))
        return hashlib.new(name, signed.data[offset : offset + length]).digest()

    signed.verify(digest=digest)
    assert asked == [("sha384", 0x2400, 0x400), ("sha384", 0x2800, 0x400)]
    with pytest.raises(ahab.VerificationError, match="image-hash"):
        signed.verify(digest=lambda *_: bytes(48))


@pytest.mark.parametrize("version", [0, 2])
def test_the_flag_of_a_ca_alone_is_noted(version: int) -> None:
    """No source says whether boards accept a container that such an SRK signs itself."""
    (note,) = forge("p384", version=version, ca=True).verify().notes
    assert "flag CA" in note
    assert forge("p384", version=version, sgk="p384").verify().notes == ()


def test_a_certificate_for_one_board_is_noted() -> None:
    """The others refuse it."""
    (note,) = forge("p384", version=2, sgk="p384", uuid=bytes(range(16))).verify().notes
    assert bytes(range(16)).hex() in note
