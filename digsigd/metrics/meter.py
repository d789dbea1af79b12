"""What a process counts of its requests: a few additions for each."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping

from digsigd.metrics.catalogue import BUCKETS, OTHER, OUTCOMES, TOKEN_STATES
from digsigd.metrics.cells import HISTOGRAMS, MOST_MACHINES, Cells

_OUTCOME = {name: number for number, name in enumerate(OUTCOMES)}
_HISTOGRAM = {name: number for number, name in enumerate(HISTOGRAMS)}
_SIGNED = OUTCOMES[0]


class Meter:
    """The counts of one process in `cells`."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells

    def request(
        self,
        outcome: str,
        machine: str,
        seconds: Mapping[str, float],
        *,
        received: int = 0,
        sent: int = 0,
        token_expires: float = 0.0,
    ) -> None:
        """Count a request that is over. `seconds` are those of its stages, and of the "total".

        `outcome` is one of `OUTCOMES`; anything else counts as "other". A machine gets its label when it has signed.
        The times of whole requests are those of signed ones. `received` and `sent` are the bytes of body and answer.
        `token_expires` is when the first certificate from a token in a signature ends, as Unix time; 0 without one.
        """
        cells = self.cells
        number = cells.machine(machine)
        if number == MOST_MACHINES and outcome == _SIGNED:
            cells.label((machine,))
            number = cells.machine(machine)
        cells.count_request(number, _OUTCOME.get(outcome, _OUTCOME[OTHER]))
        for stage, value in seconds.items():
            histogram = _HISTOGRAM.get(stage)
            if histogram is not None and (stage != "total" or outcome == _SIGNED):
                cells.observe(histogram, bisect_left(BUCKETS, value), value)
        if received:
            cells.add("received_bytes", received)
        if sent:
            cells.add("blob_bytes", sent)
        if token_expires and outcome == _SIGNED:
            cells.token_certificates(machine, token_expires, time.time())

    def token(self, number: int, *, proven: bool, failed: bool) -> None:
        """Note what is known of a token's PIN. `number` is its place in the layout."""
        self.cells.set_token(number, TOKEN_STATES.index("failed" if failed else "ready" if proven else "untried"))
