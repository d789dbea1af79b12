"""What a report says of each byte, and when an image holds, fails, or neither."""

from __future__ import annotations

from dataclasses import replace

import pytest

from digsigd import hab
from digsigd.image.model import Plan, Region, Signing
from digsigd.image.report import Check, CsfReport, Report, Span, named, spans_of, union

IVT = hab.Ivt.parse(b"\xd1\0\x20\x40" + bytes(28))
PART = Signing("part", IVT, (), 0, 0)
PLAN = Plan("image", None, 32, (Region(0, 8, "first"), Region(8, 24, "second")), (PART,), must=((4, 12),))


def csf(*holds: bool | None, proven: bool = True, excuse: str = "", secret: bool = False) -> CsfReport:
    """A report on a CSF with such checks; `secret` says that one more is for the board alone."""
    checks = [Check("one", one) for one in holds] + [Check("key", None, "", secret=True)] * secret
    something: object = object()
    return CsfReport(PART, 4, tuple(checks), (), something if proven else None, excuse=excuse)  # type: ignore[arg-type]


def report(*csfs: CsfReport, holds: bool | None = True, encrypted: bool = False) -> Report:
    """A report with such CSFs and one more check."""
    plan = replace(PLAN, encrypted=("all of it",)) if encrypted else PLAN
    return Report(plan, csfs, (Check("image", holds),), (), None)


def test_a_csf_holds_with_all_its_checks_but_those_that_only_a_board_can_make() -> None:
    """And where something was proven."""
    assert csf(True, True).holds
    assert csf(True, secret=True).holds
    for other in (csf(True, False), csf(None, True), csf(True, proven=False), csf(False, secret=True)):
        assert not other.holds


def test_an_image_holds_with_all_its_csfs_but_those_that_are_excused() -> None:
    """And all its own checks."""
    bad, excused = csf(False), csf(False, excuse="not all boards look at it")
    assert report(csf(True), excused).holds
    assert not report(csf(True), excused).fails
    for other in (report(csf(True), bad), report(csf(True), holds=False), report(csf(True), holds=None)):
        assert not other.holds
        assert other.fails


def test_an_encrypted_image_fails_where_something_is_wrong_and_else_does_neither() -> None:
    """What could not be tried is not wrong."""
    good = csf(True, secret=True)
    unknown = report(good, holds=None, encrypted=True)
    assert (unknown.holds, unknown.fails) == (False, False)
    assert report(good, holds=False, encrypted=True).fails
    assert report(good, csf(False), holds=None, encrypted=True).fails
    assert not report(good, csf(False, excuse="unread"), holds=None, encrypted=True).fails


def test_a_csf_is_accepted_where_it_is_proven_and_nothing_is_refused() -> None:
    """It may cover too little, or what is not known for certain."""
    for meaning, accepted in (("refused", False), ("unsigned", True), ("unknown", True)):
        one = replace(csf(True), checks=(Check("one", False, meaning=meaning),))  # type: ignore[arg-type]
        assert one.accepted is accepted
        assert not replace(one, proven=None).accepted
    assert not csf(True, proven=False).accepted


def test_what_a_failure_means_is_the_worst_of_what_fails() -> None:
    """An image whose CSFs are not all accepted is refused, whatever else there is; excused ones are not asked."""
    bare = Check("image", False, meaning="unsigned")
    unknown = Check("image", False, meaning="unknown")
    refused = Check("image", False)
    for checks, csfs, meaning in (
        ((Check("image", True),), (csf(True),), None),
        ((bare,), (csf(True),), "unsigned"),
        ((bare, unknown), (csf(True),), "unknown"),
        ((unknown, bare, refused), (csf(True),), "refused"),
        ((bare,), (csf(None, proven=False),), "refused"),
        ((bare,), (csf(True), csf(None, proven=False)), "refused"),
        ((bare,), (csf(True), csf(None, proven=False, excuse="unread")), "unsigned"),
        ((bare,), (csf(True), csf(False, excuse="unread")), "unsigned"),
        ((Check("image", None),), (csf(True),), "refused"),
    ):
        assert Report(PLAN, csfs, checks, (), None).meaning == meaning


@pytest.mark.parametrize(
    ("parts", "merged"),
    [
        ([], []),
        ([(4, 8), (0, 2)], [(0, 2), (4, 8)]),
        ([(0, 4), (4, 8)], [(0, 8)]),
        ([(0, 4), (5, 8)], [(0, 4), (5, 8)]),
        ([(0, 8), (2, 4)], [(0, 8)]),
        ([(0, 4), (2, 6), (5, 7)], [(0, 7)]),
        ([(3, 3), (5, 4)], []),
    ],
)
def test_parts_are_merged_where_they_touch(parts: list[tuple[int, int]], merged: list[tuple[int, int]]) -> None:
    """In order; those of no length are none."""
    assert union(parts) == merged


def test_every_byte_is_in_one_span_and_the_state_that_counts_most() -> None:
    """Spans end with what is known, and with the file."""
    states = (("secret", [(6, 10)]), ("signed", [(2, 8), (20, 40)]))
    assert spans_of(PLAN, 32, states) == (
        Span(0, 2, "open", False),
        Span(2, 2, "signed", False),
        Span(4, 2, "signed", True),
        Span(6, 2, "secret", True),
        Span(8, 2, "secret", True),
        Span(10, 6, "open", True),
        Span(16, 4, "open", False),
        Span(20, 12, "signed", False),
    )
    assert [(one.offset, one.length) for one in spans_of(PLAN, 6, ())] == [(0, 4), (4, 2)]
    nothing = replace(PLAN, regions=(), must=())
    assert spans_of(nothing, 6, ()) == (Span(0, 6, "open", False),)
    assert spans_of(nothing, 6, (("csf", [(2, 4)]),)) == (
        Span(0, 2, "open", False),
        Span(2, 2, "csf", False),
        Span(4, 2, "open", False),
    )


def test_a_span_is_named_by_the_region_that_it_begins_in() -> None:
    """What is in none is bytes."""
    names = [named(PLAN, Span(offset, 1, "open", True)) for offset in (0, 7, 8, 31, 32)]
    assert names == ["first", "first", "second", "second", "bytes"]
