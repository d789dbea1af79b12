"""The page verifies images with AHAB containers as `digsign verify` does."""

from __future__ import annotations

from digsigd import ahab
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import report_ahab
from digsigd.page.ahab_report import ahab_report_page
from digsigd.page.frame import Frame, html
from digsigd.page.values import Entries
from tests.helpers.ahab_forge import table_of
from tests.helpers.ahab_samples import all_signed, changed, flash
from tests.helpers.pages import Page
from tests.page.test_html import check_harmless

GOOD = all_signed(flash("good-93-sd-spl"))
SHA256 = ahab.parse_table(table_of("p384")).hash("sha256").hex()
FRAME = Frame("/", "anna", "host.example")


def shown(data: bytes, soc: str | None = "mx93") -> Page:
    found = report_ahab(data, plan_ahab(data, ahab.chip(soc) if soc else None))
    page = html(ahab_report_page(FRAME, "flash.bin", "0" * 64, found, Entries(), ["imx93-evk"]))
    check_harmless(page)
    return Page(page)


def test_a_report_has_each_container_with_its_images() -> None:
    """The verdict, each check with its result, and the parts of the file."""
    found = report_ahab(GOOD, plan_ahab(GOOD, ahab.chip("mx93")))
    page = shown(GOOD)
    assert f"holds for boards with the fuse value {SHA256}" in page.text
    for one in found.containers:
        rows = page.table(f"Checks of the {one.planned.name}")
        assert [row[:2] for row in rows] == [[check.what, "holds"] for check in one.checks]
        assert len(page.table(f"What the {one.planned.name} loads")) == len(one.planned.images)
    assert len(page.table("Parts of the file")) == len(found.plan.regions)
    assert page.facts()["SRK fuse value"] == SHA256
    assert page.facts()["Machines with this fuse value"] == "imx93-evk"
    assert "signed by NXP" in page.text


def test_a_report_says_what_fails() -> None:
    """In the verdict, in the check, and in the picture not by colour alone."""
    page = shown(changed(GOOD, 0x2900, b"\xff\xff"))
    assert "It does not hold: a closed board would not boot this image." in page.text
    assert 'class="hatch"' in page.source


def test_without_a_chip_both_fuse_values_are_shown() -> None:
    """Chips have different hashes of the same table."""
    assert shown(GOOD, None).facts()["SRK fuse value (sha256)"] == SHA256
