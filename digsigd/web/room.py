"""Room of the work directory, reserved for each upload before its body is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import nlargest
from pathlib import Path

from digsigd.errors import NoSpace
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
        self.stored += size
        if self.stored > self.size:
            self._room.grow(self, max(STEP, self.stored - self.size))

    def settle(self) -> None:
        """Keep only what has arrived: the body has ended."""
        self.size = self.stored

    def release(self) -> None:
        """Give everything back. Further calls do nothing."""
        self._room.release(self)


class Room:
    """The room of the work directory's file system, and who holds how much of it.

    What is free is asked anew for each upload, because others use the file system too. Of it, `keep_free` bytes are
    left alone, what other uploads have reserved and not stored yet, and room for cst: a run writes a copy of what it
    signs, and `max_running` run at once. A party may hold `share`, from 0 to 1, of what is free and what all uploads
    have stored, unless `shares` does not limit it. `folder` returns the work directory.
    """

    def __init__(
        self, *, folder: Callable[[], Path], keep_free: int, max_running: int, share: float, shares: Shares
    ) -> None:
        self._folder = folder
        self._keep_free = keep_free
        self._max_running = max_running
        self._share = share
        self._shares = shares
        self._held: set[Reservation] = set()

    @property
    def reserved(self) -> int:
        """The number of bytes that are reserved, and have not been stored yet."""
        return sum(max(0, one.size - one.stored) for one in self._held)

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
        sizes = [one.size for one in self._held if one is not reservation] + [reservation.size + size]
        copies = sum(nlargest(self._max_running, sizes))
        if free < self.reserved + size + copies + self._keep_free:
            raise NoSpace(
                detail=f"{folder}: {free} bytes are free, {self.reserved} of them reserved, and an upload needs {size}"
                f" and {copies} for copies that cst makes"
            )
        check_space(folder, 0)  # the number of files
        if self._shares.is_limited(reservation.party):
            of_party = sum(one.size for one in self._held if one.party == reservation.party and one is not reservation)
            of_party += reservation.size + size
            if of_party > self._share * (free + sum(one.stored for one in self._held)):
                who = self._shares.words(reservation.party)
                raise NoSpace(detail=f"uploads of {who} would have {of_party} bytes, more than their share")
        reservation.size += size
        self._held.add(reservation)

    def release(self, reservation: Reservation) -> None:
        """Give back what an upload has reserved. Further calls do nothing."""
        self._held.discard(reservation)
