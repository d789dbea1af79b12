"""What the page for people looks up: machines by name or expiry, and entries of the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from digsigd.page.values import Entries, Entry, Machine, Machines
from digsigd.record import lookup
from digsigd.record.errors import RecordError
from digsigd.signing.machine_list import MachineList
from digsigd.signing.threads import InThread

# Machines on a page, and entries in a list. Of each log, so many of the last entries are looked at.
ROWS, _ENTRIES, _LOOKED_AT = 25, 50, 1000
# Machines with a fuse value that are named.
_NAMED = 20
_LAST = datetime.max.replace(tzinfo=UTC)

Allowed = Callable[[str], bool]


def machine_of(name: str, machines: MachineList) -> Machine:
    """Return a machine with what is known of its keys."""
    known = machines.known(name)
    if known is None:
        return Machine(name)
    return Machine(
        name,
        is_known=True,
        fuse_values=known.fuse_values,
        kinds=known.kinds,
        expires=known.expires,
        certificate=known.certificate,
        problem=known.problem,
    )


def selected(machines: MachineList, names: Sequence[str], text: str, order: str, page: int) -> Machines:
    """Return a page of the machines whose names contain `text`. It takes milliseconds for thousands of machines."""
    wanted = text.lower()
    found = [name for name in names if wanted in name.lower()] if wanted else list(names)
    if order == "expiry":
        found.sort(key=lambda name: (_end_of(name, machines), name))
    pages = max(1, -(-len(found) // ROWS))
    page = min(max(page, 1), pages)
    return Machines(
        [machine_of(name, machines) for name in found[(page - 1) * ROWS : page * ROWS]],
        total=len(found),
        known=sum(1 for name in found if machines.known(name) is not None),
        page=page,
        pages=pages,
        text=text,
        order=order,
        is_complete=machines.is_complete,
    )


def known_of(found: Machines, machines: MachineList) -> Machines:
    """Return the same page with what is known by now."""
    return replace(found, rows=[machine_of(one.name, machines) for one in found.rows])


def soonest(machines: MachineList, names: Sequence[str], count: int) -> list[Machine]:
    """Return the machines whose certificates end next, of those that are known."""
    known = [(end, name) for name in names if (end := _end_of(name, machines)) is not _LAST]
    return [machine_of(name, machines) for _, name in sorted(known)[:count]]


def with_fuse_value(machines: MachineList, names: Sequence[str], fuse_values: Sequence[str]) -> list[str]:
    """Return the machines that are known to have one of these fuse values, in hexadecimal."""
    wanted = set(fuse_values)
    found = [name for name in names if (known := machines.known(name)) and not wanted.isdisjoint(known.fuse_values)]
    return found[:_NAMED]


def _end_of(name: str, machines: MachineList) -> datetime:
    known = machines.known(name)
    return known.expires if known is not None and known.expires is not None else _LAST


class RecordView:
    """The record, for people. `url` None means that there is no database to look at, and `why` says so.

    One look at a time: a database that has stalled holds one thread.
    """

    log = Logger()

    def __init__(self, url: str | None, *, why: str = "", in_thread: InThread) -> None:
        self.url = url
        self._why = why
        self._in_thread = in_thread
        self._one = DeferredLock()

    @property
    def nothing(self) -> Entries:
        """No entries."""
        return Entries(trouble=self._why)

    async def newest(self, allowed: Allowed, most: int = _ENTRIES) -> Entries:
        """Return the newest entries about machines that are `allowed`. Raises nothing."""
        return await self._entries(lambda url: lookup.newest(url, allowed, shown_at_most=most, looked_at=_LOOKED_AT))

    async def about(self, sums: Sequence[str], allowed: Allowed) -> Entries:
        """Return the entries about files, by their SHA-256. Raises nothing."""
        return await self._entries(lambda url: lookup.by_sha256s(url, list(sums), allowed, most=_ENTRIES)[:_ENTRIES])

    async def entry(self, record: str, allowed: Allowed) -> Entry | None:
        """Return one entry; None if there is none that is allowed, or the record cannot be read."""

        def one(url: str) -> list[lookup.Decision]:
            found = lookup.by_record(url, record, allowed)
            return [] if found is None else [found]

        found = await self._entries(one)
        return found.rows[0] if found.rows else None

    async def _entries(self, look: Callable[[str], list[lookup.Decision]]) -> Entries:
        if self.url is None:
            return self.nothing
        url = self.url
        try:
            async with self._one:
                found = await self._in_thread(look, url)
        except RecordError as error:
            self.log.warn("the page cannot read the record: {why}", why=str(error), event="record")
            return Entries(trouble="The record cannot be read now: see the host's log.")
        return Entries([Entry(one.record, one.values) for one in found])
