"""Whole images are judged as a board judges them: each CSF, and what none of them covers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from digsigd import hab
from digsigd.image.model import Patch, Plan, Region
from digsigd.image.model import Signing as Part
from digsigd.image.verify import CsfReport, Report, verify
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import IMAGE, WHOLE, Signing

SIZE = len(IMAGE.data)
ROOM = SIZE - IMAGE.signed_size
IVT = hab.Ivt.parse(IMAGE.data[:0x20])
PLAN = Plan(
    "SPL",
    "mm",
    SIZE,
    regions=(
        Region(0, 0x40, "IVT"),
        Region(0x40, IMAGE.signed_size - 0x40, "SPL"),
        Region(IMAGE.signed_size, ROOM, "CSF"),
    ),
    signings=(Part("spl", IVT, (WHOLE,), IMAGE.signed_size, ROOM, unlock=True),),
    must=((0, IMAGE.signed_size),),
)
both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])


def image(signing: Signing, version: str = "3.4.1", kind: KeyKind = "rsa2048", *, fast: bool = False) -> bytes:
    return IMAGE.with_csf(signing.plain(kind, version, fast).blob)


def failing(report: Report) -> list[str]:
    """What does not hold."""
    checks = [*report.checks, *(check for one in report.csfs for check in one.checks)]
    return [check.what for check in checks if check.holds is False]


def only(report: Report) -> CsfReport:
    (one,) = report.csfs
    return one


@both_versions
@both_ways
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_a_signed_image_holds(signing: Signing, kind: KeyKind, version: str, fast: bool) -> None:
    """With every command of its CSF, and nothing left bare."""
    pki = signing.pki(kind, fast)
    report = verify(image(signing, version, kind, fast=fast), PLAN, fuse_value=pki.fuse_value, srk_table=pki.srk_table)
    assert report.holds, failing(report)
    assert report.fuse_value == pki.fuse_value
    assert [check.what for check in only(report).checks][:2] == ["CSF", "Install SRK"]
    assert [(span.offset, span.state) for span in report.spans if span.must] == [(0, "signed"), (0x40, "signed")]
    assert report.spans[2].state == "csf"
    assert sum(span.length for span in report.spans) == SIZE


def test_a_report_on_an_image_with_one_csf_says_which_fuses_it_is_for(signing: Signing) -> None:
    """There is no other CSF whose keys could differ."""
    report = verify(image(signing), PLAN)
    said = f"fuse value {signing.pki('rsa2048', False).fuse_value.hex()}"
    assert [(check.what, check.holds, check.detail) for check in report.checks] == [
        ("one SRK table", True, said),
        ("all that the board runs is signed", True, ""),
    ]
    assert ("all of this part is signed", "") in [(check.what, check.detail) for check in only(report).checks]


def test_an_image_without_a_csf_does_not_hold() -> None:
    """And all of it is bare."""
    report = verify(IMAGE.data, PLAN)
    assert failing(report) == ["all that the board runs is signed", "CSF"]
    assert "not signed" in only(report).checks[0].detail
    assert {span.state for span in report.spans} == {"open"}


@pytest.mark.parametrize("where", [0x41, IMAGE.signed_size - 1])
def test_a_changed_byte_shows_at_the_data(signing: Signing, where: int) -> None:
    """The commands before it still hold, and what was signed is bare."""
    data = bytearray(image(signing))
    data[where] ^= 1
    report = verify(bytes(data), PLAN)
    assert failing(report) == ["all that the board runs is signed", "Authenticate Data"]
    checks = only(report).checks
    place = [check.what for check in checks].index("Authenticate Data")
    assert {check.holds for check in checks[:place]} == {True}
    assert {check.holds for check in checks[place + 1 :]} <= {None}
    assert only(report).proven is None


def test_a_changed_command_shows_at_the_csf(signing: Signing) -> None:
    """What comes behind it was not reached."""
    data = bytearray(image(signing))
    blob = hab.CsfBlob.parse(bytes(data[IMAGE.signed_size :])[: hab.blob_length(bytes(data[IMAGE.signed_size :]))])
    data[IMAGE.signed_size + blob.commands[-1].offset + 3] ^= 1
    report = verify(bytes(data), PLAN)
    states = {check.what: check.holds for check in only(report).checks}
    assert states["Install CSFK"] is True
    assert states["Authenticate CSF"] is False
    assert states["Authenticate Data"] is None


def test_junk_where_the_csf_belongs_is_told() -> None:
    """With what it is not; it is no CSF, of any length."""
    data = IMAGE.data[: IMAGE.signed_size] + b"\xee" * ROOM
    report = verify(data, PLAN)
    assert "CSF" in failing(report)
    assert "a CSF begins with" in only(report).checks[0].detail
    assert only(report).length == 0


def test_a_room_of_erased_flash_holds_no_csf() -> None:
    """As one of zeros."""
    for fill in (b"\0", b"\xff"):
        report = verify(IMAGE.data[: IMAGE.signed_size] + fill * ROOM, PLAN)
        assert "not signed" in only(report).checks[0].detail
        assert (only(report).length, only(report).blocks) == (0, ())


def test_other_fuses_or_another_table_fail(signing: Signing) -> None:
    """At the SRK table."""
    other = signing.pki("p256", False)
    for given in ({"fuse_value": other.fuse_value}, {"srk_table": other.srk_table}):
        report = verify(image(signing), PLAN, **given)  # type: ignore[arg-type]
        assert not report.holds
        assert only(report).proven is None


def test_what_the_board_runs_and_no_signature_covers_is_named(signing: Signing) -> None:
    """The signature holds, and yet the image does not."""
    more = replace(
        PLAN,
        size=SIZE + 0x100,
        regions=(*PLAN.regions, Region(SIZE, 0x100, "U-Boot")),
        must=(*PLAN.must, (SIZE, 0x100)),
    )
    report = verify(image(signing) + b"u" * 0x100, more)
    assert failing(report) == ["all that the board runs is signed"]
    assert f"U-Boot {SIZE:#x}+0x100" in report.checks[-1].detail
    assert (report.spans[-1].state, report.spans[-1].must) == ("open", True)


def test_a_part_under_the_wrong_csf_does_not_hold(signing: Signing) -> None:
    """The board checks each part by its own CSF: what the SPL's covers of U-Boot is not there yet."""
    front = replace(WHOLE, length=0x1000)
    back = hab.Block(WHOLE.address + 0x1000, 0x1000, WHOLE.length - 0x1000)
    apart = replace(PLAN.signings[0], blocks=(front, back))
    assert verify(image(signing), replace(PLAN, signings=(apart,))).holds
    other = replace(PLAN.signings[0], ivt=replace(IVT, offset=0x1000, self_address=0x100000), blocks=(front,))
    report = verify(image(signing), replace(PLAN, signings=(other,)))
    assert "Authenticate Data" not in [check.what for check in only(report).checks if check.holds]


def test_a_csf_that_leaves_some_of_its_part_out_does_not_hold(signing: Signing) -> None:
    """However good its signatures are."""
    more = hab.Block(0x40200000, SIZE, 0x100)
    part = replace(PLAN.signings[0], blocks=(WHOLE, more))
    report = verify(image(signing) + b"u" * 0x100, replace(PLAN, size=SIZE + 0x100, signings=(part,)))
    assert "all of this part is signed" in failing(report)
    assert f"{SIZE:#x}+0x100" in " ".join(check.detail for check in only(report).checks)


def test_a_csf_that_leaves_the_ivt_out_does_not_hold(signing: Signing) -> None:
    """All that the plan asks for is signed, and HAB asks for the IVT too."""
    code = hab.Block(WHOLE.address + 0x20, 0x20, WHOLE.length - 0x20)
    blob = signing.sign(signing.pki("p256"), "3.4.1", blocks=(code,)).blob
    part = replace(PLAN.signings[0], blocks=(code,))
    report = verify(IMAGE.with_csf(blob), replace(PLAN, signings=(part,), must=((code.offset, code.length),)))
    assert failing(report) == ["all that the board runs is signed", "what the IVT points to is signed"]
    assert only(report).proven is not None
    assert not only(report).holds
    assert not report.holds


def test_two_csfs_of_two_tables_fail(signing: Signing) -> None:
    """A board has fuses for one."""
    other = IMAGE.with_csf(signing.plain("p256", "3.4.1", False).blob)
    second = Part("fit", replace(IVT, offset=SIZE), (replace(WHOLE, offset=SIZE),), SIZE + IMAGE.signed_size, ROOM)
    both = replace(PLAN, size=2 * SIZE, signings=(*PLAN.signings, second))
    report = verify(image(signing) + other, both)
    assert "one SRK table" in failing(report)
    assert report.fuse_value is None


def test_an_image_that_lacks_something_does_not_hold(signing: Signing) -> None:
    """An IVT that would have to be made, say."""
    report = verify(image(signing), replace(PLAN, patches=(Patch(SIZE, b"\xd1", "an IVT"),)))
    assert failing(report) == ["complete"]


def test_an_image_with_nothing_to_verify_does_not_hold() -> None:
    """Nothing was proven."""
    assert not verify(IMAGE.data, replace(PLAN, signings=(), must=())).holds


def test_blocks_at_no_place_of_the_image_are_told(signing: Signing) -> None:
    """They are of a file that is not this one."""
    part = replace(PLAN.signings[0], blocks=(replace(WHOLE, address=0x1000),), ivt=replace(IVT, self_address=0x1000))
    report = verify(image(signing), replace(PLAN, signings=(part,)))
    assert "no part of this image is there in memory" in " ".join(check.detail for check in only(report).checks)
