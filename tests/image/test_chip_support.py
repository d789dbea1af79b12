"""Whether a chip's ROM takes what a CSF asks for: its engines, and the kind of its SRKs."""

from __future__ import annotations

import functools

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from digsigd import hab
from digsigd.image.chip_support import check_chip, check_chips, engines_of
from digsigd.image.chips import find
from digsigd.image.model import Signing
from digsigd.image.report import Check, CsfReport
from tests.helpers.forge import authenticate, certificate_of, cms, forge, install_srk
from tests.helpers.signed_images import KEYS

IVT = hab.Ivt.parse(b"\xd1\0\x20\x40" + bytes(28))
ANY, DCP, CAAM, SW = 0x00, 0x1B, 0x1D, 0xFF
CURVE = ec.generate_private_key(ec.SECP256R1()).public_key()


@functools.cache
def table_of(*curves: bool) -> bytes:
    """An SRK table with keys of elliptic curves, and RSA keys."""
    return hab.build_srk_table([
        certificate_of(CURVE, ca=True) if curve else KEYS.srk.certificate for curve in curves
    ])  # fmt: skip


def report(table: bytes | None = KEYS.table) -> CsfReport:
    """What is known of the CSF: that it holds, and which SRK table it brings."""
    return CsfReport(Signing("part", IVT, (), 0, 0), 4, (), (), None, srk_table=table)


@functools.cache
def blob(*engines: int) -> bytes:
    """A CSF whose commands name these engines."""
    asked = (authenticate(2, lambda area: cms(area, KEYS.img), (0x1000, 4), engine=engine) for engine in engines)
    return forge(install_srk(KEYS.table), *asked)


def test_engines_are_those_of_the_commands_that_authenticate() -> None:
    """Each once, in their order."""
    assert engines_of(blob(CAAM, SW, CAAM, ANY)) == (CAAM, SW, ANY)


@pytest.mark.parametrize(("chip", "engine", "why"), [
    ("imx6q", CAAM, None), ("imx6q", SW, None), ("imx6q", ANY, None),
    ("imx6q", DCP, "the part's CSF uses the engine DCP, but the chip has CAAM"),
    ("imxrt1060", DCP, None), ("imxrt1060", CAAM, "the engine CAAM, but the chip has DCP"),
    ("imx6ull", SW, None), ("imx6ull", ANY, "on this chip it must be SW"),
    ("imx6ull", DCP, "on this chip it must be SW"),
])  # fmt: skip
def test_a_chip_takes_its_own_engine_and_sw(chip: str, engine: int, why: str | None) -> None:
    """And ANY, but where an erratum leaves SW alone."""
    check = check_chip(report(), blob(engine), find(chip))
    assert check.holds is (why is None)
    assert (why or "engine ") in check.detail
    assert check.meaning == "refused"


@pytest.mark.parametrize(("curves", "chip", "holds"), [
    ((False,), "imx8mm", True), ((True,), "imx8mm", False), ((False, True), "imx8mm", False),
    ((True, False), "imx8mm", False), ((True, True), "imx8mp", True), ((False, True), "imx8mp", True),
    ((False,), "imx8mp", True), ((), "imx8mm", True),
])  # fmt: skip
def test_srks_of_elliptic_curves_are_for_hab_4_5(curves: tuple[bool, ...], chip: str, holds: bool) -> None:
    """One of them in the table is enough; without a table, nothing is said of it."""
    check = check_chip(report(table_of(*curves) if curves else None), blob(CAAM), find(chip))
    assert check.holds is holds
    assert ("its SRKs are ECDSA keys, which the ROM's HAB 4." in check.detail) is not holds
    assert check.meaning == "refused"


def test_what_no_source_confirms_of_a_chip_is_not_known() -> None:
    """Neither its engine nor whether it takes keys of elliptic curves."""
    for chip, curves in (("imx6sl", False), ("imx8mn", True)):
        check = check_chip(report(table_of(curves)), blob(CAAM), find(chip))
        assert (check.holds, check.meaning) == (False, "unknown")
        assert "not confirmed" in check.detail


def test_what_cannot_be_read_is_refused() -> None:
    """A CSF, or an SRK table."""
    for table, data in ((KEYS.table, b"\xd4\0\4"), (b"\xd7\0\4\x40", blob(CAAM))):
        check = check_chip(report(table), data, find("imx8mm"))
        assert (check.holds, check.meaning) == (False, "refused")


@pytest.mark.parametrize(("engine", "chips", "detail"), [
    (CAAM, ("imx6q", "imx6ul"), "engine CAAM"),
    (CAAM, ("imx6ul", "imx6ull"), "engine CAAM; of the possible chips, only these support it: i.MX 6UltraLite"),
    (CAAM, ("imx6ull", "imx6ul", "imx6q"),
     "engine CAAM; of the possible chips, only these support it: i.MX 6UltraLite, i.MX 6Quad"),
    (SW, ("imx6ull", "imx6ul"), "engine SW"),
])  # fmt: skip
def test_one_chip_that_takes_it_is_enough(engine: int, chips: tuple[str, ...], detail: str) -> None:
    """Those that do are named where others do not."""
    check = check_chips(report(), blob(engine), [find(chip) for chip in chips])
    assert check.holds
    assert check.detail.startswith(detail)
    assert ("of the possible chips" in check.detail) is ("of the possible chips" in detail)


def test_where_no_chip_takes_it_the_first_one_says_why() -> None:
    """As if that was the only one."""
    chips = [find("imx6ull"), find("imx6ulz")]
    assert check_chips(report(), blob(CAAM), chips) == check_chip(report(), blob(CAAM), chips[0])
    assert check_chips(report(), blob(CAAM), chips) == Check(
        "what it asks of the chip",
        False,
        "the part's CSF uses the engine CAAM, but the chip has DCP",
    )
