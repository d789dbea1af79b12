"""Checkpoints: what a tree is at one moment, as in C2SP's tlog-checkpoint. Pure.

https://c2sp.org/tlog-checkpoint: a signed note whose text is the log's origin, its size, and its root in base64.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass

from digsigd.record.errors import ProofError
from digsigd.record.note import VerifierKey, open_note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The size and the root of the log `origin`."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a checkpoint, ignoring extension lines. Raises `ProofError` if it is malformed."""
        lines = text.splitlines()
        try:
            origin, size, root = lines[0], lines[1], b64decode(lines[2], validate=True)
            if not origin or not size.isdecimal() or not size.isascii() or str(int(size)) != size or len(root) != 32:
                raise ValueError
        except (IndexError, ValueError):
            raise ProofError("it is not a checkpoint: the lines origin, size and root") from None
        return cls(origin, int(size), root)


def open_checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint in a signed note. The origin must be the key's name.

    Raises `ProofError` if it is malformed, not signed by `key`, or of another log.
    """
    found = Checkpoint.parse(open_note(note, key))
    if found.origin != key.name:
        raise ProofError(f"the checkpoint is of {found.origin}, not of {key.name}")
    return found
