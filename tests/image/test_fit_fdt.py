"""The signature of the FIT's tree with its CSF: boards without CONFIG_IMX_SPL_FIT_FDT_SIGNATURE do not look at it."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.image.model import Signing
from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.signed_images import Maker, failing, holds, judged, signed

NEW = golden.flash("mm", "nxp-new")


def test_its_absence_is_told_where_the_spl_holds_the_hash_of_the_tree() -> None:
    """As NXP's guide and Variscite's scripts sign; and it fails where it is required."""
    data = signed(NEW, makers={"FIT-FDT": None})
    report = judged(data)
    assert isinstance(report, Report)
    assert report.holds, failing(report)
    assert "CONFIG_IMX_SPL_FIT_FDT_SIGNATURE" in report.csfs[-1].excuse
    required = judged(data, fdt_signature=True)
    assert isinstance(required, Report)
    assert not required.holds
    assert "CSF: missing" in " ".join(failing(required))
    whole = judged(signed(NEW), fdt_signature=True)
    assert isinstance(whole, Report)
    assert whole.holds


def test_one_that_holds_needs_no_excuse() -> None:
    """Whoever asks for it finds it good."""
    report = judged(signed(NEW))
    assert isinstance(report, Report)
    assert [(one.holds, one.excuse) for one in report.csfs] == [(True, "")] * 3


def with_images(part: Signing) -> list[hab.Block]:
    """The blocks of nxp-cst-signer: imx_signer.c still has those of the FIT in its list when it makes the last CSF."""
    fit = plan(NEW).signings[1]
    return [part.blocks[0], *fit.blocks[1:]]


def test_the_form_of_nxp_cst_signer_is_told_of() -> None:
    """It covers images that SPL loads only later: fails where it is required, unread where it is not."""
    data = signed(NEW, makers={"FIT-FDT": Maker(blocks=with_images)})
    report = judged(data)
    assert isinstance(report, Report)
    assert report.holds, failing(report)
    assert "images that SPL has not loaded yet" in report.csfs[-1].excuse
    required = judged(data, fdt_signature=True)
    assert isinstance(required, Report)
    assert not required.holds
    place = plan(data).must[-1][0]
    changed = bytearray(data)
    changed[place] ^= 1
    assert not holds(bytes(changed))


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 9, 0xF, 0x12, 0x40, 0x300, 0x800])
@pytest.mark.parametrize("mask", [1, 0x80, 0xFF])
def test_one_that_is_there_and_wrong_does_not_hold(place: int, mask: int) -> None:
    """Somebody meant it to, whether it is still read as a CSF or not."""
    data = bytearray(signed(NEW))
    data[plan(NEW).signings[-1].csf_offset + place] ^= mask
    assert not holds(bytes(data))


def test_the_fit_s_own_csf_is_never_excused() -> None:
    """Nor is the SPL's."""
    for name in ("FIT", "SPL"):
        assert not holds(signed(NEW, makers={name: None}))
        assert not holds(signed(NEW, makers={name: None, "FIT-FDT": None}))


@pytest.mark.parametrize("layout", ["nxp-old", "nxp-hash", "binman"])
def test_it_cannot_be_required_where_there_is_no_place_for_it(layout: str) -> None:
    """U-Boot's code is there, or nothing."""
    for data in (golden.flash("mm", layout), golden.spl("mm"), golden.kernel_with_ivt()):
        assert "eave out `--fit-fdt required`" in str(judged(data, fdt_signature=True))


def test_it_is_not_written_over_code() -> None:
    """imx-mkimage up to lf-6.1.22 has U-Boot where its IVT is now, even if that begins like one."""
    parts, _ = golden.parts("mm")
    fit = golden.with_fit_ivt(golden.itb("mm", external=0x3000), signed_tree=False)
    ivt = plan(fit).signings[0].ivt
    code = golden.ivt(ivt.entry, ivt.self_address + 0x2000, ivt.self_address + 0x2020) + parts[0].data[0x20:]
    evil = fit.replace(parts[0].data, code)
    assert [one.name for one in plan(evil).signings] == ["FIT"]
    assert not plan(evil).patches


def test_an_spl_that_asks_for_it_does_not_compare_the_hash() -> None:
    """A tree that has changed since is right for it, once it is signed."""
    place = golden.fit_offset("mm") + 0x40
    at = NEW.index(b"Configuration to load", place)
    data = NEW[:at] + b"Another" + NEW[at + 7 :]
    assert "does not hold the SHA-256" in str(judged(data))
    assert "--fit-fdt required" in str(judged(data))
    found = plan(data, fdt_signature=True)
    assert not any("CVE-2023-39902" in note for note in found.notes)
    report = judged(signed(data, found), fdt_signature=True)
    assert isinstance(report, Report)
    assert report.holds, failing(report)
