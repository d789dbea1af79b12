"""What a worker inherits from its supervisor: descriptors, settings, and its number."""

from __future__ import annotations

import os
from dataclasses import dataclass

from digsigd.settings import Settings
from digsigd.workers.wire import settings_from_text

# The variable in which a worker finds its number, and how many there are.
VARIABLE = "DIGSIGD_WORKER"
# The descriptors of a worker, besides 0, 1 and 2.
CHANNEL, BOARD, SETTINGS, PORT, METRICS = 3, 4, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Inherited:
    """The number of this worker, from 1, how many there are, how many reloads there were, and the settings in force."""

    number: int
    count: int
    generation: int
    settings: Settings


def inherited() -> Inherited | None:
    """Return what this process has inherited, once; None if it is not a worker. Raises `OSError`."""
    words = os.environ.pop(VARIABLE, None)
    if words is None:
        return None
    number, count, generation = map(int, words.split())
    for descriptor in (CHANNEL, BOARD, SETTINGS, PORT, METRICS):
        os.set_inheritable(descriptor, False)
    with os.fdopen(SETTINGS, "rb") as file:
        return Inherited(number, count, generation, settings_from_text(file.read()))
