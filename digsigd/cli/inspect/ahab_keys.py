"""Describe SRK tables and arrays of AHAB, with the fuse value of each kind of chip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Part, Table
from digsigd.image.ahab_detect import CHIPS, is_srk_table

if TYPE_CHECKING:
    from digsigd.ahab import SrkArray, SrkRecord, SrkTable

_WHICH = "which of the fuse values counts depends on the chip: `digsign fuses --soc` shows it with its words"


def describe_srk_table(data: bytes, title: str = "SRK table") -> Part | None:
    """Return a description of a file with an SRK table or array of AHAB; None if it is not one."""
    from digsigd import ahab

    if not is_srk_table(data):
        return None
    try:
        part = describe_srks(ahab.parse_table(data), title)
    except ahab.FormatError as error:
        part = Part("ahab-srk-table", f"{title} of AHAB, {len(data)} bytes")
        part.damage.append(error.summary())
    return part


def describe_srks(table: SrkTable | SrkArray, title: str, *, of_container: bool = False, nxp: bool = False) -> Part:
    """Return a description of a table or an array: its keys, and the values for the fuses.

    `of_container` says that it is one of a container, of whose keys version 2 has only the one that signs. With `nxp`
    the keys are NXP's, whose values nobody burns: they are not shown.
    """
    from digsigd.ahab import SrkArray

    part = Part("ahab-srk-table", f"{title} of AHAB ({CHIPS}), {len(table.raw)} bytes")
    if nxp:
        tables = table.tables if isinstance(table, SrkArray) else (table,)
        part.tables += [_records(one.records, "SRKs") for one in tables]
        return part
    if isinstance(table, SrkArray):
        part.facts = {"version": 2, "tables": len(table.tables), "fuse_value_sha512": table.hash("sha512").hex()}
        for number, one in enumerate(table.tables, 1):
            which = f" {number}" if len(table.tables) > 1 else ""
            part.tables.append(_records(one.records, f"SRKs{which}"))
        if len(table.tables) > 1:
            second = table.tables[1].hash("sha512").hex()
            part.facts = {**part.facts, "second_fuse_value_sha512": second}
        return part
    part.facts = {
        "version": 1,
        "fuse_value_sha256": table.hash("sha256").hex(),
        "fuse_value_sha512": table.hash("sha512").hex(),
    }
    part.tables.append(_records(table.records, "SRKs"))
    if not of_container:
        part.notes.append(_WHICH)
    keys = [record.crypto for record in table.records]
    if len(set(keys)) < len(keys):
        part.notes.append("two SRKs are the same key: revoking one of them has no effect")
    return part


def _records(records: tuple[SrkRecord, ...], name: str) -> Table:
    rows: list[tuple[Fact, ...]] = [
        (number, algorithm(record), record.is_ca) for number, record in enumerate(records, 1)
    ]
    return Table(name, ("number", "key", "CA flag"), rows)


def algorithm(record: SrkRecord) -> str:
    """Return the kind of a key with the hash of its signatures."""
    return f"{record.name} with {record.hash_name}"
