"""The HTML of the page by itself: whatever clients, tarballs and records have in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd.image.model import Region
from digsigd.image.report import Check, Report, Span
from digsigd.page import machines, overview, report, signatures
from digsigd.page.frame import HEADERS, STYLE, STYLE_NAME, Frame, cut, error_page, html
from digsigd.page.picture import picture
from digsigd.page.values import Cst, Entries, Entry, Host, Machine, Machines, Work
from tests.helpers import golden
from tests.helpers.pages import Page
from tests.helpers.signed_images import judged, signed

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\u202e\ud800" + "x" * 2000
FRAME = Frame("/", "anna", "host.example")
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)
MEMBERS = (
    "outcome", "reason", "time", "machine", "caller", "proof", "address", "host", "cst", "backend", "blob", "artifacts",
    "description", "tarball", "fuse_value", "srk", "certificates", "blocks", "request", "client_request", "traceparent",
    "milliseconds",
)  # fmt: skip


def host(**changed: Any) -> Host:
    values: dict[str, Any] = {
        "version": "1", "missing": (), "workers": 1, "running": 1, "slots": 2, "waiting": 3, "machines": 5,
    }  # fmt: skip
    return Host(**{**values, **changed})


def hostile_machine() -> Machine:
    return Machine(HOSTILE, True, (HOSTILE,), (HOSTILE,), datetime.now(UTC), HOSTILE)


def hostile_entry() -> Entry:
    values = dict.fromkeys(MEMBERS, HOSTILE) | {
        "artifacts": [{"name": HOSTILE, "sha256": HOSTILE, "size": 1}],
        "blob": {"sha256": HOSTILE},
        "cst": {"version": HOSTILE},
        "milliseconds": {HOSTILE: 1},
    }
    return Entry(HOSTILE, values)


def check_harmless(page: bytes) -> None:
    """It is well-formed, has no script, no handler and no style of its own, and stays short."""
    found = Page(page)
    for element in found.elements():
        assert element.tag not in {"script", "style", "iframe", "object", "embed", "base"}
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert name != "style"
            assert name not in {"href", "src", "action"} or value.startswith(("/", "#", "data:,"))
    assert not set(page.decode()) & {"\x00", "\x1b", "\u202e"}
    assert len(page) < 200_000


def test_what_others_sent_stays_text() -> None:
    """Of clients, tarballs, records and the operator: on each page, in texts, attributes and addresses."""
    entries = Entries([hostile_entry()])
    work = Work(HOSTILE, "signing", HOSTILE, HOSTILE, 1.0)
    full = host(missing=[HOSTILE], cst=[Cst(HOSTILE, False, HOSTILE, None)], work=[work], expiring=[hostile_machine()])
    frame = Frame("/", HOSTILE, "host.example")
    rows = Machines([hostile_machine(), Machine(HOSTILE, problem=HOSTILE)], total=100, pages=4, page=2, text=HOSTILE)
    for page in (
        overview.overview_page(frame, full, entries),
        machines.machines_page(frame, rows),
        machines.machines_page(frame, Machines((), trouble=HOSTILE)),
        signatures.signatures_page(frame, entries, HOSTILE),
        signatures.signatures_page(frame, Entries(trouble=HOSTILE), wrong=HOSTILE),
        signatures.entry_page(frame, hostile_entry()),
        report.verify_page(frame, HOSTILE, HOSTILE, {"fuses": HOSTILE, "soc": HOSTILE}),
    ):
        check_harmless(html(page))
    check_harmless(error_page(frame, "404 Not Found", HOSTILE, HOSTILE, HOSTILE))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(st.sampled_from(MEMBERS), VALUES))
def test_entries_of_any_form_are_shown(values: dict[str, Any]) -> None:
    """A database can have entries of later versions, or of somebody who writes into it."""
    entry = Entry("0123abcd.1", values)
    check_harmless(html(signatures.entry_page(FRAME, entry)))
    check_harmless(html(signatures.signatures_page(FRAME, Entries([entry]))))


@pytest.mark.parametrize(
    ("days", "kind", "words", "width"),
    [(-400, "bad", "ended 13 months ago", "100"), (0.4, "note", "in 0 days", "0"), (89, "note", "in 3 months", "12"),
     (91, "good", "in 3 months", "12"), (365, "good", "in 12 months", "50"), (3650, "good", "in 10 years", "100")],
)  # fmt: skip
def test_bars_show_how_long_a_certificate_is_good(days: float, kind: str, words: str, width: str) -> None:
    """In colour and in words; two years fill the bar, and an ended certificate does in red."""
    machine = Machine("m", True, expires=datetime.now(UTC) + timedelta(days=days, seconds=60))
    found = Page(html(machines.machines_page(FRAME, Machines([machine], total=1))))
    (row,) = found.table("Machines")
    assert row[2].endswith(words)
    bar = next(one for one in found.elements() if one.get("class") == f"fill-{kind}")
    assert bar.get("width") == width


def test_the_style_changes_its_name_with_its_content() -> None:
    """So it may be kept for ever; the policy allows it, and nothing else but the empty icon."""
    assert len(STYLE_NAME) == len("style..css") + 16
    assert b"url(" not in STYLE
    assert b"@import" not in STYLE
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "script" not in HEADERS["Content-Security-Policy"]


def test_texts_are_cut() -> None:
    """At their end, with a sign that there was more."""
    assert cut("a" * 300) == "a" * 300
    assert cut("a" * 301) == "a" * 299 + "…"
    assert cut("\n\x00" * 400, 10) == "\\n\\x00\\n\\…"


@cache
def image() -> bytes:
    """A signed boot image of an i.MX 8M Mini."""
    return signed(golden.flash("mm", "nxp-new"))


def report_on(data: bytes) -> Report:
    found = judged(data)
    assert isinstance(found, Report)
    return found


def shown(found: Report) -> Page:
    page = html(report.report_page(FRAME, "flash.bin", "0" * 64, found, Entries(), ["imx8mm-evk"]))
    check_harmless(page)
    return Page(page)


def test_a_report_has_what_digsign_verify_prints() -> None:
    """The verdict, each check with its result, what is signed, and the parts of the file."""
    found = report_on(image())
    page = shown(found)
    assert found.fuse_value is not None
    assert f"Everything holds for boards with the fuse value {found.fuse_value.hex()}." in page.text
    assert [row[:2] for row in page.table("Checks of the image")] == [[one.what, "holds"] for one in found.checks]
    for csf in found.csfs:
        rows = page.table(f"Checks of the CSF of {csf.signing.name}")
        assert [row[0] for row in rows] == [one.what for one in csf.checks]
        assert len(page.table(f"What the CSF of {csf.signing.name} signs")) == len(csf.blocks)
    assert len(page.table("Parts of the file")) == len(found.plan.regions)
    assert page.facts()["Machines with this fuse value"] == "imx8mm-evk"


def test_a_report_says_what_fails() -> None:
    """A changed byte shows in the verdict, in the check, and in the picture not by colour alone."""
    data = bytearray(image())
    data[report_on(image()).csfs[0].blocks[0].offset + 0x100] ^= 1
    page = shown(report_on(bytes(data)))
    assert "It does not hold: a closed board would not boot this image." in page.text
    assert any("FAILS" in row for row in page.table("Checks of the image"))
    assert 'class="cell is-wrong"' in page.source
    assert 'class="hatch"' in page.source


def test_a_picture_shows_each_byte_of_the_file_once() -> None:
    """The widths of a row's parts add up to the row, and the words for those who do not see it name the shares."""
    found = report_on(image())
    page = Page(html(report.report_page(FRAME, "a", "0" * 64, found, Entries(), [])))
    drawing = next(one for one in page.elements() if one.get("class") == "map")
    widths: dict[str, int] = {}
    for part in drawing.iter("rect"):
        widths[part.get("y", "")] = widths.get(part.get("y", ""), 0) + int(part.get("width", ""))
    assert len(set(list(widths.values())[:-1])) == 1
    title = drawing.find("title")
    assert title is not None
    assert title.text is not None
    assert "signed:" in title.text


def test_a_report_with_very_many_parts_stays_short() -> None:
    """An image decides how many checks, blocks and parts there are."""
    found = report_on(image())
    part = Region(0, 1, HOSTILE)
    check = Check(HOSTILE, False, HOSTILE)
    csf = replace(found.csfs[0], checks=(check,) * 10_000, blocks=found.csfs[0].blocks * 10_000)
    plan = replace(found.plan, regions=(part,) * 10_000, notes=(HOSTILE,) * 10_000, layout=HOSTILE)
    spans = tuple(Span(number, 1, "signed", must=True) for number in range(10_000))
    many = replace(found, plan=plan, csfs=(csf,), checks=(check,) * 10_000, spans=spans)
    page = html(report.report_page(FRAME, HOSTILE, "0" * 64, many, Entries(), [HOSTILE] * 20))
    assert len(page) < 1_500_000
    assert "and 9900 more" in page.decode()
    assert picture(many)
