"""How much the tests do: a little among all other tests, and more in `make soak`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Scale:
    """Numbers of clients, requests, kills and requests of each fuzzer.

    `seconds` is the time of each fault, `kill_seconds` of all kills at most; `ends` (monotonic) is the end of requests.
    """

    name: str
    seed: int
    seconds: float
    clients: int
    curls: int
    good: int
    kills: int
    kill_seconds: float
    stops: int
    described: int
    raw: int
    requests: int
    ends: float

    @classmethod
    def quick(cls, option: Callable[[str], Any]) -> Self:
        return cls(
            name="quick", seed=_seed(option, 1), seconds=0.3, clients=200, curls=100, good=20,
            kills=5, kill_seconds=3600, stops=2, described=500, raw=500, requests=300, ends=_BEGAN + 86_400,
        )  # fmt: skip

    @classmethod
    def soak(cls, option: Callable[[str], Any]) -> Self:
        return cls(
            name="soak", seed=_seed(option, int.from_bytes(os.urandom(4))), seconds=3, clients=1000, curls=1000,
            good=100,
            kills=option("--soak-kills"), kill_seconds=150, stops=10, described=option("--soak-cases") * 3 // 10,
            raw=option("--soak-cases") * 7 // 10,
            requests=option("--soak-requests"), ends=_BEGAN + option("--soak-seconds"),
        )  # fmt: skip

    @property
    def is_soak(self) -> bool:
        return self.name == "soak"


def _seed(option: Callable[[str], Any], otherwise: int) -> int:
    """The seed that was asked for. Without one, `make test` does the same each time, and `make soak` something new."""
    given: int | None = option("--soak-seed")
    return otherwise if given is None else given
