"""Plans and reports of AHAB images as text and as values for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from digsigd.cli.console import Console, shown
from digsigd.cli.reports import check_values, show_checks, show_whole

if TYPE_CHECKING:
    from digsigd.image.ahab_model import AhabPlan, PlannedContainer
    from digsigd.image.ahab_report import AhabReport


def show_ahab_plan(plan: AhabPlan, path: Path, console: Console) -> None:
    """Print what a file is, and which of its containers would be signed."""
    _show_head(plan, path, console)
    console.say()
    console.table(
        ("offset", "length", "part"),
        [(f"{one.offset:#x}", f"{one.length:#x}", shown(one.name)) for one in plan.regions],
        indent="  ",
    )
    for one in plan.containers:
        console.say()
        what = f"Offsets {one.offset:#x} {one.block:#x}, room for a block of {one.room:#x} bytes"
        console.say(f"{one.name}: {what if one.must_sign else 'left alone, ' + _signed(one)}")
        _show_images(one, console)
    for text in plan.faults:
        console.say(f"   {console.coloured('wrong', 'bad')}: {shown(text)}")
    for note in (*plan.notes, *plan.replaced):
        console.say(f"   note: {shown(note)}")


def _show_head(plan: AhabPlan, path: Path, console: Console) -> None:
    chip = f", {plan.chip.title}" if plan.chip is not None else ""
    console.say(f"{shown(str(path))}: {shown(plan.layout)}{chip}, {plan.size} bytes")


def _signed(one: PlannedContainer) -> str:
    return f"signed by {one.owner} with {one.key}" if one.key else "not signed"


def _show_images(one: PlannedContainer, console: Console) -> None:
    console.table(
        ("image", "type", "core", "offset", "size", "load", "entry", "hash", ""),
        [
            (
                str(image.entry.number), shown(image.entry.kind_name), str(image.entry.core), f"{image.offset:#x}",
                f"{image.size:#x}", f"{image.entry.load:#x}", f"{image.entry.entry:#x}", image.entry.hash_name,
                "encrypted" if image.entry.encrypted else "",
            )
            for image in one.images
        ],
        indent="   ",
    )  # fmt: skip


def show_ahab_report(report: AhabReport, path: Path, console: Console) -> None:
    """Print the checks of each container, those that pass and those that fail, with a map."""
    plan = report.plan
    _show_head(plan, path, console)
    for one in report.containers:
        console.say()
        console.say(one.planned.name)
        show_checks(one.checks, console)
        for note in one.proven.notes if one.proven else ():
            console.say(f"    note: {shown(note)}")
    show_whole(report, console)


def ahab_values(report: AhabReport) -> dict[str, Any]:
    """Return the report as values for JSON: the same keys as that of a HAB image, with containers in place of CSFs."""
    plan = report.plan
    return {
        "holds": report.holds,
        "fails": report.fails,
        "meaning": report.meaning,
        "layout": plan.layout,
        "soc": plan.chip.name if plan.chip is not None else None,
        "size": plan.size,
        "fuse_value": report.fuse_value.hex() if report.fuse_value else None,
        "fuse_values": {name: value.hex() for name, value in report.fuse_values.items()},
        "checks": [check_values(check) for check in report.checks],
        "regions": [{"offset": one.offset, "length": one.length, "name": one.name} for one in plan.regions],
        "containers": [
            {
                "name": one.planned.name,
                "owner": one.planned.owner,
                "holds": one.holds,
                "offset": one.planned.offset,
                "block": one.planned.block,
                "length": one.planned.container.length,
                "room": one.planned.room,
                "version": one.planned.container.version,
                "signed": one.planned.signed,
                "srk": one.proven.srk if one.proven else None,
                "key": one.planned.key,
                "certificate": one.proven.certificate if one.proven else None,
                "revoke_mask": one.planned.container.revoke_mask,
                "software_version": one.planned.container.sw_version,
                "fuse_version": one.planned.container.fuse_version,
                "checks": [check_values(check) for check in one.checks],
                "images": _image_values(one.planned),
                "notes": list(one.proven.notes) if one.proven else [],
            }
            for one in report.containers
        ],
        "spans": [
            {"offset": one.offset, "length": one.length, "state": one.state, "must": one.must} for one in report.spans
        ],
        "encrypted": [
            f"{image.name} of the {one.planned.name}"
            for one in report.containers
            for image in one.planned.images
            if image.entry.encrypted
        ],
        "notes": list(plan.notes),
    }


def _image_values(one: PlannedContainer) -> list[dict[str, Any]]:
    return [
        {
            "number": image.entry.number, "type": image.entry.kind_name, "core": image.entry.core,
            "offset": image.offset, "size": image.size, "load": image.entry.load, "entry": image.entry.entry,
            "hash": image.entry.hash_name, "encrypted": image.entry.encrypted,
        }
        for image in one.images
    ]  # fmt: skip
