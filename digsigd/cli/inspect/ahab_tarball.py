"""AHAB's part of a key tarball: its SRK tables with their fuse values, and which certificate belongs to which SRK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from digsigd.ahab import SrkArray, SrkTable
    from digsigd.cli.inspect.certificate import Seen

    Tables: TypeAlias = Mapping[str, SrkTable | SrkArray]

_MOST_TABLES = 16


def tables_in(members: Mapping[str, bytes]) -> dict[str, SrkTable | SrkArray]:
    """Return the SRK tables and arrays of AHAB among these files, by name."""
    from digsigd import ahab
    from digsigd.image.ahab_detect import is_srk_table

    found: dict[str, SrkTable | SrkArray] = {}
    for name, data in sorted(members.items()):
        if is_srk_table(data) and len(found) < _MOST_TABLES:
            try:
                found[name] = ahab.parse_table(data)
            except ahab.FormatError:
                continue
    return found


def kind_of(table: SrkTable | SrkArray) -> str:
    """Return what a table is called."""
    from digsigd.ahab import SrkArray

    return f"SRK table of AHAB, version {2 if isinstance(table, SrkArray) else 1}"


def fuse_values(tables: Tables) -> Iterator[tuple[str, str, str]]:
    """Yield (name, kind, fuse value in hexadecimal) of each table, and of each hash that chips have of it."""
    from digsigd.ahab import SrkArray

    for name, table in tables.items():
        if isinstance(table, SrkArray):
            for number, one in enumerate(table.tables, 1):
                which = f", table {number}" if len(table.tables) > 1 else ""
                yield name, f"{kind_of(table)}{which}, sha512", one.hash("sha512").hex()
        else:
            for hash_name in ("sha256", "sha512"):
                yield name, f"{kind_of(table)}, {hash_name}", table.hash(hash_name).hex()


def places(certificates: Mapping[str, Seen], members: Mapping[str, bytes], tables: Tables) -> dict[str, str]:
    """Return the place of each certificate: the SRK of a table that it certifies, or that signed it.

    Certificates that belong to no table are left out.
    """
    srks: dict[str, tuple[int, list[str]]] = {}
    for name in certificates:
        numbers = {table_name: _number(members[name], table) for table_name, table in tables.items()}
        of = [table_name for table_name, number in numbers.items() if number]
        if of:
            srks[name] = (numbers[of[0]] or 0, of)
    found = {name: f"SRK {number}{_which(of, tables)}" for name, (number, of) in srks.items()}
    for name, one in certificates.items():
        if name in srks:
            continue
        signer = next((srk for srk in srks if _signed(one, certificates[srk])), None)
        if signer is not None:
            number, of = srks[signer]
            found[name] = f"signed by SRK {number}{_which(of, tables)}"
    return found


def _which(of: list[str], tables: Tables) -> str:
    """Name the tables, unless it is all of them."""
    return "" if len(of) == len(tables) else f" of {', '.join(of)}"


def _number(certificate: bytes, table: SrkTable | SrkArray) -> int | None:
    """Return the number, from 1, of the SRK that a certificate, DER or PEM, is for."""
    from digsigd import ahab
    from digsigd.ahab.build import write_record, write_record_v2

    tables = table.tables if isinstance(table, ahab.SrkArray) else (table,)
    for one in tables:
        try:
            key = ahab.key_of(certificate, one.records[0].hash_name)
        except ahab.AhabError:
            return None
        for number, record in enumerate(one.records):
            made = write_record_v2(key, number) if isinstance(table, ahab.SrkArray) else write_record(key)
            if made == record.raw:
                return number + 1
    return None


def _signed(one: Seen, by: Seen) -> bool:
    """Return whether a certificate signed another one, as far as a strict parser reads both."""
    from cryptography.exceptions import InvalidSignature

    if one.strict is None or by.strict is None:
        return False
    try:
        one.strict.verify_directly_issued_by(by.strict)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
