"""The report on an image with AHAB containers: what `digsign verify` prints, with the map as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.template import Flattenable, Tag, tags

from digsigd.image.ahab_model import PlannedContainer
from digsigd.image.ahab_report import AhabReport, ContainerReport
from digsigd.image.report import verdict_of
from digsigd.page.frame import Frame, cut, document, facts, table
from digsigd.page.picture import picture
from digsigd.page.report import PLACE, checks_table, notes_list, regions_table, signed_by_list
from digsigd.page.values import Entries


def ahab_report_page(
    frame: Frame, name: str, sha256: str, report: AhabReport, signed_by: Entries, machines: Sequence[str]
) -> Tag:
    """Return the report on an image.

    `signed_by` are the entries of the record about it, `machines` those whose fuse value it is for.
    """
    plan = report.plan
    kind = "good" if report.holds else "bad" if report.fails else "note"
    chip = plan.chip.title if plan.chip is not None else "not known from the image"
    head: list[tuple[str, Flattenable]] = [
        ("File", cut(name)),
        ("Kind", cut(plan.layout)),
        ("Chip", chip),
        ("Size", f"{plan.size} bytes"),
        ("SHA-256", tags.code(sha256)),
    ]
    values: dict[str, bytes] = {"SRK fuse value": report.fuse_value} if report.fuse_value else {
        f"SRK fuse value ({hash_name})": value for hash_name, value in report.fuse_values.items()
    }  # fmt: skip
    head += [(what, tags.code(value.hex())) for what, value in values.items()]
    if machines:
        head.append(("Machines with this fuse value", cut(", ".join(machines), 1000)))
    return document(
        frame,
        "Report",
        tags.div(tags.p(tags.strong(cut(verdict_of(report), 1000))), class_=f"state is-{kind}", role="status"),
        facts(head, "details"),
        tags.h2("Map"), picture(report),
        tags.h2("The image"), checks_table("Checks of the image", report.checks),
        [_container(one) for one in report.containers],
        tags.h2("Parts of the file"), regions_table(plan.regions),
        notes_list(plan.notes),
        tags.h2("Who signed it"), signed_by_list(frame, signed_by),
        tags.p(tags.a("Verify another image", href=frame.to(PLACE))),
        at=PLACE,
    )  # fmt: skip


def _container(one: ContainerReport) -> list[Flattenable]:
    name = cut(one.planned.name)
    found: list[Flattenable] = [tags.h2(name), checks_table(f"Checks of the {name}", one.checks)]
    found += [tags.h3("Images"), _images(one.planned)]
    return [*found, notes_list(one.proven.notes if one.proven else ())]


def _images(one: PlannedContainer) -> Tag:
    rows: list[list[Flattenable]] = [
        [
            str(image.entry.number), cut(image.entry.kind_name), f"{image.offset:#x}", f"{image.size:#x}",
            tags.code(f"{image.entry.load:#x}"), image.entry.hash_name, "yes" if image.entry.encrypted else "no",
        ]
        for image in one.images
    ]  # fmt: skip
    heads = ("Number", "Type", "Offset", "Size", "Load address", "Hash", "Encrypted")
    return table(f"What the {cut(one.name)} loads", heads, rows)
