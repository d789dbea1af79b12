"""What the real cst makes of good keys is accepted, and is told as it is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from digsigd import hab
from digsigd.testing import TrialPki
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import IMAGE, KINDS, WHOLE, Signing, strips, written

# One block a line: to cst a string ends with the last quotation mark of its line.
_NEXT = ", \\\n"
both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])


@both_versions
@both_ways
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_key_is_proven(signing: Signing, kind: KeyKind, version: str, fast: bool) -> None:
    """Each size and curve, from each cst, with certificates below the SRK and without."""
    pki = signing.pki(kind, fast)
    verified = signing.plain(kind, version, fast).verify(fuse_value=pki.fuse_value)
    assert verified.srk == 1
    assert verified.fuse_value == pki.fuse_value
    assert verified.fast_authentication == fast
    assert [one.index for one in verified.certificates] == ([] if fast else [1, 2])
    assert (verified.bytes_covered, verified.blocks, verified.notes) == (IMAGE.signed_size, 1, ())


@both_versions
@both_ways
@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_s_length_is_found_in_the_room_for_it(signing: Signing, kind: KeyKind, version: str, fast: bool) -> None:
    """Where zeros stand behind it, or what an older and longer blob left."""
    blob = signing.plain(kind, version, fast).blob
    # Without a CSF key, what begins as a certificate behind the blob is one: the SRK's, which cst puts there.
    older = b"" if fast else b"\xd7\x01\x00\x41" * 64
    for rest in (b"", bytes(0x2000 - len(blob)), b"\xee" * 64, older):
        length = hab.blob_length(blob + rest)
        assert blob[length:] == bytes(len(blob) - length)
        assert len(blob) - length < 4
        assert signing.plain(kind, version, fast).verify(blob[:length])


@both_versions
@both_ways
@pytest.mark.parametrize("srk", [1, 2, 3, 4])
def test_every_srk_of_a_table_is_proven(signing: Signing, version: str, fast: bool, srk: int) -> None:
    """The four of a table all stand for the same fuse value."""
    verified = signing.plain("p256", version, fast, srk).verify(fuse_value=signing.pki("p256", fast).fuse_value)
    assert verified.srk == srk
    assert [one.subject[:4] for one in verified.certificates] == ([] if fast else [f"CSF{srk}", f"IMG{srk}"])


@both_versions
def test_what_is_to_be_digested_stands_in_the_blob(signing: Signing, version: str) -> None:
    """The algorithm, and address and length of each block, in order."""
    blocks = strips(3)
    signed = signing.sign(signing.pki("p256"), version, blocks=blocks)
    wanted = hab.DataDigest("sha256", tuple((one.address, one.length) for one in blocks))
    assert hab.wanted(signed.blob) == (wanted,)


@both_versions
@pytest.mark.parametrize("count", [2, 8])
def test_several_blocks_are_proven(signing: Signing, version: str, count: int) -> None:
    """As many as CAAM takes by one command."""
    verified = signing.sign(signing.pki("p256"), version, blocks=strips(count)).verify()
    assert (verified.blocks, verified.bytes_covered) == (count, count * 0x10)


@both_versions
def test_many_blocks_are_proven_in_several_commands(signing: Signing, version: str) -> None:
    """Eight each, up to the 768 bytes of commands that cst and HAB can hold."""
    blocks = strips(72)
    groups = [tuple(blocks[at : at + 8]) for at in range(0, 72, 8)]
    more = "".join(
        f"[Authenticate Data]\nVerification index = 2\nBlocks = {_NEXT.join(written(one) for one in group)}\n"
        for group in groups[1:]
    )
    signed = signing.sign(signing.pki("p256"), version, blocks=groups[0], edit=lambda text: text + more)
    verified = replace(signed, blocks=tuple(groups)).verify()
    assert (verified.blocks, verified.bytes_covered) == (72, 72 * 0x10)


@both_versions
@pytest.mark.parametrize(
    ("engine", "taken", "refused"),
    [("CAAM", 8, 9), ("CAAM", 8, 64), ("ANY", 8, 9), ("DCP", 6, 7), ("SAHARA", 12, 13), ("RTIC", 8, 9), ("SW", 20, 0)],
)
def test_an_engine_takes_so_many_blocks(signing: Signing, version: str, engine: str, taken: int, refused: int) -> None:
    """By one command: HAB_CAAM_BLOCK_MAX and its like. cst ends with 0 for more, and HAB refuses the image."""

    def with_engine(text: str) -> str:
        return text.replace("Engine = CAAM", f"Engine = {engine}", 1)

    pki = signing.pki("p256")
    assert signing.sign(pki, version, blocks=strips(taken, 0x40), edit=with_engine).verify().blocks == taken
    if refused:
        error = signing.sign(pki, version, blocks=strips(refused, 0x40), edit=with_engine).refused()
        assert f"{refused} blocks in one Authenticate Data; {engine} allows at most {taken}" in str(error)


@both_versions
def test_blocks_that_dcp_does_not_take_are_noted(signing: Signing, version: str) -> None:
    """HABv4 API, 5.2: all but the last are multiples of 64 bytes. i.MX RT are seen to warn of others, and to boot."""

    def dcp(text: str) -> str:
        return text.replace("Engine = CAAM", "Engine = DCP", 1)

    first = hab.Block(IMAGE.address, 0, 0x80)
    odd = hab.Block(IMAGE.address + 0x80, 0x80, 0x30)
    last = hab.Block(IMAGE.address + 0x100, 0x100, 0x40)
    pki = signing.pki("p256")
    assert signing.sign(pki, version, blocks=[first, last, odd], edit=dcp).verify().notes == ()
    (note,) = signing.sign(pki, version, blocks=[first, odd, last], edit=dcp).verify().notes
    assert "a block of 0x30 bytes is before other blocks, where DCP needs multiples of 64" in note
    assert signing.sign(pki, version, blocks=[first, odd, last]).verify().notes == ()


@both_versions
@pytest.mark.parametrize(
    ("engine", "configuration"),
    [("CAAM", "IN_SWAP_8"), ("CAAM", "IN_SWAP_16"), ("CAAM", "OUT_SWAP_8"), ("RTIC", "IN_SWAP_8")],
)
def test_an_engine_that_swaps_bytes_is_refused(signing: Signing, version: str, engine: str, configuration: str) -> None:
    """Cst signs the bytes as they stand, and the engine would see others."""

    def swapped(text: str) -> str:
        text = text.replace("Engine = CAAM", f"Engine = {engine}", 1)
        return text.replace("Engine Configuration = 0", f"Engine Configuration = {configuration}", 1)

    says = str(signing.sign(signing.pki("p256"), version, edit=swapped).refused())
    assert f"makes {engine} swap bytes" in says


@both_versions
def test_several_commands_are_proven_each_with_its_own_digest(signing: Signing, version: str) -> None:
    """Two Authenticate Data make two signatures, and the order of the digests matters."""
    first, second = strips(2, 0x100)
    more = f"[Authenticate Data]\nVerification index = 2\nBlocks = {written(second)}\n"
    signed = signing.sign(signing.pki("p256"), version, blocks=[first], edit=lambda text: text + more)
    signed = replace(signed, blocks=((first,), (second,)))
    assert signed.verify().blocks == 2
    assert "data-signature" in str(signed.refused(digests=signed.digests[::-1]))
    assert "blocks" in str(signed.refused(expected_blocks=signed.blocks[::-1]))
    assert "more than the 1 Authenticate Data commands that it must have" in str(
        signed.refused(expected_blocks=[[first]], digests=signed.digests[:1])
    )


@both_versions
def test_a_hash_other_than_sha256_is_refused(signing: Signing, version: str) -> None:
    """Also where it is asked for: no engine of HAB4 computes SHA-512 (HABv4 API, 5.2 to 5.8)."""

    def sha512(text: str) -> str:
        text = text.replace("Hash Algorithm = sha256", "Hash Algorithm = sha512")
        return text.replace("Source index = 0", "Source index = 0\n    Hash Algorithm = sha256")

    signed = signing.sign(signing.pki("p256"), version, edit=sha512)
    digest = hashlib.sha512(IMAGE.data[: IMAGE.signed_size]).digest()
    assert "uses sha512, not sha256" in str(signed.refused(digests=[digest], digest_algorithm="sha512"))
    assert "uses sha512, not sha256" in str(signed.refused())


@both_versions
@pytest.mark.parametrize("algorithm", ["sha1", "sha512"])
def test_a_table_hashed_otherwise_than_the_fuses_is_refused(signing: Signing, version: str, algorithm: str) -> None:
    """The header's algorithm is also the table's, and fuses hold SHA-256: cst ends with 0."""
    signed = signing.sign(signing.pki("p256"), version, edit=lambda text: text.replace("= sha256", f"= {algorithm}"))
    assert "with SHA-256" in str(signed.refused(digest_algorithm=algorithm))


@both_versions
def test_without_unlock_it_is_proven(signing: Signing, version: str) -> None:
    """A FIT's or a kernel's description has none."""
    pki = signing.pki("p256")
    text = pki.csf(written(WHOLE), unlock=False)
    assert signing.sign(pki, version, edit=lambda _: text).verify().srk == 1


@both_versions
def test_expired_certificates_are_noted_not_refused(signing: Signing, version: str) -> None:
    """The boot ROM has no clock."""
    signed = signing.sign(TrialPki.make("p256", srks=1, valid_days=-30, encrypted=False), version)
    verified = signed.verify(now=datetime.now(UTC))
    day = f"{verified.certificates[0].not_after:%Y-%m-%d}"
    assert verified.notes == (
        f"the certificate of the CSF key (CSF1_1_sha256_secp256r1_v3_usr) expired on {day}",
        f"the certificate of key 2 (IMG1_1_sha256_secp256r1_v3_usr) expired on {day}",
    )
    assert signed.verify().notes == ()


def test_certificates_that_are_not_valid_yet_are_noted(signing: Signing) -> None:
    """Seen a week before they were made."""
    signed = signing.plain("p256", "3.4.1")
    past = datetime.now(UTC) - timedelta(days=7)
    notes = signed.verify(now=past).notes
    assert len(notes) == 2
    assert all("is not valid before" in note for note in notes)


def test_what_was_proven_reads_as_a_sentence(signing: Signing) -> None:
    """For the log: which SRK, which keys, how much."""
    table = signing.pki("p256")
    assert str(signing.plain("p256", "3.4.1").verify()) == (
        f"SRK 1 of the table with fuse value {table.fuse_value.hex()} -> CSF1_1_sha256_secp256r1_v3_usr,"
        " IMG1_1_sha256_secp256r1_v3_usr -> commands and 8192 bytes of data in 1 block"
    )
    fast = signing.plain("p256", "3.4.1", True, 2).verify()
    assert "SRK 2 of" in str(fast)
    assert "the SRK itself (fast authentication)" in str(fast)
