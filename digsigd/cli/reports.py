"""Plans and reports of images as text: tables, and a map of what is signed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digsigd.cli.console import Console, Trouble, shown

if TYPE_CHECKING:
    from digsigd.image.ahab_report import AhabReport
    from digsigd.image.chips import Chip
    from digsigd.image.model import Buffer, Plan, Signing
    from digsigd.image.report import Drawn
    from digsigd.image.verify import Check, Report

SOCS = {"mm": "i.MX 8M Mini", "mn": "i.MX 8M Nano", "mp": "i.MX 8M Plus", "mq": "i.MX 8M Quad"}
_COLUMNS, _ROWS = 64, 8
# For terminals that can show them, and for those that cannot.
_MARKS = {"signed": "█", "csf": "▒", "wrong": "✗", "foreign": "◊", "secret": "?", "open": "·"}
_ASCII = {"signed": "#", "csf": "=", "wrong": "!", "foreign": "o", "secret": "?", "open": "."}
_COLOURS = {"signed": "good", "csf": "note", "wrong": "bad", "foreign": "note", "secret": "note", "open": "dim"}


def address(text: str) -> int:
    """Return an address given on the command line. Raises `argparse.ArgumentTypeError`."""
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, such as 0x40480000") from None
    if not 0 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text} is not a 32-bit address")
    return value


def fuse_value(text: str) -> bytes:
    """Return a fuse value given on the command line: 64 or 128 hexadecimal digits, in the order of the fuse file.

    128 digits are the SHA-512 of some chips with AHAB. Raises `argparse.ArgumentTypeError`.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) not in (32, 64):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a fuse value: expected 64 hexadecimal digits, as in `digsign fuses`, or 128 for chips"
            " with AHAB whose fuses have a SHA-512"
        )
    return value


def file_name(part: str) -> str:
    """Return a name for a file from the name of a part of an image."""
    return re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_")


def add_fit_fdt(parser: argparse.ArgumentParser) -> None:
    """Add the option `--fit-fdt`."""
    parser.add_argument(
        "--fit-fdt",
        choices=("auto", "required"),
        default="auto",
        help="required: for an SPL with CONFIG_IMX_SPL_FIT_FDT_SIGNATURE, which requires the FIT-FDT signature;"
        " other SPLs ignore it. auto (the default): sign it if there is room for it, and accept an image without it",
    )


def planned(
    data: Buffer,
    path: Path,
    load_address: int | None,
    configuration: str | None,
    *,
    fit_fdt: str = "auto",
    soc: Chip | None = None,
    sdp: int | None = None,
) -> Plan:
    """Return the plan for an image. Raises `Trouble`."""
    from digsigd.image.errors import ImageError
    from digsigd.image.plan import plan

    try:
        return plan(
            data,
            load_address=load_address,
            configuration=configuration,
            fdt_signature=fit_fdt == "required",
            chip=soc,
            sdp=sdp,
        )
    except ImageError as error:
        raise Trouble(f"{path}: {shown(error.what)}", hint=shown(error.hint)) from None


def show_plan(plan: Plan, path: Path, console: Console) -> None:
    """Print what an image is, and which parts of it would be signed."""
    console.say(f"{shown(str(path))}: {shown(plan.layout)}{_chip_of(plan)}, {plan.size} bytes")
    console.say()
    console.table(
        ("offset", "length", "part"),
        [(f"{one.offset:#x}", f"{one.length:#x}", shown(one.name)) for one in plan.regions],
        indent="  ",
    )
    for number, signing in enumerate(plan.signings, 1):
        console.say()
        console.say(
            f"{number}. {signing.name}: IVT at {signing.ivt.offset:#x}, CSF at {signing.csf_offset:#x}, room for"
            f" {signing.csf_room:#x} bytes{_unlocked(plan, signing)}"
        )
        console.table(
            ("address", "offset", "length", "covers"),
            [
                (f"{one.address:#x}", f"{one.offset:#x}", f"{one.length:#x}", covered(plan, one.offset, one.end))
                for one in signing.blocks
            ],
            indent="   ",
        )
    for patch in plan.patches:
        console.say(f"   written first: {shown(patch.why)}, {len(patch.data)} bytes at {patch.offset:#x}")
    if plan.tail is not None:
        console.say(f"   written last: the tag for UUU, {len(plan.tail.data)} bytes after the image")
    if plan.ask:
        console.say(f"   note: --soc is needed to sign it: {shown(plan.ask)}")
    for note in (*plan.notes, *plan.replaced):
        console.say(f"   note: {shown(note)}")


def _unlocked(plan: Plan, signing: Signing) -> str:
    """Return what the CSF of a part leaves unlocked, "" if that is not known."""
    from digsigd.client._internal.image_signing.description import unlocks
    from digsigd.image.errors import ImageError

    if plan.chip is None and plan.ask:
        return ""
    try:
        found = unlocks(signing, plan.chip)
    except ImageError:
        return ""
    return "".join(f", unlocks {engine} {', '.join(features)}" for engine, features in found)


def _chip_of(plan: Plan) -> str:
    """Return the chip that an image is for, "" if that is not known."""
    if plan.boards and not plan.soc:
        return f", {plan.boards}"
    return f", {SOCS[plan.soc]}" if plan.soc else ""


def covered(plan: Plan, start: int, end: int) -> str:
    """Return the names of the parts between two offsets in the file."""
    names = [shown(one.name) for one in plan.regions if one.offset < end and one.end > start]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def show_report(report: Report, path: Path, console: Console) -> None:
    """Print the checks of an image, those that pass and those that fail, with a map."""
    plan = report.plan
    console.say(f"{shown(str(path))}: {shown(plan.layout)}{_chip_of(plan)}, {plan.size} bytes")
    for one in report.csfs:
        console.say()
        console.say(f"CSF of {one.signing.name}")
        show_checks(() if one.excuse and not one.length else one.checks, console)
        if one.blocks:
            console.table(
                ("signed", "offset", "length", "part"),
                [
                    (f"{b.address:#x}", f"{b.offset:#x}", f"{b.length:#x}", covered(plan, b.offset, b.end))
                    for b in one.blocks
                ],
                indent="    ",
            )
        if one.excuse:
            console.say(f"    note: {shown(one.excuse)}")
        for note in one.proven.notes if one.proven else ():
            console.say(f"    note: {shown(note)}")
    show_whole(report, console)


def show_whole(report: Report | AhabReport, console: Console) -> None:
    """Print what a report says of the whole image: checks, map, notes and verdict."""
    from digsigd.image.report import verdict_of

    console.say()
    console.say("The image")
    show_checks(report.checks, console)
    console.say()
    for line in map_of(report, console):
        console.say(line)
    for note in report.plan.notes:
        console.say(f"note: {shown(note)}")
    console.say()
    colour = "good" if report.holds else "bad" if report.fails else "note"
    console.say(console.coloured(verdict_of(report), colour))


def show_checks(checks: tuple[Check, ...], console: Console) -> None:
    """Print checks, a line for each: whether it holds, what, and why."""
    words = {True: ("holds", "good"), False: ("FAILS", "bad"), None: ("-", "dim")}
    width = max((len(check.what) for check in checks), default=0)
    for check in checks:
        word, colour = words[check.holds]
        line = f"  {console.coloured(word.ljust(5), colour)}  {check.what.ljust(width)}  {shown(check.detail)}"
        console.say(line.rstrip())


def map_of(report: Drawn, console: Console) -> Iterator[str]:
    """Yield a map of the file and a legend, line by line; a cell shows the worst state among its bytes."""
    from digsigd.image.report import cells_of

    size = max(report.size, 1)
    cell, worst = cells_of(report, _COLUMNS * _ROWS)
    marks = _MARKS
    try:
        "".join(_MARKS.values()).encode(getattr(console.out, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        marks = _ASCII
    width = len(f"{size:#x}")
    for start in range(0, len(worst), _COLUMNS):
        cells = "".join(console.coloured(marks[one], _COLOURS[one]) for one in worst[start : start + _COLUMNS])
        yield f"  {start * cell:#{width}x}  {cells}"
    always = ("signed", "csf", "wrong", "open")
    shown_states = [one for one in _MARKS if one in always or one in worst]
    legend = "  ".join(f"{marks[one]} {report.states[one]}" for one in shown_states)
    yield f"  {legend}   ({cell:#x} bytes each)"


def as_values(report: Report) -> dict[str, Any]:
    """Return the report as values for JSON."""
    plan = report.plan
    return {
        "holds": report.holds,
        "fails": report.fails,
        "meaning": report.meaning,
        "layout": plan.layout,
        "soc": plan.soc,
        "boards": plan.boards or None,
        "size": plan.size,
        "fuse_value": report.fuse_value.hex() if report.fuse_value else None,
        "checks": [check_values(check) for check in report.checks],
        "regions": [{"offset": one.offset, "length": one.length, "name": one.name} for one in plan.regions],
        "csfs": [
            {
                "name": one.signing.name,
                "holds": one.holds,
                "excuse": one.excuse,
                "offset": one.signing.csf_offset,
                "length": one.length,
                "room": one.signing.csf_room,
                "ivt": one.signing.ivt.offset,
                "srk": one.proven.srk if one.proven else None,
                "certificates": [c.subject for c in one.proven.certificates] if one.proven else [],
                "checks": [check_values(check) for check in one.checks],
                "blocks": [{"address": b.address, "offset": b.offset, "length": b.length} for b in one.blocks],
                "notes": list(one.proven.notes) if one.proven else [],
            }
            for one in report.csfs
        ],
        "spans": [
            {"offset": one.offset, "length": one.length, "state": one.state, "must": one.must} for one in report.spans
        ],
        "unchecked": [{"offset": offset, "length": length} for offset, length in plan.foreign],
        "encrypted": list(plan.encrypted),
        "notes": list(plan.notes),
    }


def check_values(check: Check) -> dict[str, Any]:
    """Return a check as values for JSON."""
    return {"what": check.what, "holds": check.holds, "detail": check.detail}
