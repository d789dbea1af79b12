"""What one caller may take of the host: uploads at once, and requests per minute."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from digsigd.errors import Busy, RateLimited
from digsigd.signing.host import Counts, OwnCounts

_MINUTE = 60.0


def is_on_this_host(address: str) -> bool:
    """Return whether clients of this address are on this host, where many can have the same."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True  # a Unix socket


def is_limited(party: str, callers: int) -> bool:
    """Return whether a party may have only its share, on a host with so many callers."""
    return callers > 1 if callers else not is_on_this_host(party)


class Shares:
    """Counts what each party uses: a caller, or an address where callers are anonymous.

    A party may have `share`, from 0 to 1, of `max_at_once` uploads; `room.py` shares the work directory. Nothing is
    limited for a host's only caller, nor for anonymous clients of this host, whom nothing tells apart. `rates` are
    requests per minute of each caller (None: `rate`), and empty if callers are anonymous. `rate` is that of all others
    (None: no limit), also at most that many at once.
    """

    def __init__(
        self,
        *,
        share: float,
        max_at_once: int,
        rates: Mapping[str, float | None],
        rate: float | None,
        clock: IReactorTime,
        counts: Counts | None = None,
    ) -> None:
        self._uploads = max(1, math.ceil(share * max_at_once))
        self._rates = rates
        self._rate = rate
        self._clock = clock
        self._counts = OwnCounts() if counts is None else counts

    def reload(self, rates: Mapping[str, float | None]) -> None:
        """Replace the callers and their rates, for requests that begin from now on."""
        self._rates = rates

    def party(self, caller: str, address: str) -> str:
        """Return who a request counts for: its caller, or its address if callers are anonymous."""
        return caller if self._rates else address

    def is_limited(self, party: str) -> bool:
        """Return whether a party may have only its share."""
        return is_limited(party, len(self._rates))

    def ask(self, party: str) -> None:
        """Count a request that is not an upload. Raises `RateLimited` without counting it."""
        self._check_rate(party)

    def enter(self, party: str) -> None:
        """Count an upload. Raises `RateLimited` or `Busy` without counting it."""
        self._check_rate(party)
        # Counted first: other processes may do the same at this moment.
        self._counts.add(party, 1, 0)
        if self.is_limited(party) and self._counts.uploads(party) > self._uploads:
            self._counts.add(party, -1, 0)
            raise Busy(f"too many requests of {self.words(party)} on this signing host")

    def leave(self, party: str) -> None:
        """Stop counting an upload."""
        self._counts.add(party, -1, 0)

    def words(self, party: str) -> str:
        """Return how to call a party in a text."""
        return f"caller {party!r}" if self._rates else f"address {party or 'a local socket'}"

    def active(self, here: int) -> int:
        """Note how many requests are active in this process, and return how many are on the host."""
        return self._counts.active(here)

    def _check_rate(self, party: str) -> None:
        own = self._rates.get(party)
        rate = self._rate if own is None else own
        if rate is None:
            return
        most = max(1.0, rate)
        with self._counts.changing_rate():
            now = self._clock.seconds()
            left, since = self._counts.rate(party) or (most, now)
            left = min(most, left + (now - since) * rate / _MINUTE)
            if left >= 1:
                self._counts.keep_rate(party, left - 1, now)
                return
        wait = math.ceil((1 - left) * _MINUTE / rate)
        raise RateLimited(f"{self.words(party)} may send {rate:g} requests per minute", retry_after=wait)
