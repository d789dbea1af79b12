"""Commands that a boot ROM takes only in one form, or only once the CSF is authenticated."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from digsigd import hab
from tests.hab.test_blob_rules import (
    BLOCK,
    CSF,
    DATA,
    IMAGE,
    IMG,
    SRK_CSFK,
    SRK_IMG,
    TABLE,
    USER_SRK,
    USER_TABLE,
    by,
    judged,
    over,
)
from tests.helpers.blobs import Signed
from tests.helpers.forge import authenticate, forge, install_srk, other, padded


def test_write_data_comes_behind_authenticate_csf() -> None:
    """HABv4 API, 3.8: before, there are Install SRK, Install CSFK, Set and Authenticate CSF (HAB_INV_COMMAND)."""
    write = other(0xCC, 4, bytes(8))
    says = judged(install_srk(TABLE), SRK_CSFK, write, CSF, SRK_IMG, IMAGE)
    assert says == "order: Write Data is before Authenticate CSF"
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, write, SRK_IMG, IMAGE)


@pytest.mark.parametrize("tag", [0xC0, 0xCF])
def test_nop_and_check_data_may_come_before(tag: int) -> None:
    """HABv4 API, 4.3.2 and 4.3.3: prior to it or after, without any difference."""
    command = other(tag, 4, bytes(12) if tag == 0xCF else b"")
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, command, CSF, SRK_IMG, IMAGE)


def test_a_nop_has_four_bytes() -> None:
    """HABv4 API, 4.3.3: its length is constant. The last is nothing, even where it is an item that Set knows."""
    blocks = ((hab.Block(BLOCK[0], 0, BLOCK[1]),),)
    for parameter in (1, 3):
        pieces = install_srk(TABLE), SRK_CSFK, CSF, other(0xC0, parameter), SRK_IMG, IMAGE
        assert Signed(forge(*pieces), TABLE, blocks, image=DATA).verify().notes == ()
    for body in (b"\0", bytes(4), bytes(12)):
        says = judged(install_srk(TABLE), SRK_CSFK, CSF, other(0xC0, 0, body), SRK_IMG, IMAGE)
        assert says == f"command: a NOP has {4 + len(body)} bytes, not 4"


def test_an_error_tells_at_which_command_it_showed() -> None:
    """Counted from 0; one that something is missing is of no command."""
    block = hab.Block(BLOCK[0], 0, BLOCK[1])
    whole = install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG
    for pieces, number in (
        ((install_srk(TABLE, target=1), *whole[1:]), 0),
        ((*whole, authenticate(3, over(DATA, IMG), BLOCK)), 4),
        ((*whole, IMAGE, other(0xC0, 0, b"x")), 5),
        (whole, None),
    ):
        error = Signed(forge(*pieces), TABLE, ((block,),), image=DATA).refused()
        assert error.command == number


def test_of_the_srk_there_is_one_certificate() -> None:
    """With fast authentication, where the boot ROM reads none: cst puts one there."""
    fast = install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK)
    there = padded(struct.pack(">BHB", 0xD7, 4 + len(USER_SRK.der), 0x43) + USER_SRK.der)
    behind_table = replace(fast[0], make=lambda _: padded(USER_TABLE) + there)
    assert "fast authentication" in judged(behind_table, *fast[1:], table=USER_TABLE)
    says = judged(behind_table, *fast[1:], table=USER_TABLE, loose=(USER_SRK.der,))
    assert says == "certificate: the CSF has a certificate that is not the chosen SRK's"
    blob = forge(*fast, loose=(USER_SRK.der[:-1],))
    error = Signed(blob, USER_TABLE, ((hab.Block(BLOCK[0], 0, BLOCK[1]),),), image=DATA).refused()
    assert str(error).startswith("the certificate of the SRK: not a certificate: ")
    assert "offset" not in str(error)
