"""What the page shows, as values. Texts in them can be foreign: clients, key tarballs and records are the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Cst:
    """A version of cst and its self-test: `passed` None means that there is no result yet."""

    version: str
    passed: bool | None
    why: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Work:
    """A request under way: `stage` is what is done for it, `seconds` how long it has been there."""

    request_id: str
    stage: str
    machine: str
    caller: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and the public facts of its keys. `is_known` is false as long as nothing was read."""

    name: str
    is_known: bool = False
    fuse_values: Sequence[str] = ()
    kinds: Sequence[str] = ()
    expires: datetime | None = None
    certificate: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Machines:
    """Some of the machines that a caller may see: those of one view.

    `total` is the number of those that match the filter `text`, `known` how many of them are known. `page`, from 1, is
    one of `pages`. `order` is "name" or "expiry". `is_complete` says that the key store can be listed. `trouble` says
    why there is no list.
    """

    rows: Sequence[Machine]
    total: int = 0
    known: int = 0
    page: int = 1
    pages: int = 1
    text: str = ""
    order: str = "name"
    is_complete: bool = True
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the record."""

    record: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of the record, the newest first. `trouble` says why there are none."""

    rows: Sequence[Entry] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """The state of this host. `missing` is what is missing before requests can be signed."""

    version: str
    missing: Sequence[str]
    workers: int
    running: int
    slots: int
    waiting: int
    cst: Sequence[Cst] = ()
    work: Sequence[Work] = ()
    machines: int | None = None
    recorded: bool = True
    expiring: Sequence[Machine] = field(default=())
