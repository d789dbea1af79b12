"""Every chip with HAB4: what its ROM takes, how it is signed for, and where its fuses are.

`find` takes the names that people write. What no second source confirms raises `NotConfirmedError` where it is used.
"""

from digsigd.image.chips.model import (
    AmbiguousChipError,
    Chip,
    ChipError,
    FuseBits,
    FuseWord,
    Hab,
    Loads,
    NotConfirmedError,
    Unconfirmed,
)
from digsigd.image.chips.names import find, find_compatible
from digsigd.image.chips.table import CHIPS

__all__ = [
    "CHIPS",
    "AmbiguousChipError",
    "Chip",
    "ChipError",
    "FuseBits",
    "FuseWord",
    "Hab",
    "Loads",
    "NotConfirmedError",
    "Unconfirmed",
    "find",
    "find_compatible",
]
