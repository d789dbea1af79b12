"""Signatures that hold are not enough: a board asks for more before it runs an image."""

from __future__ import annotations

from dataclasses import replace

import pytest

from digsigd.image.verify import Check, verify
from tests.helpers.blobs import IMAGE, WHOLE, Signing
from tests.image.test_verify import PLAN, failing, only

# IVT and boot data, without the code that the IVT's entry points to.
FRONT = replace(WHOLE, length=0x30)
PART = replace(PLAN.signings[0], blocks=(FRONT,))


def test_an_ivt_that_points_at_what_is_not_signed_does_not_hold(signing: Signing) -> None:
    """However good the signatures are: the first word at the entry point must be under one (HAB_INV_ASSERTION)."""
    signed = signing.sign(signing.pki("rsa2048"), "3.4.1", blocks=[FRONT])
    report = verify(IMAGE.with_csf(signed.blob), replace(PLAN, signings=(PART,), must=((0, FRONT.length),)))
    one = only(report)
    assert one.proven is not None
    assert "what the IVT points to is signed" in failing(report)
    detail = next(check.detail for check in one.checks if check.what == "what the IVT points to is signed")
    assert "entry point" in detail
    assert not one.holds
    assert not report.holds


@pytest.mark.parametrize("holds", [False, None])
def test_one_check_that_does_not_hold_is_enough(signing: Signing, holds: bool | None) -> None:
    """Of a CSF and of the whole image; one that could not be tried does not hold either."""
    report = verify(IMAGE.with_csf(signing.plain("rsa2048", "3.4.1").blob), PLAN)
    assert report.holds
    one = only(report)
    worse = replace(one, checks=(*one.checks, Check("another", holds)))
    assert not worse.holds
    assert not replace(report, csfs=(worse,)).holds
    assert not replace(report, checks=(*report.checks, Check("another", holds))).holds
    assert not replace(one, proven=None).holds
    assert not replace(report, csfs=(replace(one, proven=None),)).holds
