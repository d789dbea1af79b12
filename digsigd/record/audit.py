"""Verify a log: that nothing in it was changed, removed, inserted or reordered since it was written. It blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from digsigd.record.checkpoint import Checkpoint
from digsigd.record.entry import columns_of, read
from digsigd.record.errors import ProofError, RecordError, RecordUnavailable
from digsigd.record.log import LogReader
from digsigd.record.merkle import Frontier, leaf_hash

# So many entries, or nodes of a tree, are read at a time.
_PAGE = 1000
_COLUMNS = ("id", "time", "outcome", "caller", "machine", "request", "client_request", "blob", "artifact")
_columns = attrgetter(*_COLUMNS)


@dataclass(slots=True)
class Audit:
    """The result for one log: its size and root as computed, and what is wrong, one line for each fault."""

    size: int = 0
    root: bytes = b""
    pruned: int = 0
    checkpoints: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    position: int
    leaf: bytes
    signature: bytes
    data: bytes | None
    columns: tuple[str, ...]


def audit(log: LogReader, checkpoints: Sequence[Checkpoint] = ()) -> Audit:
    """Verify all of a log, also against checkpoints that were kept elsewhere.

    Raises `RecordUnavailable` if the database cannot be read at all.
    """
    found = Audit()
    said = log.database.first("SELECT size, root FROM log WHERE id = ?", (log.number,))
    roots: dict[int, list[bytes]] = {}
    for one in checkpoints:
        roots.setdefault(one.size, []).append(one.root)
    frontier = Frontier()
    nodes = _Nodes(log)
    emptied: list[int] = []
    prunings: list[range] = []
    unsigned: list[int] = []
    expected, whole = 0, True
    for row in _rows(log, found.problems, int(said[0])):
        if row.position != expected:
            found.problems.append(f"{_names(expected, row.position)} missing: removed, or moved elsewhere")
            whole = False
        expected = row.position + 1
        found.problems += _content_of(row)
        if not whole:
            # It cannot be compared with the tree any more, only with its own leaf.
            continue
        if row.data is None:
            emptied.append(row.position)
        elif b'"pruned"' in row.data:
            prunings += _prunings_in(row.data)
        for level, index, node in frontier.append(row.leaf):
            if nodes.next(level, index) != node:
                found.problems.append(
                    f"{_names(index << level, (index + 1) << level)} not as they were: the tree above them differs"
                )
        for root in roots.pop(frontier.size, []):
            found.checkpoints += 1
            if root != frontier.root():
                found.problems.append(f"the first {frontier.size} records do not match a checkpoint kept elsewhere")
        if not _is_signed(log, frontier, row.signature):
            unsigned.append(row.position)
    found.size, found.root = frontier.size, frontier.root()
    found.pruned = len(emptied)
    if not whole:
        if expected < int(said[0]):
            found.problems.append(f"{_names(expected, int(said[0]))} missing at the end")
        return found
    for position in emptied:
        if not any(position in one for one in prunings):
            found.problems.append(f"record {position} has lost its content, and no pruning says so")
    if unsigned and unsigned[-1] == found.size - 1:
        found.problems.append(
            f"record {unsigned[0]} is not what the host signed there: it was changed, inserted or moved, or one"
            " before it was removed"
        )
    else:
        found.problems += [f"the signature of record {one} was changed" for one in unsigned]
    if found.size < int(said[0]):
        found.problems.append(f"{_names(found.size, int(said[0]))} missing at the end")
    elif (found.size, found.root) != (int(said[0]), bytes(said[1])):
        found.problems.append(f"the log says that it has {said[0]} records and another root than they give")
    for size in sorted(roots):
        found.checkpoints += 1
        if size:
            found.problems.append(
                f"{_names(found.size, size)} missing at the end: a checkpoint kept elsewhere has them"
            )
    return found


def _content_of(row: _Row) -> list[str]:
    """Return what is wrong with one entry alone."""
    if row.data is None:
        return []
    if leaf_hash(row.data) != row.leaf:
        return [f"record {row.position} was changed: its content is not what its leaf says"]
    try:
        real = columns_of(read(row.data))
    except RecordError as error:
        return [f"record {row.position}: {error}"]
    return [
        f"record {row.position} was changed: its column {name} is {stored!r}, but its content says {said!r}"
        for name, stored, said in zip(_COLUMNS, row.columns, _columns(real), strict=True)
        if stored != said
    ]


def _is_signed(log: LogReader, frontier: Frontier, signature: bytes) -> bool:
    """Return whether the host has signed this tree."""
    try:
        log.vkey.check(str(Checkpoint(log.vkey.name, frontier.size, frontier.root())), signature)
    except ProofError:
        return False
    return True


def _prunings_in(data: bytes) -> list[range]:
    try:
        values = read(data)
        if values.get("outcome") == "pruned":
            return [range(int(values["first"]), int(values["last"]) + 1)]
    except (RecordError, KeyError, TypeError, ValueError):
        pass
    return []


def _rows(log: LogReader, problems: list[str], size: int) -> Iterator[_Row]:
    """Yield all entries in order. Unreadable ones are reported, and skipped."""
    statement = (
        f"SELECT position, leaf, signature, data, {', '.join(_COLUMNS)} FROM entry"  # noqa: S608
        " WHERE log = ? AND position >= ? AND position < ? ORDER BY position"
    )
    begin = 0
    while True:
        row = log.database.first(
            "SELECT min(position), max(position) FROM entry WHERE log = ? AND position >= ?", (log.number, begin)
        )
        if row is None or row[0] is None:
            return
        begin = int(row[0])
        try:
            page = log.database.all(statement, (log.number, begin, begin + _PAGE))
        except RecordUnavailable:
            page = []
            for position in range(begin, min(begin + _PAGE, max(size, int(row[1]) + 1))):
                try:
                    page += log.database.all(statement, (log.number, position, position + 1))
                except RecordUnavailable as error:
                    problems.append(f"record {position} cannot be read: {error}")
        for found in page:
            leaf, signature, data = map(_bytes_of, found[1:4])
            yield _Row(int(found[0]), leaf or b"", signature or b"", data, tuple(map(str, found[4:])))
        begin += _PAGE


class _Nodes:
    """The stored nodes of each level, in order, a page at a time."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._pages: dict[int, dict[int, bytes]] = {}

    def next(self, level: int, index: int) -> bytes | None:
        page = self._pages.get(level, {})
        if index not in page:
            rows: list[Any] = self._log.database.all(
                "SELECT position, hash FROM node WHERE log = ? AND level = ? AND position >= ? AND position < ?",
                (self._log.number, level, index, index + _PAGE),
            )
            page = self._pages[level] = {int(position): bytes(node) for position, node in rows}
        return page.pop(index, None)


def _bytes_of(value: Any) -> bytes | None:
    """Return a stored value as bytes. SQLite lets somebody store text or a number there."""
    return value if value is None else bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def _names(begin: int, end: int) -> str:
    return f"record {begin} is" if end - begin == 1 else f"records {begin} to {end - 1} are"
