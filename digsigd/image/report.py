"""The report on a signed image: which checks hold, and what covers each byte of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

from digsigd import hab
from digsigd.image.model import Plan, Region, Signing

# What a check that fails means for closed boards: HAB or what it started refuses the image; they run bytes that no
# signature covers; it is not known for certain.
Meaning: TypeAlias = Literal["refused", "unsigned", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `holds` is None if it could not be made because an earlier check failed.

    `secret` says that only a board can make the check, and that no other check depends on it. `meaning` is what a
    failure means for a closed board.
    """

    what: str
    holds: bool | None
    detail: str = ""
    secret: bool = False
    meaning: Meaning = "refused"


@dataclass(frozen=True, slots=True)
class CsfReport:
    """What was found where a CSF belongs. `blocks` are the parts of the file that its signatures cover.

    `length` is that of the CSF blob in bytes, 0 without one. `proven` is None unless the whole CSF holds. `srk_table`
    is the table in it. `keys` are what it puts into the slots of HAB's key store. `secret` are the blocks that it
    decrypts, which are not verified here. `excuse` says why a failure is acceptable: not all boards check this CSF.
    """

    signing: Signing
    length: int
    checks: tuple[Check, ...]
    blocks: tuple[hab.Block, ...]
    proven: hab.Verified | None
    srk_table: bytes | None = None
    keys: tuple[tuple[int, bytes], ...] = ()
    secret: tuple[hab.Block, ...] = ()
    excuse: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the board accepts it, as far as is known without its key. It can still cover too little."""
        refused = any(check.holds is False and check.meaning == "refused" for check in self.checks)
        return self.proven is not None and not refused

    @property
    def holds(self) -> bool:
        """Whether the board accepts it, and it covers all of its part."""
        return self.proven is not None and all(check.holds for check in self.checks if not check.secret)


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes at `offset` that are alike: under a signature, a CSF itself, or neither ("open").

    "foreign" is what runs under a signature that only the board can check, "secret" what is encrypted. `must` says that
    the board uses these bytes, so "open" is a failure.
    """

    offset: int
    length: int
    state: str
    must: bool


# The states of `cells_of`, from the least to the most important, and what they are called.
STATES = {
    "open": "unused, not signed",
    "signed": "signed",
    "csf": "CSF",
    "foreign": "runs, not checked here",
    "secret": "encrypted",
    "wrong": "used and not signed",
}


class Drawn(Protocol):
    """What a map is drawn from: `states` are the names of the states in `STATES`."""

    @property
    def size(self) -> int:
        """The bytes of the file."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """All of the file, in order."""

    @property
    def states(self) -> Mapping[str, str]:
        """What the states are called."""


class Judged(Protocol):
    """What a verdict is made from."""

    @property
    def holds(self) -> bool:
        """Whether all checks hold."""

    @property
    def fails(self) -> bool:
        """Whether a check fails."""

    @property
    def meaning(self) -> Meaning | None:
        """What the worst failure means."""

    @property
    def fuse_value(self) -> bytes | None:
        """The fuse value that the boards must have."""

    @property
    def partly(self) -> bool:
        """Whether only boards can check a part of it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of verifying an image. `fuse_value` is the value that its boards must have, None if unknown."""

    plan: Plan
    csfs: tuple[CsfReport, ...]
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]
    fuse_value: bytes | None

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self.plan.size

    @property
    def states(self) -> Mapping[str, str]:
        """What the states of its map are called."""
        return STATES

    @property
    def partly(self) -> bool:
        """Whether only boards can check a part of what they run."""
        return bool(self.plan.foreign)

    @property
    def holds(self) -> bool:
        """Whether all checks hold: only then does a closed board boot the image."""
        csfs = all(one.holds or bool(one.excuse) for one in self.csfs)
        return csfs and all(check.holds for check in self.checks)

    @property
    def fails(self) -> bool:
        """Whether a check fails. An encrypted image can neither hold nor fail."""
        if self.holds:
            return False
        checks = [*self.checks, *(check for one in self.csfs if not one.excuse for check in one.checks)]
        return not self.plan.encrypted or any(check.holds is False for check in checks)

    @property
    def meaning(self) -> Meaning | None:
        """What the worst failure means for a closed board; None if no check fails."""
        if not self.fails:
            return None
        asked = [one for one in self.csfs if not one.excuse]
        found = {check.meaning for check in self.checks if check.holds is False}
        found |= {check.meaning for one in asked for check in one.checks if check.holds is False}
        if not all(one.accepted for one in asked):
            return "refused"
        ranked: tuple[Meaning, ...] = ("refused", "unknown", "unsigned")
        return next((one for one in ranked if one in found), "refused")


# What each `Meaning` is, in words.
MEANINGS: dict[Meaning, str] = {
    "refused": "a closed board would not boot this image",
    "unsigned": "a board boots this image and runs bytes that no signature covers",
    "unknown": "it is not known for certain what the chip supports",
}


def cells_of(report: Drawn, most: int) -> tuple[int, list[str]]:
    """Return a map of the file: the bytes of a cell, and the state of each of at most `most` cells.

    A cell has the most important state among its bytes, a name in `STATES`: "wrong" is open, and must be signed.
    """
    size = max(report.size, 1)
    cell = max(-(-size // most), 1)
    cells = ["open"] * -(-size // cell)
    rank = {state: number for number, state in enumerate(STATES)}
    for span in report.spans:
        state = "wrong" if span.must and span.state == "open" else span.state
        for number in range(span.offset // cell, -(-(span.offset + span.length) // cell)):
            if number < len(cells) and rank[state] > rank[cells[number]]:
                cells[number] = state
    return cell, cells


def verdict_of(report: Judged) -> str:
    """Return the result of a verification in one sentence."""
    if report.holds:
        known = f" for boards with the fuse value {report.fuse_value.hex()}" if report.fuse_value else ""
        what = "Everything that can be checked here holds" if report.partly else "Everything holds"
        return f"{what}{known}."
    if not report.fails:
        return "No check fails, but not everything can be checked here: only a board can check what is encrypted."
    return f"It does not hold: {MEANINGS[report.meaning or 'refused']}."


def union(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return these (start, end) pairs in order, merged where they overlap or touch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(one for one in parts if one[0] < one[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def spans_of(plan: Plan, size: int, states: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> tuple[Span, ...]:
    """Return the whole file in spans. `states` gives (start, end) pairs for each state; the first state wins."""
    return spans_between(plan.regions, plan.must, size, states)


def spans_between(
    regions: Iterable[Region],
    used: Iterable[tuple[int, int]],
    size: int,
    states: Sequence[tuple[str, Sequence[tuple[int, int]]]],
) -> tuple[Span, ...]:
    """Return a file of `size` bytes in spans that no edge of a region crosses; `used` are (offset, length) pairs."""
    must = union((offset, offset + length) for offset, length in used)
    edges = {0, size}
    for start, end in (
        *(one for _, parts in states for one in parts),
        *must,
        *((one.offset, one.end) for one in regions),
    ):
        edges |= {min(start, size), min(end, size)}
    found = []
    for start, end in pairwise(sorted(edges)):
        state = next((name for name, parts in states if _within(parts, start)), "open")
        found.append(Span(start, end - start, state, _within(must, start)))
    return tuple(found)


class Mapped(Protocol):
    """A plan with the regions of its file."""

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, in order."""


def named(plan: Mapped, span: Span) -> str:
    """Return the name to show for the part of the image that a span is in."""
    return next((one.name for one in plan.regions if one.offset <= span.offset < one.end), "bytes")


def _within(parts: Sequence[tuple[int, int]], offset: int) -> bool:
    return any(start <= offset < end for start, end in parts)
