"""The form that takes a signed image, and the report on it: what `digsign verify` prints, with the map as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.web.template import Flattenable, Tag, tags

from digsigd.image.chips import CHIPS
from digsigd.image.chips.every import ahab_chips
from digsigd.image.model import Plan, Region
from digsigd.image.report import Check, CsfReport, Report, verdict_of
from digsigd.page.frame import Frame, cut, document, facts, problem, table
from digsigd.page.picture import picture
from digsigd.page.signatures import entry_table
from digsigd.page.values import Entries

PLACE = "page/verify"
# So many rows of a table are shown: an image decides how many there are.
_MOST = 100
_WORDS = {True: ("holds", "good"), False: ("FAILS", "bad"), None: ("-", "muted")}


def verify_page(frame: Frame, wrong: str = "", hint: str = "", given: Mapping[str, str] | None = None) -> Tag:
    """Return the page with the form. `wrong` and `hint` say why an image that was sent could not be verified."""
    content: list[Flattenable] = []
    if wrong:
        box = tags.div(tags.p(tags.strong(cut(wrong, 1000))), class_="state is-bad", role="status")
        content.append(box(tags.p(cut(hint, 1000))) if hint else box)
    return document(frame, "Verify a signed image", *content, _about(), verify_form(frame, given or {}), at=PLACE)


def verify_form(frame: Frame, given: Mapping[str, str] | None = None) -> Tag:
    """Return the form. `given` are the values of its fields."""
    values = given or {}
    return tags.form(
        tags.div(
            tags.label("Signed image: choose a file, or drop it here", for_="artifact"),
            tags.input(type="file", id="artifact", name="artifact", required="required"),
            class_="drop",
        ),
        tags.div(
            _text(
                "fuses", "SRK fuse value of the boards", values,
                "64 hexadecimal digits, 128 for some AHAB chips. Without it, any keys pass.",
            ),
            _chip(values.get("soc", "")),
            class_="fields",
        ),
        tags.details(
            tags.summary("More about the image"),
            tags.div(
                _text("load_address", "Load address", values, "Of a kernel or a FIT that has no IVT: 0x40480000"),
                _text("sdp", "DCD address of a serial download", values, "Where the host writes the DCD: 0x910000"),
                _text("configuration", "Configuration of the FIT", values, "If its configurations differ."),
                _fit_fdt(values.get("fit_fdt", "")),
                class_="fields",
            ),
        ),
        tags.button("Verify", type="submit"),
        action=frame.to(PLACE),
        method="post",
        enctype="multipart/form-data",
    )  # fmt: skip


def report_page(
    frame: Frame, name: str, sha256: str, report: Report, signed_by: Entries, machines: Sequence[str]
) -> Tag:
    """Return the report on an image.

    `signed_by` are the entries of the record about it, `machines` those whose fuse value it is for.
    """
    plan = report.plan
    kind = "good" if report.holds else "bad" if report.fails else "note"
    head: list[tuple[str, Flattenable]] = [
        ("File", cut(name)),
        ("Kind", cut(plan.layout)),
        ("Chip", cut(plan.boards or _chip_of(plan) or "not known from the image")),
        ("Size", f"{plan.size} bytes"),
        ("SHA-256", tags.code(sha256)),
    ]
    if report.fuse_value is not None:
        head.append(("SRK fuse value", tags.code(report.fuse_value.hex())))
    if machines:
        head.append(("Machines with this fuse value", cut(", ".join(machines), 1000)))
    return document(
        frame,
        "Report",
        tags.div(tags.p(tags.strong(cut(verdict_of(report), 1000))), class_=f"state is-{kind}", role="status"),
        facts(head, "details"),
        tags.h2("Map"), picture(report),
        tags.h2("The image"), checks_table("Checks of the image", report.checks),
        [_csf(plan, one) for one in report.csfs],
        tags.h2("Parts of the file"), regions_table(plan.regions),
        notes_list(plan.notes),
        tags.h2("Who signed it"), signed_by_list(frame, signed_by),
        tags.p(tags.a("Verify another image", href=frame.to(PLACE))),
        at=PLACE,
    )  # fmt: skip


def _chip_of(plan: Plan) -> str:
    return next((chip.title for chip in CHIPS if plan.soc and chip.short == plan.soc), "")


def _about() -> Tag:
    return tags.p(
        "The image is verified as the boot ROM, SPL and U-Boot of a closed board would, and is not kept. ",
        tags.code("digsign verify"), " does the same without a signing host.",
    )  # fmt: skip


def _text(name: str, words: str, values: Mapping[str, str], hint: str) -> Tag:
    box = tags.input(
        type="text", id=name, name=name, value=cut(values.get(name, "")), autocomplete="off", spellcheck="false",
        class_="mono", **{"aria-describedby": f"{name}-hint"},
    )  # fmt: skip
    wide = "wide" if name == "fuses" else ""
    return tags.div(tags.label(words, for_=name), box, tags.p(hint, class_="hint", id=f"{name}-hint"), class_=wide)


def _chip(chosen: str) -> Tag:
    options = [tags.option("as the image says", value="")]
    known = [(chip.title, chip.name) for chip in CHIPS] + [(chip.title, chip.name) for chip in ahab_chips()]
    options += [
        tags.option(title, value=name, **({"selected": "selected"} if name == chosen else {})) for title, name in known
    ]
    return tags.div(tags.label("Chip", for_="soc"), tags.select(options, id="soc", name="soc"))


def _fit_fdt(chosen: str) -> Tag:
    words = (("auto", "not required"), ("required", "required"))
    options = [
        tags.option(text, value=value, **({"selected": "selected"} if value == chosen else {})) for value, text in words
    ]
    return tags.div(
        tags.label("Signature of the FIT's tree", for_="fit_fdt"), tags.select(options, id="fit_fdt", name="fit_fdt")
    )


def _csf(plan: Plan, csf: CsfReport) -> list[Flattenable]:
    name = cut(csf.signing.name)
    found: list[Flattenable] = [tags.h2(f"CSF of {name}")]
    if not csf.excuse or csf.length:
        found.append(checks_table(f"Checks of the CSF of {name}", csf.checks))
    if csf.blocks:
        rows: list[list[Flattenable]] = [
            [
                tags.code(f"{one.address:#x}"),
                f"{one.offset:#x}",
                f"{one.length:#x}",
                _covered(plan, one.offset, one.end),
            ]
            for one in csf.blocks[:_MOST]
        ]
        heads = ("Address", "Offset", "Length", "Part")
        found += [tags.h3("Signed"), table(f"What the CSF of {name} signs", heads, rows), _more(len(csf.blocks))]
    if csf.excuse:
        found.append(tags.p(cut(csf.excuse, 1000), class_="muted"))
    return [*found, notes_list(csf.proven.notes if csf.proven else ())]


def checks_table(name: str, checks: Sequence[Check]) -> list[Flattenable]:
    """Return a table called `name` with these checks."""
    rows: list[list[Flattenable]] = []
    for check in checks[:_MOST]:
        word, kind = _WORDS[check.holds]
        rows.append([cut(check.what), tags.span(word, class_=f"nowrap {kind}"), cut(check.detail, 1000)])
    return [table(name, ("Check", "Result", "Detail"), rows), _more(len(checks))]


def regions_table(regions: Sequence[Region]) -> list[Flattenable]:
    """Return a table with the parts of a file."""
    rows: list[list[Flattenable]] = [
        [tags.code(f"{one.offset:#x}"), f"{one.length:#x}", cut(one.name)] for one in regions[:_MOST]
    ]
    return [table("Parts of the file", ("Offset", "Length", "Part"), rows), _more(len(regions))]


def _covered(plan: Plan, start: int, end: int) -> str:
    names = [cut(one.name, 60) for one in plan.regions if one.offset < end and one.end > start]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _more(count: int) -> Flattenable:
    return tags.p(f"and {count - _MOST} more", class_="muted") if count > _MOST else ""


def notes_list(notes: Sequence[str]) -> Flattenable:
    """Return notes as a list, nothing without notes."""
    return tags.ul([tags.li(cut(one, 1000)) for one in notes[:_MOST]], class_="muted") if notes else ""


def signed_by_list(frame: Frame, found: Entries) -> Flattenable:
    """Return the entries of the record about an image."""
    if found.trouble:
        return problem(cut(found.trouble), "note")
    if not found.rows:
        return tags.p("Its CSFs are not in the record, as far as you may see it.")
    return entry_table(frame, found.rows)
