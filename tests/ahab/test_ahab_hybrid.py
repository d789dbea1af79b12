"""Containers with two SRK tables, the second one for ML-DSA: both signatures count."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from digsigd import ahab
from digsigd.ahab import build, write
from tests.helpers.ahab_forge import Forged, Kind, certificate_of, forge, keys_of


def refused(signed: Forged, check: str, match: str, **options: Any) -> None:
    with pytest.raises(ahab.VerificationError, match=match) as raised:
        signed.verify(**options)
    assert raised.value.check == check


@pytest.mark.parametrize("second", ["mldsa65", "mldsa87"])
@pytest.mark.parametrize("sgk", [None, "p521"], ids=["srk", "sgk"])
def test_hybrid_containers_hold(second: Kind, sgk: Kind | None) -> None:
    """Two tables, two signatures; the fuse value of the second table is its own."""
    signed = forge("p384", version=2, second=second, sgk=sgk)
    table = ahab.parse_table(signed.table)
    assert isinstance(table, ahab.SrkArray)
    values = {"fuse_value": table.hash("sha512"), "pqc_fuse_value": table.tables[1].hash("sha512")}
    found = signed.verify(srk_table=signed.table, chip=ahab.chip("mx95"), **values)
    assert found.pqc_fuse_value == values["pqc_fuse_value"]
    assert not [note for note in found.notes if "second" in note]
    alone = signed.verify(fuse_value=values["fuse_value"])
    assert alone.notes == ("the fuse value of the second SRK table was not compared: it was not given",)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_both_signatures_of_a_hybrid_count(first: bool, second: bool) -> None:
    """One that is wrong is enough, whichever."""
    good, other = (forge("p256", version=2, second="mldsa65", number=number) for number in (0, 1))
    block, foreign = good.container.block, other.container.block
    assert block is not None
    assert foreign is not None
    chosen = [foreign.signatures[0] if first else block.signatures[0]]
    chosen.append(foreign.signatures[1] if second else block.signatures[1])
    place = good.offset + block.signature_offset
    raw = b"".join(write.write_signature(one) for one in chosen)
    which = 1 if first else 2
    with pytest.raises(ahab.VerificationError, match=f"signature {which} of the container"):
        good.verify(good.data[:place] + raw + good.data[place + len(raw) :])


def test_both_signatures_of_a_hybrid_s_certificate_count() -> None:
    """They are made by the two SRKs."""
    good, other = (forge("p256", version=2, second="mldsa65", number=number, sgk="p256") for number in (0, 1))
    block, foreign = good.container.block, other.container.block
    assert block is not None
    assert block.certificate is not None
    assert foreign is not None
    assert foreign.certificate is not None
    for chosen in (
        (foreign.certificate.signatures[0], block.certificate.signatures[1]),
        (block.certificate.signatures[0], foreign.certificate.signatures[1]),
    ):
        raw = block.certificate.signed + b"".join(write.write_signature(one) for one in chosen)
        place = good.offset + block.certificate.offset
        assert len(raw) == len(block.certificate.raw)
        with pytest.raises(ahab.VerificationError, match="certificate"):
            good.verify(good.data[:place] + raw + good.data[place + len(raw) :])


def test_ml_dsa_is_for_the_second_table() -> None:
    """Alone it would be a board's first table."""
    keys = build.write_array([keys_of("mldsa65")], 0)
    refused(forge("mldsa65", version=2, srk=keys), "algorithm", "ML-DSA 65 is for the second SRK table")


@pytest.mark.parametrize(("kind", "name"), [("mldsa65", "ML-DSA 65"), ("mldsa87", "ML-DSA 87")])
def test_an_array_may_have_a_second_table(kind: Kind, name: str) -> None:
    """Built from certificates of ML-DSA."""
    first = [certificate_of("p384", number) for number in range(4)]
    second = [certificate_of(kind, number) for number in range(4)]
    raw = ahab.build_srk_array(first, second, second_digest="sha384", number=1)
    array = ahab.parse_table(raw)
    assert isinstance(array, ahab.SrkArray)
    assert [table.used.name for table in array.tables] == ["ECDSA P-384", name]
    assert [table.used.hash_name for table in array.tables] == ["sha384", "sha384"]
    assert array.hash("sha256") == array.tables[0].hash("sha256")
    with pytest.raises(ahab.AhabError, match="hash of the signatures must be one of"):
        ahab.build_srk_array(first, second)


def test_the_second_table_has_a_fuse_value_of_its_own() -> None:
    """SHA-512 over its own bytes."""
    signed = forge(version=2, second="mldsa65")
    table = ahab.parse_table(signed.table)
    assert isinstance(table, ahab.SrkArray)
    chip = ahab.chip("mx94")
    second = ahab.fuse_value(table, chip, 1)
    assert second == hashlib.sha512(table.tables[1].raw).digest() != ahab.fuse_value(table, chip)
    signed.verify(chip=chip, pqc_fuse_value=second)
    with pytest.raises(ahab.VerificationError, match="fuse-value: the sha512 of the second SRK table"):
        signed.verify(pqc_fuse_value=ahab.fuse_value(table, chip))
    with pytest.raises(ahab.VerificationError, match="fuse-value: the boards have a second fuse value"):
        forge(version=2).verify(pqc_fuse_value=second)


def test_ml_dsa_by_chip() -> None:
    """Only chips with containers of version 2 have a second table."""
    for name in ("mx8", "mx8x", "mx8dxl", "mx8ulp", "mx91", "mx93", "mx95-a0"):
        assert isinstance(ahab.chip(name).allows(0xD2), ahab.Refused)
    for name in ("mx95", "mx94", "mx952"):
        assert forge(version=2, second="mldsa65").verify(chip=ahab.chip(name)).notes == ()
    assert isinstance(ahab.chip("mx95").allows(0x28), ahab.Unconfirmed)


def mixed(*, first: bool, second: bool) -> bytes:
    """An array whose tables differ in the flag of a CA."""
    return build.write_array([keys_of("p256", ca=first), keys_of("mldsa65", ca=second)], 0)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_both_srks_need_the_flag_for_a_certificate(first: bool, second: bool) -> None:
    """Each signs it. Without a certificate, one with the flag is enough for a note."""
    srk = mixed(first=first, second=second)
    signed = forge("p256", version=2, second="mldsa65", sgk="p256", srk=srk)
    refused(signed, "certificate", "does not have the flag CA")
    (note,) = forge("p256", version=2, second="mldsa65", srk=srk).verify().notes
    assert "flag CA" in note
