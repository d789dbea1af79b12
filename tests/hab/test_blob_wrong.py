"""Blobs that cst makes and ends with 0, and that a board would refuse: each is refused, and the check is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from digsigd import hab
from digsigd.testing import TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import ARTIFACT, IMAGE, WHOLE, Signed, Signing, changed_at, strips, with_image

both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
both_kinds = pytest.mark.parametrize("kind", ["rsa2048", "p256"])
pytestmark = both_versions


def refused_by(check: str, error: hab.HabError) -> str:
    """What an error says, which must come from this check."""
    assert isinstance(error, hab.VerificationError), error
    assert error.check == check, error
    assert str(error).startswith(f"{check}: ")
    return str(error)


def replaced(old: str, new: str) -> Callable[[str], str]:
    """An edit of a description in which `old` must stand."""

    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


@both_kinds
def test_a_tampered_artifact_is_refused(signing: Signing, version: str, kind: Any) -> None:
    """One bit of the image after it was signed; the error gives both digests."""
    signed = signing.plain(kind, version)
    tampered = with_image(signed, changed_at(IMAGE.data, 0x1234))
    text = refused_by("data-signature", tampered.refused())
    assert signed.digests[0].hex() in text
    assert tampered.digests[0].hex() in text
    outside = with_image(signed, changed_at(IMAGE.data, IMAGE.signed_size))
    assert outside.verify() == signed.verify()


@both_kinds
def test_the_keys_of_another_srk_are_refused(signing: Signing, version: str, kind: Any) -> None:
    """SRK 2's CSF key under SRK 1, by the index in the CSF: cst ends with 0."""
    signed = signing.sign(signing.pki(kind), version, srk=2, edit=replaced("Source index = 1", "Source index = 0"))
    text = refused_by("certificate", replace(signed, source_index=0).refused())
    assert "the CSF key (CSF2_1" in text
    assert "is not signed by the chosen SRK" in text


@both_kinds
def test_an_image_key_of_another_srk_is_refused(signing: Signing, version: str, kind: Any) -> None:
    """The CSF key is SRK 1's, the IMG key SRK 2's: cst ends with 0."""
    signed = signing.sign(signing.pki(kind), version, image_srk=2)
    assert "key 2 (IMG2_1" in refused_by("certificate", signed.refused())


@both_kinds
def test_fast_authentication_with_another_srk_is_refused(signing: Signing, version: str, kind: Any) -> None:
    """SRK 2 signs where the CSF uses SRK 1: cst ends with 0."""
    pki = signing.pki(kind, fast=True)
    signed = signing.sign(pki, version, srk=2, edit=replaced("Source index = 1", "Source index = 0"))
    assert "not the chosen SRK's" in refused_by("certificate", replace(signed, source_index=0).refused())


def test_another_source_index_than_asked_for_is_refused(signing: Signing, version: str) -> None:
    """A good blob of SRK 2 is not one of SRK 1."""
    text = refused_by("srk-index", signing.plain("p256", version, srk=2).refused(source_index=0))
    assert "uses SRK 2, not 1" in text


def test_an_srk_that_the_table_does_not_have_is_refused(signing: Signing, version: str) -> None:
    """SRK 4 of a table with two: cst ends with 0."""
    signed = signing.sign(signing.pki("p384"), version, edit=replaced("Source index = 0", "Source index = 3"))
    text = refused_by("srk-index", replace(signed, source_index=3).refused())
    assert "uses SRK 4 of a table with 2" in text


def test_another_machines_table_is_refused(signing: Signing, version: str) -> None:
    """The keys of one machine, the table of another, whichever of the two the blob holds."""
    mine = signing.plain("p256", version)
    other = TrialPki.make("p256", srks=4).srk_table
    assert "not the machine's" in refused_by("srk-table", mine.refused(srk_table=other))
    pki = signing.pki("p256")
    mixed = signing.sign(pki, version, files={pki.table(): other})
    assert "not signed by the chosen SRK" in refused_by("certificate", mixed.refused())


def test_a_wrong_fuse_value_is_refused(signing: Signing, version: str) -> None:
    """The error gives the table's and the pinned one."""
    signed, pki = signing.plain("p256", version), signing.pki("p256")
    text = refused_by("fuses", signed.refused(fuse_value=changed_at(pki.fuse_value, 31)))
    assert pki.fuse_value.hex() in text
    assert changed_at(pki.fuse_value, 31).hex() in text
    refused_by("fuses", signed.refused(fuse_value=b""))


@both_kinds
@pytest.mark.parametrize("place", [20, -20], ids=["first-key", "last-key"])
def test_a_corrupt_srk_table_is_refused(signing: Signing, version: str, kind: Any, place: int) -> None:
    """One that cst takes, ending with 0: the machine's own is good, or is the corrupt one itself."""
    pki = signing.pki(kind)
    corrupt = changed_at(pki.srk_table, place % len(pki.srk_table))
    signed = signing.sign(pki, version, files={pki.table(): corrupt})
    refused_by("srk-table", signed.refused(srk_table=pki.srk_table))
    own = signed.refused(fuse_value=pki.fuse_value)
    if kind == "p256":
        # No point of the curve any more.
        assert isinstance(own, hab.FormatError)
    elif place < 0:
        # Another modulus is a key like any other. Only the fuses tell.
        refused_by("fuses", own)
        assert signed.verify().srk == 1
    else:
        refused_by("certificate", signed.refused())


@both_kinds
def test_a_block_of_no_length_is_refused(signing: Signing, version: str, kind: Any) -> None:
    """It signs nothing, and cst ends with 0."""
    empty = hab.Block(IMAGE.address, 0, 0)
    signed = signing.sign(signing.pki(kind), version, blocks=[empty])
    text = refused_by("blocks", replace(signed, blocks=((WHOLE,),)).refused())
    assert "0x7e0fc0+0x0, expected 0x7e0fc0+0x2000" in text


@both_kinds
def test_no_authenticate_data_is_refused(signing: Signing, version: str, kind: Any) -> None:
    """A description that signs no data: cst ends with 0, whether data was expected or not."""
    signed = signing.sign(signing.pki(kind), version, edit=lambda text: text[: text.index("[Authenticate Data]")])
    assert "the CSF has 0 Authenticate Data commands; it must have 1" in refused_by("blocks", signed.refused())
    refused_by("blocks", signed.refused(expected_blocks=[], digests=[]))


def test_fewer_authenticate_data_than_expected_are_refused(signing: Signing, version: str) -> None:
    """One of two is not enough."""
    signed = replace(signing.plain("p256", version), blocks=((WHOLE,), (WHOLE,)))
    assert "the CSF has 1 Authenticate Data commands; it must have 2" in refused_by("blocks", signed.refused())


@both_kinds
def test_the_placeholders_of_hsm_mode_are_refused(signing: Signing, version: str, kind: Any) -> None:
    """With `Mode = HSM` cst ends with 0 and puts no signature where it belongs."""
    signed = signing.sign(signing.pki(kind), version, edit=replaced("[Header]\n", "[Header]\nMode = HSM\n"))
    error = signed.refused()
    assert isinstance(error, hab.FormatError)
    assert "not CMS" in str(error)


@pytest.mark.parametrize("count", [88, 100])
def test_more_blocks_than_cst_can_hold_are_refused(signing: Signing, version: str, count: int) -> None:
    """A buffer of cst's overflows and it ends with 0; HAB takes no CSF as long as that."""
    signed = signing.sign(signing.pki("p256"), version, blocks=strips(count))
    assert f"whose commands have {80 + 8 * count} bytes; HAB4 allows 768" in str(signed.refused())


def test_an_expired_chain_with_another_flaw_is_refused_for_that(signing: Signing, version: str) -> None:
    """A note on dates hides nothing."""
    signed = signing.sign(TrialPki.make("p256", srks=1, valid_days=-3, encrypted=False), version)
    refused_by("data-signature", with_image(signed, changed_at(IMAGE.data, 0)).refused())


@pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])
def test_a_blob_for_other_blocks_is_refused(signing: Signing, version: str, fast: bool) -> None:
    """Address, length, number and order of blocks are compared, their place in the file by the digest."""
    first, second = strips(2, 0x800)
    signed = signing.sign(signing.pki("p256", fast), version, blocks=[first, second])
    assert signed.verify().blocks == 2

    def with_blocks(*blocks: hab.Block) -> Signed:
        return replace(signed, blocks=(blocks,))

    moved = replace(second, address=second.address + 4)
    assert "block 2 is 0x7e17c0+0x800, expected 0x7e17c4+0x800" in refused_by(
        "blocks", with_blocks(first, moved).refused()
    )
    shorter = replace(first, length=0x7FF)
    assert "block 1 is 0x7e0fc0+0x800, expected 0x7e0fc0+0x7ff" in refused_by(
        "blocks", with_blocks(shorter, second).refused()
    )
    refused_by("blocks", with_blocks(second, first).refused())
    assert "the command has 2 blocks, but must have 1" in refused_by("blocks", with_blocks(first).refused())
    assert "the command has 2 blocks, but must have 3" in refused_by(
        "blocks", with_blocks(first, second, moved).refused()
    )
    refused_by("blocks", with_blocks().refused())
    refused_by("data-signature", with_blocks(first, replace(second, offset=0)).refused())


def test_digests_and_blocks_must_be_as_many(signing: Signing, version: str) -> None:
    """A caller's mistake is no matter of the blob's."""
    with pytest.raises(ValueError, match="one digest for each"):
        signing.plain("p256", version).verify(digests=[])


def test_an_artifact_of_another_name_changes_nothing(signing: Signing, version: str) -> None:
    """The blob holds addresses, not names."""
    edit = replaced(ARTIFACT, "other.bin")
    assert signing.sign(signing.pki("p256"), version, edit=edit, files={"other.bin": IMAGE.data}).verify().srk == 1
