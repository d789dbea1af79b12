"""Every chip with HAB4: what its ROM accepts, how to sign for it, and where its fuses are.

`find` accepts the usual names of chips. A value that no second source confirms raises `NotConfirmedError` when used.
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
