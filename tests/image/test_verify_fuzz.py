"""Whatever is changed in a signed image, it is judged or refused, and what holds runs nothing that was changed."""

from __future__ import annotations

import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd.image.model import Plan
from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.signed_images import judged, signed
from tests.image.test_encrypted import encrypted

CHANGES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [bytes(4), b"\xff" * 4, b"\0\0\0\x01", b"\xd4\x00\x50\x43", b"\xd1\x00\x20\x41", b"\xbe\x00\x0c\x00"]
    ),
)
EDITS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 0xFFF), CHANGES), min_size=1, max_size=3)


@functools.cache
def seeds() -> tuple[tuple[bytes, Plan, tuple[tuple[int, int], ...]], ...]:
    """Signed images of several layouts, their plans, and the parts that are read: (offset, length)."""
    images = (
        signed(golden.flash("mm", "nxp-new")),
        signed(golden.flash("mm", "binman")),
        signed(golden.flash("mq", "nxp-old", hdmi=True)),
        signed(golden.kernel_with_ivt()),
        encrypted(),
    )
    found = []
    for data in images:
        made = plan(data)
        read = [(one.ivt.offset, 0x30) for one in made.signings]
        read += [(one.csf_offset, length) for one in made.signings for length in (0x70, 0xC00)]
        read += [(one.offset, one.length) for one in made.regions if one.name == "FIT tree"]
        found.append((data, made, tuple(read)))
    return tuple(found)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, 4), EDITS)
def test_changed_images_are_judged(number: int, edits: list[tuple[int, int, bytes]]) -> None:
    """In words, by a report or an error; and none holds with other bytes where boards look."""
    data, made, read = seeds()[number]
    changed = bytearray(data)
    for part, offset, change in edits:
        start, length = read[part % len(read)]
        place = start + offset % length
        changed[place : place + len(change)] = change
    report = judged(bytes(changed[: len(data)]))
    if isinstance(report, Report) and report.holds:
        for offset, length in made.must:
            assert changed[offset : offset + length] == data[offset : offset + length]
        for one in report.csfs:
            start = one.signing.csf_offset
            assert changed[start : start + one.length] == data[start : start + one.length]
