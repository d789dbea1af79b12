"""UUU's tag behind an image, whatever tool put it there, is not part of what boards read."""

from __future__ import annotations

import pytest

from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.signed_images import failing, holds, judged, signed

NAME = b"UUUBURNXXOEUZX7+A-XY5601QQWWZ"
OLD = golden.flash("mm", "nxp-old")
IMAGES = {"old": OLD, "binman": golden.flash("mm", "binman"), "SPL": golden.spl("mm")}


def tag(size: int, end: bytes = b"END\n") -> bytes:
    return NAME + str(size).encode() + end


@pytest.mark.parametrize("end", [b"END\n", b"END"], ids=["meta-freescale", "SPSDK"])
@pytest.mark.parametrize("name", IMAGES)
def test_a_right_tag_stays_as_it_is(name: str, end: bytes) -> None:
    """And has a place of its own in the map."""
    data = IMAGES[name]
    whole = data + tag(len(data), end)
    found = plan(whole)
    assert found.signings == plan(data).signings
    assert (found.tail, found.notes) == (None, plan(data).notes)
    assert (found.regions[-1].name, found.regions[-1].offset, found.size) == ("tag for UUU", len(data), len(whole))
    made = signed(whole)
    assert made[len(data) :] == tag(len(data), end)
    assert holds(made)


@pytest.mark.parametrize("end", [b"END\n", b"END"], ids=["meta-freescale", "SPSDK"])
def test_an_image_that_grows_gets_a_new_tag(end: bytes) -> None:
    """Of its new size, behind its new end; nothing of the old one stays."""
    short = golden.flash("mm", "binman", signed_room=False)
    whole = short + tag(len(short), end)
    found = plan(whole)
    size = len(short) + 0x1FE0
    assert found.tail is not None
    assert (found.tail.offset, found.tail.data) == (len(short), tag(size, end))
    assert found.size == size + len(found.tail.data)
    made = signed(whole)
    assert made.endswith(b"\0" + tag(size, end))
    assert made.count(NAME) == 1
    assert holds(made)


@pytest.mark.parametrize("says", [0, 1, len(OLD) - 1, len(OLD) + 40])
def test_a_wrong_tag_is_told_of_and_written_anew(says: int) -> None:
    """The board does not read it, so the image holds; UUU would not find its end."""
    whole = signed(OLD) + tag(says)
    report = judged(whole)
    assert isinstance(report, Report)
    assert report.holds, failing(report)
    assert f"says {says} bytes, but it follows {len(OLD)} bytes" in " ".join(report.plan.notes)
    found = plan(OLD + tag(says))
    assert found.tail is not None
    assert found.tail.data == tag(len(OLD))
    assert plan(signed(OLD + tag(says))).tail is None


def test_a_second_tag_of_a_second_run_is_left_out() -> None:
    """Each counts what was there before it."""
    once = OLD + tag(len(OLD))
    twice = once + tag(len(once))
    found = plan(twice)
    assert found.tail is not None
    assert found.tail.data == tag(len(OLD))
    assert "more than one tag" in " ".join(found.notes)
    made = signed(twice)
    assert made[len(OLD) :] == tag(len(OLD))
    assert holds(made)


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_padding_around_a_tag_is_padding(fill: bytes) -> None:
    """Before it, it counts; behind it, it stays."""
    padded = OLD + fill * (-len(OLD) % 0x1000)
    whole = padded + tag(len(padded))
    for rest in (b"", fill * 0x321):
        found = plan(whole + rest)
        assert (found.tail, found.size) == (None, len(whole + rest))
        assert holds(signed(whole + rest))
        assert signed(whole + rest).endswith(tag(len(padded)) + rest)


@pytest.mark.parametrize(
    "tail",
    [NAME, NAME + b"END\n", NAME + b"12345678901END\n", NAME + b"-1END\n", tag(len(OLD)) + b"x", b"UUUBURN1END\n"],
)
def test_what_is_nearly_a_tag_is_unknown_data(tail: bytes) -> None:
    """Nothing signs it, and nobody knows what it is."""
    assert "unknown data" in str(judged(OLD + tail))


def test_a_tag_alone_is_no_image() -> None:
    """However long."""
    assert isinstance(judged(tag(0)), str)
    assert isinstance(judged(bytes(0x100) + tag(0x100)), str)
