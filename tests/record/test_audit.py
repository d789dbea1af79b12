"""Whatever is done to a record, `digsigd record verify` finds it and names the entry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from digsigd.admin.main import main
from digsigd.record.audit import audit
from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.entry import Entry
from digsigd.record.errors import RecordError
from digsigd.record.keyfile import StateFolder
from digsigd.record.log import Log, Pending, logs_of
from digsigd.record.merkle import Frontier, leaf_hash
from tests.record.logs import add, edit, new_log

SIZE = 20


def verified(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = main(["record", "verify", "--folder", str(folder), *more])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE entry SET data = replace(data, 'team', 'mate') WHERE position = 7"], "record 7 "),
        (["UPDATE entry SET caller = 'mate' WHERE position = 7"], "record 7 "),
        (["UPDATE entry SET data = NULL WHERE position = 7"], "record 7 "),
        (["UPDATE entry SET signature = zeroblob(64) WHERE position = 19"], "record 19 "),
        (["UPDATE entry SET signature = zeroblob(64) WHERE position = 7"], "signature of record 7 "),
        (["DELETE FROM entry WHERE position = 7"], "record 7 "),
        (["DELETE FROM entry WHERE position IN (3, 7)"], "record 7 "),
        (["DELETE FROM entry WHERE position = 3", "UPDATE entry SET caller = 'mate' WHERE position = 7"], "record 7 "),
        (["DELETE FROM entry WHERE position = 3 OR position > 17"], "records 18 to 19 "),
        (["DELETE FROM entry WHERE position >= 17"], "records 17 to 19 "),
        (["DELETE FROM entry"], "records 0 to 19 "),
        (["UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND position = 3"], "records 6 to 7 "),
        (["DELETE FROM node WHERE level = 2 AND position = 1"], "records 4 to 7 "),
        (
            [
                "UPDATE entry SET position = -1 WHERE position = 7",
                "UPDATE entry SET position = 7 WHERE position = 8",
                "UPDATE entry SET position = 8 WHERE position = -1",
            ],
            "record 7 ",
        ),
        (["UPDATE log SET size = 21"], "record 20 "),
        (["UPDATE log SET root = zeroblob(32)"], "the log says"),
    ],
    ids=str,
)
def test_tampering_is_found_and_named(
    statements: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of any column, a removed, moved or emptied entry, changed nodes and heads."""
    new_log(tmp_path, SIZE)
    assert verified(tmp_path, capsys)[0] == 0
    edit(tmp_path, *statements)
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert named in said


def forge(log: Log, contents: list[bytes]) -> None:
    """Write the log anew with other contents, as somebody without the key would: all but the signatures is right."""
    database = log.database
    signatures = [bytes(row[0]) for row in database.all("SELECT signature FROM entry ORDER BY position")]
    database.execute("DELETE FROM entry")
    database.execute("DELETE FROM node")
    frontier = Frontier()
    for position, data in enumerate(contents):
        values = json.loads(data)
        for level, index, node in frontier.append(leaf_hash(data)):
            database.execute("INSERT INTO node VALUES (1, ?, ?, ?)", (level, index, node))
        database.execute(
            "INSERT INTO entry VALUES (1, ?, ?, ?, ?, ?, 'signed', 'team', '', '', '', ?, '', ?)",
            (position, leaf_hash(data), signatures[min(position, SIZE - 1)], values["id"], values["time"],
             "ab" * 32, data),
        )  # fmt: skip
    database.execute("UPDATE log SET size = ?, root = ?", (frontier.size, frontier.root()))


@pytest.mark.parametrize("how", ["changed", "removed", "inserted", "reordered"])
def test_a_record_that_was_rewritten_whole_is_found_by_its_signatures(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even with every hash computed again; the first entry that differs is named."""
    log = new_log(tmp_path, SIZE)
    contents = [bytes(row[0]) for row in log.database.all("SELECT data FROM entry ORDER BY position")]
    match how:
        case "changed":
            contents[7] = contents[7].replace(b'"number":', b'"number":9')
        case "removed":
            del contents[7]
        case "inserted":
            contents.insert(7, Entry.new({"outcome": "signed", "caller": "team", "blob": {"sha256": "ab" * 32}}).data())
        case "reordered":
            contents[7], contents[8] = contents[8], contents[7]
    forge(log, contents)
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert "record 7 is not what the host signed" in said


def test_an_entry_that_somebody_put_at_the_end_is_neither_continued_nor_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The host's next signature would cover it."""
    log = new_log(tmp_path, SIZE)
    contents = [bytes(row[0]) for row in log.database.all("SELECT data FROM entry ORDER BY position")]
    forge(log, [*contents, Entry.new({"outcome": "signed", "caller": "team", "blob": {"sha256": "ab" * 32}}).data()])
    state = StateFolder(tmp_path)
    for one in (log, Log(log.database, state.key())):
        one.check(state.last(state.key()))
        with pytest.raises(RecordError, match="ends with an entry, 20, that this host's key has not signed"):
            one.append([Pending(Entry.new({"outcome": "signed"}))])
    assert log.size() == SIZE + 1
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert "record 20 is not what the host signed" in said


def test_a_removed_end_is_found_by_the_last_checkpoint_and_by_those_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where the rest is as it was at that time: nothing in the database could show it."""
    state = StateFolder(tmp_path)
    log = new_log(tmp_path, 15)
    head = log.database.first("SELECT size, root FROM log")
    nodes = log.database.all("SELECT level, position FROM node")
    add(log, state, 5)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text((tmp_path / "checkpoint").read_text())
    log.database.execute("DELETE FROM entry WHERE position >= 15")
    for row in log.database.all("SELECT level, position FROM node"):
        if row not in nodes:
            log.database.execute("DELETE FROM node WHERE level = ? AND position = ?", row)
    log.database.execute("UPDATE log SET size = ?, root = ?", head)
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert "records 15 to 19 " in said
    (tmp_path / "checkpoint").unlink()
    assert verified(tmp_path, capsys)[0] == 0
    code, said = verified(tmp_path, capsys, "--checkpoints", str(elsewhere))
    assert code == 1
    assert "records 15 to 19 " in said


def test_a_damaged_page_is_said_and_the_rest_is_still_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verification ends with what cannot be read or has changed, not with a traceback."""
    log = new_log(tmp_path, 200)
    log.database.close()
    edit(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "record.sqlite"
    data = bytearray(path.read_bytes())
    place = data.rfind(b'"caller":"team"', 0, len(data) // 2)
    page = place // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert "cannot be read" in said
    assert "records " in said.split("FAILED", 1)[1]


def test_a_growing_record_keeps_its_proofs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an entry and of growth: written by one command, checked by another without the database."""
    state = StateFolder(tmp_path)
    log = new_log(tmp_path, 9)
    (tmp_path / "old").write_text(log.checkpoint(6))
    add(log, state, 4)
    where = ["--folder", str(tmp_path)]
    proof, entry = str(tmp_path / "proof"), str(tmp_path / "entry")
    assert main(["record", "prove", log.record_id(5), "--out", proof, "--entry", entry, *where]) == 0
    assert main(["record", "prove", "--grown-from", str(tmp_path / "old"), "--out", proof + "2", *where]) == 0
    (tmp_path / "record.sqlite").unlink()
    key = ["--key", str(log.vkey), "--folder", str(tmp_path / "none")]
    assert main(["record", "check-proof", proof, "--entry", entry, *key]) == 0
    assert main(["record", "check-proof", proof + "2", "--grown-from", str(tmp_path / "old"), *key]) == 0
    Path(entry).write_bytes(b"{}")
    assert main(["record", "check-proof", proof, "--entry", entry, *key]) == 1


def test_pruning_keeps_the_rest_and_the_export_provable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is pruned is in the export, whose changes are found; more than was pruned must not be missing."""
    state = StateFolder(tmp_path)
    log = new_log(tmp_path, 6)
    middle = log.database.first("SELECT time FROM entry WHERE position = 4")[0]
    log.database.execute("UPDATE entry SET time = '2020' WHERE position < 3")
    assert (
        main(["record", "prune", "--before", "2021", "--export", str(tmp_path / "x"), "--folder", str(tmp_path)]) == 1
    )
    log.database.execute("UPDATE entry SET time = ? WHERE position < 3", (middle,))
    capsys.readouterr()
    real = [row[0] for row in log.database.all("SELECT data FROM entry")]
    for position, data in enumerate(real):
        log.database.execute("UPDATE entry SET time = ? WHERE position = ?", (json.loads(data)["time"], position))
    export = tmp_path / "export"
    until = "9999"
    assert main(["record", "prune", "--before", until, "--export", str(export), "--folder", str(tmp_path)]) == 0
    assert len(export.read_text().splitlines()) == 6
    code, said = verified(tmp_path, capsys, "--export", str(export))
    assert code == 0, said
    assert "6 pruned" in said
    add(log, state, 3)
    assert verified(tmp_path, capsys)[0] == 0
    export.write_text(export.read_text().replace("team", "mate", 1))
    code, said = verified(tmp_path, capsys, "--export", str(export))
    assert code == 1
    assert "record 0 was changed in the export" in said
    edit(tmp_path, "UPDATE entry SET data = NULL WHERE position = 8")
    assert "record 8 has lost its content" in verified(tmp_path, capsys)[1]


def test_a_backup_of_a_record_in_use_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And an old one that is put back is found, and not continued."""
    state = StateFolder(tmp_path)
    log = new_log(tmp_path, 5)
    assert main(["record", "backup", str(tmp_path / "copy"), "--folder", str(tmp_path)]) == 0
    key = str(log.vkey)
    assert verified(tmp_path / "none", capsys, "--url", f"sqlite://{tmp_path}/copy", "--key", key)[0] == 0
    assert log.vkey == logs_of(log.database)[0].vkey
    add(log, state, 2)
    last = state.last(state.key())
    assert last is not None
    assert last.size == 7
    log.database.close()
    (tmp_path / "copy").rename(tmp_path / "record.sqlite")
    code, said = verified(tmp_path, capsys)
    assert code == 1
    assert "records 5 to 6 " in said


def test_audit_of_a_good_log_says_what_it_compared(tmp_path: Path) -> None:
    """Size, root and the number of checkpoints."""
    log = new_log(tmp_path, 10)
    old: Checkpoint = open_checkpoint(log.checkpoint(4), log.vkey)
    found = audit(log, [old])
    assert (found.size, found.checkpoints, found.problems) == (10, 1, [])
    log.append([Pending(Entry.new({"outcome": "signed"}))])
    assert audit(log, [old]).size == 11
