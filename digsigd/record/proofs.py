"""Proofs as text, to be checked offline: C2SP's tlog-proof for inclusion, the same with `consistency` for growth. Pure.

https://c2sp.org/tlog-proof: the line c2sp.org/tlog-proof@v1, `index N`, the hashes in base64, an empty line, and the
signed checkpoint.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence

from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.errors import ProofError
from digsigd.record.merkle import check_consistency, check_inclusion, leaf_hash
from digsigd.record.note import VerifierKey

_INCLUSION = "c2sp.org/tlog-proof@v1"
_CONSISTENCY = "digsigd consistency proof v1"


def inclusion_text(index: int, path: Sequence[bytes], note: str) -> str:
    """Return the proof that the leaf `index` is in the tree of a signed checkpoint."""
    return _text(_INCLUSION, f"index {index}", path, note)


def consistency_text(old: Checkpoint, path: Sequence[bytes], note: str) -> str:
    """Return the proof that the tree of a signed checkpoint has grown from that of `old`."""
    return _text(_CONSISTENCY, f"old {old.size} {b64encode(old.root).decode()}", path, note)


def check_inclusion_text(proof: str, data: bytes, key: VerifierKey) -> tuple[int, Checkpoint]:
    """Check that an entry's data is in the tree that `key` has signed. Return its position and the checkpoint.

    Raises `ProofError` if it is not proven.
    """
    line, path, note = _parts(proof, _INCLUSION)
    word, _, number = line.partition(" ")
    if word != "index" or not number.isdecimal():
        raise ProofError("the second line of the proof is not `index N`")
    checkpoint = open_checkpoint(note, key)
    check_inclusion(leaf_hash(data), int(number), checkpoint.size, path, checkpoint.root)
    return int(number), checkpoint


def check_consistency_text(proof: str, old: Checkpoint, key: VerifierKey) -> Checkpoint:
    """Check that the tree that `key` has signed has grown from that of `old`. Return its checkpoint.

    Raises `ProofError` if that is not proven.
    """
    line, path, note = _parts(proof, _CONSISTENCY)
    if line != f"old {old.size} {b64encode(old.root).decode()}":
        raise ProofError("the proof is for another checkpoint")
    checkpoint = open_checkpoint(note, key)
    check_consistency(old.size, old.root, checkpoint.size, checkpoint.root, path)
    return checkpoint


def _text(kind: str, line: str, path: Sequence[bytes], note: str) -> str:
    return "\n".join([kind, line, *(b64encode(one).decode() for one in path), "", note])


def _parts(proof: str, kind: str) -> tuple[str, list[bytes], str]:
    head, _, note = proof.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != kind or len(lines) < 2:
        raise ProofError(f"it is not a proof that begins with {kind!r}")
    try:
        return lines[1], [b64decode(one, validate=True) for one in lines[2:]], note
    except ValueError:
        raise ProofError("a hash of the proof is not base64") from None
