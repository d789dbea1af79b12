"""Find the SRK tables of AHAB in a file: their hashes go into the fuses."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digsigd.cli.fuse_words import NoFuseValueError

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip, SrkArray, SrkRecord, SrkTable

_LARGEST_TABLE = 1 << 16
# srktool -e: the hash of the table alone, SHA-256 or SHA-512.
_FUSE_FILES = {32: "sha256", 64: "sha512"}
_IS_NOT = "it is not an SRK table of AHAB, a fuse file, a key tarball or a signed image"


@dataclass(frozen=True, slots=True)
class FoundTable:
    """What a fuse value is made from: what it is `of`, and the table, or only the value of a fuse file."""

    of: str
    table: SrkTable | SrkArray | None
    value: bytes | None = None

    @property
    def identity(self) -> bytes:
        """What is different for different fuses."""
        return b"".join((*self.values(), self.second or b""))

    @property
    def second(self) -> bytes | None:
        """The fuse value of the second table, a SHA-512 on all chips; None if there is none."""
        from digsigd.ahab import SrkArray

        if not isinstance(self.table, SrkArray) or len(self.table.tables) < 2:
            return None
        return self.table.tables[1].hash("sha512")

    def is_for(self, chip: AhabChip) -> bool:
        """Return whether it is of the version that the chip's containers have; a fuse file is of any."""
        from digsigd.ahab import SrkArray

        return self.table is None or (2 if isinstance(self.table, SrkArray) else 0) in chip.versions

    @property
    def records(self) -> tuple[tuple[SrkRecord, ...], ...]:
        """The four keys of each table; empty if only the value is known."""
        from digsigd.ahab import SrkArray

        if self.table is None:
            return ()
        if isinstance(self.table, SrkArray):
            return tuple(one.records for one in self.table.tables)
        return (self.table.records,)

    def values(self, chip: AhabChip | None = None) -> tuple[bytes, ...]:
        """Return the fuse value for a chip, 32 or 64 bytes, and that of the second table, if there is one.

        Without a chip, both hashes of the first table. Raises `AhabError` for a table that the chip does not use, and
        for values that are not confirmed.
        """
        from digsigd.ahab import AhabError, SrkArray, fuse_value

        if self.table is None:
            value = self.value or b""
            if chip is not None and _FUSE_FILES.get(len(value)) != chip.fuse_hash:
                raise AhabError(
                    f"the fuse file has {len(value)} bytes, a {_FUSE_FILES.get(len(value))} of the table, but the fuses"
                    f" of {chip.title} have a {chip.fuse_hash}",
                    hint=f"make it with srktool -d {chip.fuse_hash}, or pass the SRK table",
                )
            return (value,)
        if chip is None:
            return self.table.hash("sha256"), self.table.hash("sha512")
        count = len(self.table.tables) if isinstance(self.table, SrkArray) else 1
        return tuple(fuse_value(self.table, chip, number) for number in range(count))


def has_ahab_tables(data: mmap.mmap | bytes) -> bool:
    """Return whether a file is AHAB's by what it is: a table, containers, or a tarball with tables of AHAB only."""
    from digsigd.cli.inspect.fuses import is_tarball
    from digsigd.image.ahab_detect import is_ahab, is_srk_table

    if is_srk_table(data[: _LARGEST_TABLE + 1]) or is_ahab(data):
        return True
    if not is_tarball(data):
        return False
    from digsigd.cli.inspect.tarball import tables_in

    members = _members(data)
    return not tables_in(members) and any(is_srk_table(one) for one in members.values())


def ahab_tables(data: mmap.mmap | bytes) -> list[FoundTable]:
    """Return the tables in an SRK table, fuse file, key tarball or signed image. Raises `NoFuseValueError`."""
    from digsigd import ahab
    from digsigd.cli.inspect.fuses import is_tarball
    from digsigd.image.ahab_detect import containers, is_srk_table

    try:
        if is_srk_table(data[: _LARGEST_TABLE + 1]):
            return [FoundTable("SRK table", ahab.parse_table(data[:_LARGEST_TABLE]))]
        found = []
        of_oem = [one for one in containers(data) if one.srk_set == ahab.SrkSet.OEM]
        for one in of_oem:
            block = ahab.parse(data, one.offset).block
            if block is not None and block.srk is not None:
                found.append(FoundTable(f"container at {one.offset:#x}", block.srk))
        if found:
            return found
        if containers(data):
            raise NoFuseValueError("the image has no container that the OEM signed")
        if is_tarball(data):
            return _of_tarball(data)
    except ahab.FormatError as error:
        raise NoFuseValueError(error.summary()) from None
    if len(data) in _FUSE_FILES:
        return [FoundTable("fuse file", None, data[:])]
    raise NoFuseValueError(_IS_NOT)


def _members(data: mmap.mmap | bytes) -> dict[str, bytes]:
    """Return the files of a tarball; none of a damaged one."""
    from digsigd.cli.inspect.tarball import MOST_UNPACKED
    from digsigd.errors import BadTarball
    from digsigd.keys.tarball import read_tarball

    if len(data) > MOST_UNPACKED:
        return {}
    try:
        return dict(read_tarball(data[:], max_bytes=MOST_UNPACKED).members)
    except BadTarball:
        return {}


def _of_tarball(data: mmap.mmap | bytes) -> list[FoundTable]:
    from digsigd import ahab
    from digsigd.image.ahab_detect import is_srk_table

    members = _members(data)
    found = [FoundTable(name, ahab.parse_table(one)) for name, one in sorted(members.items()) if is_srk_table(one)]
    if not found:
        raise NoFuseValueError("the tarball has no SRK table of AHAB that can be read")
    return found
