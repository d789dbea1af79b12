"""What it means for a closed board that something does not hold: it refuses, or it runs what nobody signed."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.image.chips import find
from digsigd.image.plan import plan
from digsigd.image.report import Report
from digsigd.image.verify import verify
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import KEYS, OTHER_KEYS, Maker, judged, signed

# csf.sh of U-Boot and Toradex: the length is that of u-boot-spl-ddr.bin, and the block begins at the IVT before it.
_SHORT = 0x40
SHORT = Maker(
    blocks=lambda part: [hab.Block(part.blocks[0].address, part.blocks[0].offset, part.blocks[0].length - _SHORT)]
)


def _report(data: bytes) -> Report:
    found = judged(data)
    assert isinstance(found, Report), found
    return found


def test_the_end_of_the_spl_left_out_is_all_that_is_named() -> None:
    """As U-Boot's csf.sh has it: the rest is signed, the board boots, and runs those bytes."""
    report = _report(signed(golden.flash("mm", "u-boot"), makers={"SPL": SHORT}))
    csf = report.plan.signings[0].csf_offset
    assert not report.holds
    (check,) = [one for one in report.csfs[0].checks if one.holds is False]
    assert check.detail == f"not covered: {csf - _SHORT:#x}+{_SHORT:#x}"
    bare = [(span.offset, span.length) for span in report.spans if span.must and span.state == "open"]
    assert bare == [(csf - _SHORT, _SHORT)]
    assert report.meaning == "unsigned"


def test_a_hole_in_a_part_is_named_alone() -> None:
    """What is before and behind it is signed."""
    hole = Maker(
        blocks=lambda part: [
            hab.Block(part.blocks[0].address, part.blocks[0].offset, 0x1000),
            hab.Block(part.blocks[0].address + 0x1010, part.blocks[0].offset + 0x1010, part.blocks[0].length - 0x1010),
        ]
    )
    report = _report(signed(golden.flash("mm", "u-boot"), makers={"SPL": hole}))
    place = report.plan.signings[0].ivt.offset + 0x1000
    assert [(span.offset, span.length) for span in report.spans if span.must and span.state == "open"] == [
        (place, 0x10)
    ]
    assert report.meaning == "unsigned"


@pytest.mark.parametrize(
    "makers",
    [
        {"SPL": None},
        {"FIT": None},
        {"SPL": SHORT, "FIT": Maker(keys=OTHER_KEYS)},
        {"SPL": SHORT, "FIT": Maker(blocks=lambda part: part.blocks[1:])},
    ],
    ids=["no CSF", "no CSF of the FIT", "another SRK", "IVT left out"],
)
def test_what_hab_refuses_is_said_to_be_refused(makers: dict[str, Maker | None]) -> None:
    """Whatever else is not signed."""
    assert _report(signed(golden.flash("mm", "nxp-old"), makers=makers)).meaning == "refused"


def test_what_holds_means_nothing() -> None:
    """There is nothing to say."""
    assert _report(signed(golden.flash("mm", "u-boot"))).meaning is None


def test_what_is_not_confirmed_of_a_chip_is_not_said_to_be_refused() -> None:
    """Nobody knows which engine the ROM of i.MX 6SoloLite takes."""
    data = kinds.imximage(dcd_of="sl")
    chip = find("imx6sl")
    whole = signed(data, plan(data, chip=chip))
    assert verify(whole, plan(whole, chip=chip), srk_table=KEYS.table).meaning == "unknown"
