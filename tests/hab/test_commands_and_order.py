"""Commands that a boot ROM takes only in one form, or only once the CSF is authenticated."""

from __future__ import annotations

import pytest

from tests.hab.forge import install_srk, other
from tests.hab.test_blob_rules import CSF, IMAGE, SRK_CSFK, SRK_IMG, TABLE, judged


def test_write_data_comes_behind_authenticate_csf() -> None:
    """HABv4 API, 3.8: before, there are Install SRK, Install CSFK, Set and Authenticate CSF (HAB_INV_COMMAND)."""
    write = other(0xCC, 4, bytes(8))
    says = judged(install_srk(TABLE), SRK_CSFK, write, CSF, SRK_IMG, IMAGE)
    assert says == "order: Write Data comes before the commands are authenticated"
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, write, SRK_IMG, IMAGE)


@pytest.mark.parametrize("tag", [0xC0, 0xCF])
def test_nop_and_check_data_may_come_before(tag: int) -> None:
    """HABv4 API, 4.3.2 and 4.3.3: prior to it or after, without any difference."""
    command = other(tag, 4, bytes(12) if tag == 0xCF else b"")
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, command, CSF, SRK_IMG, IMAGE)


def test_a_nop_has_four_bytes() -> None:
    """HABv4 API, 4.3.3: its length is constant."""
    for body in (b"\0", bytes(4), bytes(12)):
        says = judged(install_srk(TABLE), SRK_CSFK, CSF, other(0xC0, 0, body), SRK_IMG, IMAGE)
        assert says == f"command: a NOP of {4 + len(body)} bytes; it has 4"
