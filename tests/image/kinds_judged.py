"""What tests of kinds of images share: refusals in words, changed bytes, and judgement with a chip."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from digsigd.image.chips import Chip, find
from digsigd.image.errors import ImageError
from digsigd.image.model import Plan
from digsigd.image.plan import plan
from digsigd.image.report import Report
from digsigd.image.verify import verify
from tests.helpers.signed_images import KEYS, failing


def refused(data: bytes, soc: str | None = None, **options: object) -> str:
    """What and hint in one; there always is a hint."""
    with pytest.raises(ImageError) as caught:
        planned(data, soc, **options)
    assert caught.value.hint
    text = f"{caught.value.what} | {caught.value.hint}"
    assert text.isprintable()
    return text


def planned(data: bytes, soc: str | None = None, **options: object) -> Plan:
    """The plan, which is also what a signing host takes."""
    chip: Chip | None = find(soc) if soc else None
    found = plan(data, chip=chip, **options)  # type: ignore[arg-type]
    place = 0
    for region in found.regions:
        assert region.offset == place
        place = region.end
    assert place == found.size
    for part in found.signings:
        assert part.csf_offset == part.ivt.offset_of(part.ivt.csf)
    return found


def blocks(found: Plan, number: int = 0) -> list[tuple[int, int, int]]:
    return [(block.address, block.offset, block.length) for block in found.signings[number].blocks]


def at(data: bytes, offset: int, change: bytes | int) -> bytes:
    """With other bytes, or another little-endian word, there."""
    part = struct.pack("<I", change) if isinstance(change, int) else change
    return data[:offset] + part + data[offset + len(part) :]


def report_of(data: bytes, soc: str | None = None, **options: object) -> Report | str:
    """What `digsign verify` finds, or why it is no image."""
    try:
        found = planned(data, soc, **options)
    except ImageError as error:
        return f"{error.what} | {error.hint}"
    return verify(data, found, srk_table=KEYS.table)


def why_not(data: bytes, soc: str | None = None, **options: object) -> str:
    """What does not hold; that all holds fails the test."""
    report = report_of(data, soc, **options)
    assert isinstance(report, str) or not report.holds
    return "; ".join(failing(report))


def is_good(data: bytes, soc: str | None = None, **options: object) -> Report:
    """The report of an image that holds."""
    report = report_of(data, soc, **options)
    assert isinstance(report, Report), report
    assert report.holds, failing(report)
    return report


def without(place: int, length: int, base: int, end: int) -> list[hab.Block]:
    """All from 0 to `end`, loaded to `base`, but for one stretch."""
    front, back = place, place + length
    return [hab.Block(base, 0, front), hab.Block(base + back, back, end - back)]
