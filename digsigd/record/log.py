"""One host's log in the database: append entries, read them, and make checkpoints and proofs. It blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.database import Database
from digsigd.record.entry import Entry, columns_of
from digsigd.record.errors import ProofError, RecordError, RecordUnavailable
from digsigd.record.merkle import EMPTY, Frontier, complete_subtrees, leaf_hash, root_of
from digsigd.record.note import SigningKey, VerifierKey, note_of

_INSERT_ENTRY = (
    "INSERT INTO entry (log, position, leaf, signature, data, id, time, outcome, caller, machine, request,"
    " client_request, blob, artifact) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_NODE = "INSERT INTO node (log, level, position, hash) VALUES (?, ?, ?, ?)"


_columns = attrgetter("id", "time", "outcome", "caller", "machine", "request", "client_request", "blob", "artifact")


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry to append. `unsure`: an earlier commit with it may have succeeded.

    `given_up`: its request was answered 503 since. If the commit has succeeded, an entry is appended that withdraws it.
    """

    entry: Entry
    unsure: bool = False
    given_up: bool = False


class LogReader:
    """A log as it is stored. `number` is its row, `hash` the hash of its key in hexadecimal."""

    def __init__(self, database: Database, number: int, vkey: VerifierKey) -> None:
        self.database = database
        self.number = number
        self.vkey = vkey
        self.hash = vkey.hash.hex()

    def size(self) -> int:
        """Return the number of entries that the log says it has."""
        row = self.database.first("SELECT size FROM log WHERE id = ?", (self.number,))
        return int(row[0]) if row else 0

    def subtree(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree. Raises `RecordError` if it is not there."""
        if level:
            row = self.database.first(
                "SELECT hash FROM node WHERE log = ? AND level = ? AND position = ?", (self.number, level, index)
            )
        else:
            row = self.database.first("SELECT leaf FROM entry WHERE log = ? AND position = ?", (self.number, index))
        if row is None:
            raise RecordError(f"the record has lost the hash of records {index << level} to {(index + 1 << level) - 1}")
        return bytes(row[0])

    def frontier(self, size: int) -> Frontier:
        """Return the tree of the first `size` entries. Raises `RecordError` if hashes are missing."""
        return Frontier(size, [self.subtree(level, index) for level, index in complete_subtrees(0, size)])

    def checkpoint(self, size: int) -> str:
        """Return the signed checkpoint of the first `size` entries, at least one. Raises `RecordError`."""
        row = self.database.first("SELECT signature FROM entry WHERE log = ? AND position = ?", (self.number, size - 1))
        if row is None:
            raise RecordError(f"the record has no entry {size - 1}")
        text = str(Checkpoint(self.vkey.name, size, root_of(self.subtree, 0, size)))
        return note_of(text, self.vkey, bytes(row[0]))

    def record_id(self, position: int) -> str:
        """Return the id of an entry, for answers and commands."""
        return f"{self.hash}.{position}"


class Log(LogReader):
    """A log that its host appends to."""

    def __init__(self, database: Database, key: SigningKey) -> None:
        """Find the log of `key`, or begin it. Raises `RecordUnavailable`."""
        self._key = key
        super().__init__(database, _number_of(database, key.verifier), key.verifier)
        self._frontier = Frontier()

    @property
    def head(self) -> int:
        """How many entries there were after the last append; 0 before the first."""
        return self._frontier.size

    def check(self, last: Checkpoint | None) -> None:
        """Raise `RecordError` unless the log still has what `last` says, and its own signed head.

        An old backup that is put back, or a removed end, must not be continued: two records would claim one place.
        """
        size = self.size()
        if last is None:
            return
        if size < last.size:
            raise RecordError(
                f"the record has {size} entries, but this host has made a checkpoint of {last.size}",
                hint="entries were removed, or an old backup was put back: put the newest one back, or begin a new"
                " record with a new key (docs/record.md)",
            )
        if last.size and root_of(self.subtree, 0, last.size) != last.root:
            raise RecordError(
                f"the record's first {last.size} entries are not those of this host's last checkpoint",
                hint="find what was changed with: digsigd record verify",
            )

    def append(self, pending: Sequence[Pending]) -> tuple[list[int], str]:
        """Append entries in one transaction. Return their positions, and the signed checkpoint of the tree then.

        The positions of those that are given up are -1; the checkpoint is empty if nothing was appended. Entries that
        are unsure are looked for first, so that none is there twice. Raises `RecordUnavailable`; its
        attribute `unsure` says whether the transaction may have been committed nevertheless.
        """
        if self.database.postgres and self._frontier.size and not any(one.unsure for one in pending):
            done = self._append_at_once(pending)
            if done is not None:
                return done
        committing = False
        try:
            self.database.begin()
            positions, frontier, note = self._append(pending)
            committing = True
            self.database.commit()
        except BaseException as error:
            self.database.rollback()
            self._frontier = Frontier()
            if isinstance(error, RecordUnavailable):
                error.unsure = committing
            raise
        self._frontier = frontier
        return positions, note

    def _append_at_once(self, pending: Sequence[Pending]) -> tuple[list[int], str] | None:
        """Append in one statement, which does nothing if another daemon with the same key has appended: then None.

        Should the statement arrive after its connection was given up, what was appended since makes it do nothing.
        """
        new = _New(self, self._key, self._frontier.copy())
        positions = [new.add(one.entry) for one in pending]
        head = (new.frontier.size, new.checkpoint.root, self.number, self._frontier.size, self._frontier.root())
        try:
            if not self.database.append(head, new.rows, new.nodes):
                return None
        except RecordUnavailable as error:
            self._frontier = Frontier()
            error.unsure = True
            raise
        self._frontier = new.frontier
        return positions, new.note()

    def _append(self, pending: Sequence[Pending]) -> tuple[list[int], Frontier, str]:
        # Another daemon with the same key may have appended. The lock lasts until the end of the transaction.
        for_update = " FOR UPDATE" if self.database.postgres else ""
        row = self.database.first(f"SELECT size, root FROM log WHERE id = ?{for_update}", (self.number,))  # noqa: S608
        if row is None:
            raise RecordError("the record has lost this host's log")
        new = _New(self, self._key, self._frontier_at(int(row[0]), bytes(row[1])))
        positions = []
        for one in pending:
            found = self._found(one) if one.unsure else None
            if one.given_up:
                positions.append(-1)
                if found is not None:
                    new.add(Entry.new({"outcome": "withdrawn", "withdraws": self.record_id(found)}))
            else:
                positions.append(found if found is not None else new.add(one.entry))
        if not new.rows:
            return positions, new.frontier, ""
        self.database.many(_INSERT_ENTRY, new.rows)
        if new.nodes:
            self.database.many(_INSERT_NODE, new.nodes)
        self.database.execute(
            "UPDATE log SET size = ?, root = ? WHERE id = ?", (new.frontier.size, new.checkpoint.root, self.number)
        )
        return positions, new.frontier, new.note()

    def _frontier_at(self, size: int, root: bytes) -> Frontier:
        """Return the tree to append to. Raises `RecordError` unless this host's key has signed it.

        Otherwise an entry that somebody else has put at the end would be covered by the next signature.
        """
        known = self._frontier.size == size
        frontier = self._frontier.copy() if known else self.frontier(size)
        if frontier.root() != root:
            raise RecordError(
                "the record does not match its own root", hint="find what was changed with: digsigd record verify"
            )
        if size and not known:
            try:
                open_checkpoint(self.checkpoint(size), self.vkey)
            except ProofError:
                raise RecordError(
                    f"the record ends with an entry, {size - 1}, that this host's key has not signed",
                    hint="find what was changed with: digsigd record verify",
                ) from None
        return frontier

    def _found(self, one: Pending) -> int | None:
        row = self.database.first("SELECT position FROM entry WHERE log = ? AND id = ?", (self.number, one.entry.id))
        return int(row[0]) if row else None


class _New:
    """Entries to append to a tree: the rows of both tables, and the checkpoint of the tree that ends with each."""

    def __init__(self, log: LogReader, key: SigningKey, frontier: Frontier) -> None:
        self.frontier = frontier
        self.checkpoint = Checkpoint(key.name, frontier.size, frontier.root())
        self.rows: list[tuple[object, ...]] = []
        self.nodes: list[tuple[int, int, int, bytes]] = []
        self._vkey = log.vkey
        self._number = log.number
        self._key = key.private
        self._signature = b""

    def add(self, entry: Entry) -> int:
        """Add an entry, and return its position."""
        data = entry.data()
        leaf = leaf_hash(data)
        position = self.frontier.size
        self.nodes += [(self._number, level, index, node) for level, index, node in self.frontier.append(leaf)]
        self.checkpoint = Checkpoint(self._vkey.name, self.frontier.size, self.frontier.root())
        self._signature = self._key.sign(str(self.checkpoint).encode())
        columns = columns_of({**entry.values, "id": entry.id, "time": entry.time})
        self.rows.append((self._number, position, leaf, self._signature, data, *_columns(columns)))
        return position

    def note(self) -> str:
        """Return the signed checkpoint of the tree that ends with the last entry added."""
        return note_of(str(self.checkpoint), self._vkey, self._signature)


def _number_of(database: Database, vkey: VerifierKey) -> int:
    """Return the row of a key's log, made if it is missing."""
    database.execute(
        "INSERT INTO log (vkey, hash, size, root) VALUES (?, ?, 0, ?) ON CONFLICT (vkey) DO NOTHING",
        (str(vkey), vkey.hash.hex(), EMPTY),
    )
    return int(database.first("SELECT id FROM log WHERE vkey = ?", (str(vkey),))[0])


def logs_of(database: Database) -> list[LogReader]:
    """Return all logs in a database, in the order in which they began."""
    rows = database.all("SELECT id, vkey FROM log ORDER BY id")
    return [LogReader(database, int(number), VerifierKey.parse(vkey)) for number, vkey in rows]
