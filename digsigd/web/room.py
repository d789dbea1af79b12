"""Room of the work directory, reserved for each upload before its body is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import nlargest
from pathlib import Path

from digsigd.errors import NoSpace
from digsigd.signing.host import Counts, OwnCounts
from digsigd.signing.workdir import check_space, failed
from digsigd.web.shares import Shares

# What is reserved at a time for a body whose length is not known, in bytes.
STEP = 1 << 20


class Reservation:
    """The room of one upload: `size` bytes for its body, of which `stored` have arrived."""

    def __init__(self, room: Room, party: str) -> None:
        self.party = party
        self.size = 0
        self.stored = 0
        self._room = room

    def store(self, size: int) -> None:
        """Count bytes that arrive. Raises `NoSpace` if they are more than reserved, and there is no room for them."""
        before, self.stored = self.stored, self.stored + size
        if before // STEP != self.stored // STEP:
            self._room.note()
        if self.stored > self.size:
            self._room.grow(self, max(STEP, self.stored - self.size))

    def settle(self) -> None:
        """Keep only what has arrived: the body has ended."""
        self._room.settle(self)

    def release(self) -> None:
        """Give everything back. Further calls do nothing."""
        self._room.release(self)


class Room:
    """The room of the work directory's file system, and who holds how much of it.

    What is free is asked anew for each upload, because others use the file system too. Of it, `keep_free` bytes are
    left alone, what other uploads have reserved and not stored yet, and room for cst: a run writes a copy of what it
    signs, and `max_running` run at once (of each process: with several, more is kept than is needed). A party may hold
    `share`, from 0 to 1, of what is free and what all uploads have stored, unless `shares` does not limit it. `folder`
    returns a directory of the file system.
    """

    def __init__(
        self,
        *,
        folder: Callable[[], Path],
        keep_free: int,
        max_running: int,
        share: float,
        shares: Shares,
        counts: Counts | None = None,
    ) -> None:
        self._folder = folder
        self._keep_free = keep_free
        self._max_running = max_running
        self._share = share
        self._shares = shares
        self._counts = OwnCounts() if counts is None else counts
        self._held: set[Reservation] = set()

    @property
    def reserved(self) -> int:
        """The number of bytes that are reserved in this process, and have not been stored yet."""
        return sum(max(0, one.size - one.stored) for one in self._held)

    @property
    def held(self) -> tuple[int, int, int]:
        """What uploads of this process have reserved and stored, and what copies need, in bytes."""
        return self.reserved, sum(one.stored for one in self._held), self._copies()

    def _copies(self) -> int:
        return sum(nlargest(self._max_running, [one.size for one in self._held]))

    def reserve(self, party: str, length: int | None) -> Reservation:
        """Reserve room for a body of `length` bytes; None: for one that is reserved step by step.

        Raises `NoSpace`, and `DigsigError` if the file system cannot be asked.
        """
        reservation = Reservation(self, party)
        self.grow(reservation, STEP if length is None else length)
        return reservation

    def grow(self, reservation: Reservation, size: int) -> None:
        """Reserve `size` bytes more for an upload. Raises as `reserve` does, without reserving anything."""
        folder = self._folder()
        try:
            room = os.statvfs(folder)
        except OSError as error:
            raise failed(error) from error
        free = room.f_bavail * room.f_frsize
        # Noted first: other processes may do the same at this moment.
        self._hold(reservation, size)
        try:
            self._check(reservation, size, free, folder)
        except BaseException:
            self._hold(reservation, -size)
            raise

    def _check(self, reservation: Reservation, size: int, free: int, folder: Path) -> None:
        reserved, stored, copies = self.note()
        if free < reserved + copies + self._keep_free:
            raise NoSpace(
                detail=f"{folder}: {free} bytes are free, {reserved - size} of them reserved, and an upload needs"
                f" {size} and {copies} for copies that cst makes"
            )
        check_space(folder, 0)  # the number of files
        if self._shares.is_limited(reservation.party):
            of_party = self._counts.size(reservation.party)
            if of_party > self._share * (free + stored):
                who = self._shares.words(reservation.party)
                raise NoSpace(detail=f"uploads of {who} would have {of_party} bytes, more than their share")

    def _hold(self, reservation: Reservation, size: int) -> None:
        """Change what an upload has reserved, and note it for all processes."""
        reservation.size += size
        self._counts.add(reservation.party, 0, size)
        if reservation.size > 0:
            self._held.add(reservation)
        else:
            self._held.discard(reservation)
        self.note()

    def settle(self, reservation: Reservation) -> None:
        """Keep only what has arrived."""
        self._hold(reservation, reservation.stored - reservation.size)

    def note(self) -> tuple[int, int, int]:
        """Note what is reserved, stored, and wanted for copies in this process. Return that of this host."""
        return self._counts.room(*self.held)

    def release(self, reservation: Reservation) -> None:
        """Give back what an upload has reserved. Further calls do nothing."""
        self._hold(reservation, -reservation.size)
