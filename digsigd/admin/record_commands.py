"""What the subcommands of `digsigd record` do."""

from __future__ import annotations

import argparse
import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from digsigd import hab
from digsigd.cli.console import Console, Trouble, shown
from digsigd.record import database as databases
from digsigd.record import queries
from digsigd.record.audit import audit
from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.errors import ProofError, RecordError
from digsigd.record.keyfile import CHECKPOINT, KEY, StateFolder
from digsigd.record.log import Log, LogReader, logs_of
from digsigd.record.merkle import consistency_proof, inclusion_proof, leaf_hash
from digsigd.record.note import SigningKey, VerifierKey
from digsigd.record.proofs import check_consistency_text, check_inclusion_text, consistency_text, inclusion_text
from digsigd.record.recorder import record_url
from digsigd.settings import load, state_folder_of

# Longer files are not searched for CSF blobs. In bytes.
_LARGEST = 4 << 30


class Source:
    """The record that a command line means."""

    def __init__(self, config: Path | None, options: argparse.Namespace) -> None:
        # Credentials are not read, so that any folder does for them.
        settings = load(config, {"CREDENTIALS_DIRECTORY": "/run/credentials/digsigd.service", **os.environ})
        self.folder = StateFolder(options.folder or state_folder_of(settings))
        self._given = options.key
        self._opened: list[databases.Database] = []
        url = options.url or settings.record.url
        if url == "none":
            raise Trouble("this signing host keeps no record", hint='its configuration says: [record] url = "none"')
        self.url = record_url(url, self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._opened:
            one.close()

    def database(self, *, read_only: bool = True) -> databases.Database:
        """Return a connection. Raises `RecordError`."""
        one = databases.Database(self.url, read_only=read_only, timeout=60.0)
        self._opened.append(one)
        if one.version() != databases.SCHEMA:
            raise RecordError(f"{databases.shown(self.url)} is not a record, or of another version of digsigd")
        return one

    def verifier(self) -> VerifierKey | None:
        """Return the key that was given, or that of this host; None if there is neither."""
        if self._given:
            path = Path(self._given)
            return VerifierKey.parse(path.read_text("utf-8") if path.exists() else self._given)
        return self.signing_key().verifier if (self.folder.path / KEY).exists() else None

    def signing_key(self) -> SigningKey:
        """Return this host's key. Raises `Trouble` if there is none: a command must not make one."""
        if not (self.folder.path / KEY).exists():
            raise Trouble(f"there is no key in {self.folder.path}", hint="run this as the user of the daemon")
        return self.folder.key()

    def own_log(self, database: databases.Database) -> LogReader:
        """Return the log of the key. Raises `RecordError` if it is not in the database."""
        key = self.verifier()
        for log in logs_of(database):
            if key is None or log.vkey == key:
                return log
        raise RecordError(f"{databases.shown(self.url)} has no log of this key")


def verify(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Verify all logs of the record."""
    database = source.database()
    key, code = source.verifier(), 0
    if not logs_of(database):
        raise RecordError("the record has no log")
    if key is not None and all(log.vkey != key for log in logs_of(database)):
        raise RecordError(f"the record has no log of the key {key}", hint="it was removed, or the key is another one's")
    for log in logs_of(database):
        mine = log.vkey == key
        kept = _checkpoints(options.checkpoints, log.vkey)
        if mine and (source.folder.path / CHECKPOINT).exists():
            kept += _checkpoints([source.folder.path / CHECKPOINT], log.vkey)
        found = audit(log, kept)
        problems = found.problems + [text for path in options.export for text in _export_problems(path, log)]
        console.say(f"log      {log.vkey.name}")
        trust = "as stored: not proven to be the right one"
        if mine:
            trust = "as given" if options.key else "of this host"
        console.say(f"key      {log.hash}, {trust}")
        console.say(f"records  {found.size}, of which {found.pruned} pruned")
        console.say(f"root     {found.root.hex()}")
        console.say(f"checked  against {found.checkpoints} checkpoints kept elsewhere")
        for text in problems:
            console.say(f"{console.coloured('FAILED', 'bad')}   {shown(text)}")
        if problems:
            code = 1
        else:
            console.say(f"{console.coloured('ok', 'good')}       nothing was changed")
    return code


def listing(options: argparse.Namespace, console: Console, source: Source) -> int:
    """List the newest entries that match."""
    rows: list[list[str]] = []
    for found in queries.find(
        source.database(), _filters(options), since=options.since, until=options.until, newest_first=True
    ):
        if len(rows) >= options.limit:
            break
        values = found.values() if found.data is not None else {"outcome": "(pruned)"}
        rows.append(
            [
                found.id,
                *(shown(str(values.get(name, ""))) for name in ("time", "outcome", "caller", "machine", "reason")),
            ]
        )
    console.table(("RECORD", "TIME", "OUTCOME", "CALLER", "MACHINE", "REASON"), rows)
    return 0


def show(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Show one entry."""
    _show(queries.find_id(source.database(), options.id), console)
    return 0


def export(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Write entries as lines of JSON."""
    for found in queries.find(source.database(), _filters(options), since=options.since, until=options.until):
        console.say(_line(found))
    return 0


def who(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Show the entries of the CSF blobs in a file, or for AHAB of the whole file. The exit code is 1 without one."""
    try:
        if options.image.stat().st_size > _LARGEST:
            raise Trouble(f"{options.image} is too large")
        data = options.image.read_bytes()
    except OSError as error:
        raise Trouble(f"{options.image} cannot be read: {error.strerror}") from None
    database, blobs, known = source.database(), 0, 0
    for offset, digests in _blobs_in(data):
        blobs += 1
        entries = [one for digest in digests for one in queries.find(database, {"blob": digest})]
        console.say(f"CSF blob at {offset:#x}: {'not in the record' if not entries else ''}".rstrip(" :"))
        known += bool(entries)
        for one in entries:
            _show(one, console)
    if not blobs and (entries := list(queries.find(database, {"blob": sha256(data).hexdigest()}))):
        console.say("The whole file:")
        blobs = known = 1
        for one in entries:
            _show(one, console)
    if not blobs:
        raise Trouble(
            f"{options.image} has no CSF blob, and is no file that was signed for AHAB as it is", hint="is it signed?"
        )
    return 0 if known == blobs else 1


def prove(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Write an inclusion or a consistency proof."""
    database = source.database()
    if options.grown_from is not None:
        log = source.own_log(database)
        old = open_checkpoint(_text_of(options.grown_from), log.vkey)
        size = log.size()
        if not 0 < old.size <= size:
            raise ProofError(f"the record has {size} entries, the checkpoint {old.size}")
        text = consistency_text(old, consistency_proof(log.subtree, old.size, size), log.checkpoint(size))
    elif options.id is not None:
        found = queries.find_id(database, options.id)
        size = found.log.size()
        path = inclusion_proof(found.log.subtree, found.position, size)
        text = inclusion_text(found.position, path, found.log.checkpoint(size))
        if options.entry is not None:
            if found.data is None:
                raise RecordError(f"{found.id} was pruned: its content is in an export")
            options.entry.write_bytes(found.data)
    else:
        raise Trouble("name an entry, or --grown-from", code=2)
    options.out.write_text(text, "utf-8")
    console.tell(f"written: {options.out}")
    return 0


def check_proof(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Check a proof offline."""
    key = source.verifier()
    if key is None:
        raise Trouble("no key to check with", hint="give --key", code=2)
    proof = _text_of(options.proof)
    if options.entry is not None:
        position, checkpoint = check_inclusion_text(proof, options.entry.read_bytes(), key)
        console.say(f"record {position} is in the tree of {checkpoint.size} that {key.name} has signed")
    elif options.grown_from is not None:
        old = open_checkpoint(_text_of(options.grown_from), key)
        checkpoint = check_consistency_text(proof, old, key)
        console.say(f"the tree of {checkpoint.size} begins with that of {old.size}: the record has only grown")
    else:
        raise Trouble("give --entry or --grown-from", code=2)
    return 0


def prune_command(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Export entries older than a time, and remove their contents."""
    log = Log(source.database(read_only=False), source.signing_key())
    log.check(source.folder.last(source.signing_key()))
    problems = audit(log).problems
    if problems:
        raise RecordError(f"the record does not verify, and is not pruned: {problems[0]}")
    old = [one for one in queries.find(log.database, {}, until=options.before) if one.log.number == log.number]
    old = [one for one in old if one.data is not None and one.values()["outcome"] != "pruned"]
    if not old:
        console.say("nothing is that old")
        return 0
    text = "".join(_line(one) + "\n" for one in old).encode()
    try:
        with options.export.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Trouble(f"{options.export} cannot be written, nothing is pruned: {error.strerror}") from None
    position = queries.prune(log, old[0].position, old[-1].position, sha256(text).hexdigest())
    console.say(f"{len(old)} entries are in {options.export} and pruned; entry {log.record_id(position)} says so")
    return 0


def backup_command(options: argparse.Namespace, console: Console, source: Source) -> int:
    """Copy an SQLite database."""
    queries.backup(source.database(), options.target)
    console.say(
        f"{options.target} is a copy; verify it with: digsigd record verify --url sqlite://{options.target.absolute()}"
    )
    return 0


def key(_: argparse.Namespace, console: Console, source: Source) -> int:
    """Print the verifier key."""
    console.say(str(source.signing_key().verifier))
    return 0


def _filters(options: argparse.Namespace) -> dict[str, str]:
    return {name: value for name in queries.FILTERS if (value := getattr(options, name))}


def _line(found: queries.Found) -> str:
    """Return an entry as a line of JSON: `entry` is its content as the exact text of its leaf."""
    text = found.data.decode() if found.data is not None else None
    return json.dumps({"record": found.id, "leaf": found.leaf.hex(), "entry": text}, ensure_ascii=False)


def _show(found: queries.Found, console: Console) -> None:
    values: dict[str, Any] = {"record": found.id, **found.values()}
    for line in json.dumps(values, indent=2, ensure_ascii=False).splitlines():
        console.say(shown(line))


def _checkpoints(paths: list[Path], vkey: VerifierKey) -> list[Checkpoint]:
    """Return the checkpoints of one log in files that have one after the other. Raises `ProofError` for a false one."""
    found = []
    for path in paths:
        text = _text_of(path)
        for note in re.findall(r"[^\n]+\n\d+\n[^\n]+\n(?:[^\n]+\n)*\n(?:— [^\n]+\n)+", text):
            if note.partition("\n")[0] == vkey.name:
                found.append(open_checkpoint(note, vkey))
    return found


def _export_problems(path: Path, log: LogReader) -> list[str]:
    problems = []
    for number, line in enumerate(_text_of(path).splitlines(), 1):
        one = json.loads(line)
        record = str(one["record"])
        if not record.startswith(log.hash + ".") or one["entry"] is None:
            continue
        position = int(record.partition(".")[2])
        if log.subtree(0, position) != leaf_hash(one["entry"].encode()):
            problems.append(f"{path}:{number}: record {position} was changed in the export")
    return problems


def _blobs_in(data: bytes) -> list[tuple[int, list[str]]]:
    """Return the offset of each CSF blob in a file, and the digests that its blob may have had: with its padding."""
    found: list[tuple[int, list[str]]] = []
    for match in re.finditer(rb"\xd4..[\x40-\x4f]", data, re.DOTALL):
        begin = match.start()
        if begin % 4:
            continue
        try:
            length = hab.blob_length(data[begin : begin + (1 << 20)])
            hab.CsfBlob.parse(data[begin : begin + length])
        except hab.HabError:
            continue
        ends = range(begin + length, min(begin + length + 4, len(data) + 1))
        found.append((begin, [sha256(data[begin:end]).hexdigest() for end in ends]))
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{path} cannot be read: {error}") from None
