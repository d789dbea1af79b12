"""Merkle trees of RFC 6962: roots, inclusion proofs and consistency proofs. Pure.

A complete subtree of 2**level leaves is named by its level and its index on that level: the leaves of subtree (l, i)
are i << l to ((i + 1) << l) - 1. A tree of any size is a row of complete subtrees. So a stored hash for each of these
is enough to make every proof with a logarithmic number of reads.

pymerkle 7 has the same trees, and the tests compare with it. Its proofs have a form of its own, which no other tool of
transparency logs reads, and it keeps leaves but not the subtrees, which make proofs of a million entries fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from digsigd.record.errors import ProofError

# The root of a tree without leaves: RFC 6962, 2.1.
EMPTY = sha256(b"").digest()
# Returns the hash of the complete subtree (level, index). Raises `LookupError` if it is not stored.
Subtree = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node with two children."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The complete subtrees of a tree of `size` leaves, the largest first: all that is needed to add leaves.

    `hashes` has one hash for each bit that is set in `size`. Raises `ValueError` for another number of hashes.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(hashes)}")
        self.size = size
        self.hashes = list(hashes)

    def copy(self) -> Frontier:
        """Return a copy, to which leaves can be added independently."""
        return Frontier(self.size, self.hashes)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf, by its hash. Return (level, index, hash) of each complete subtree above it that is new."""
        made = []
        level, index, top = 0, self.size, leaf
        while index & 1:
            top = node_hash(self.hashes.pop(), top)
            level, index = level + 1, index >> 1
            made.append((level, index, top))
        self.hashes.append(top)
        self.size += 1
        return made

    def root(self) -> bytes:
        """Return the root of the tree."""
        if not self.hashes:
            return EMPTY
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def complete_subtrees(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the complete subtrees (level, index) that cover the leaves from `begin` to before `end`, left to right.

    `begin` must be a multiple of the largest power of two below `end - begin`, as in all splits of RFC 6962.
    """
    found = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def root_of(subtree: Subtree, begin: int, end: int) -> bytes:
    """Return the root of the tree of the leaves from `begin` to before `end`. Raises what `subtree` raises."""
    hashes = [subtree(level, index) for level, index in complete_subtrees(begin, end)]
    return Frontier(end - begin, hashes).root()


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves: RFC 6962, 2.1.1.

    Raises `ValueError` for an index outside the tree, and what `subtree` raises.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(root_of(subtree, middle, end))
            end = middle
        else:
            path.append(root_of(subtree, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(subtree: Subtree, old: int, new: int) -> list[bytes]:
    """Return the proof that the tree of `old` leaves begins the tree of `new` leaves: RFC 6962, 2.1.2.

    Raises `ValueError` unless 0 < old <= new, and what `subtree` raises.
    """
    if not 0 < old <= new:
        raise ValueError(f"a tree of {new} has not grown from a tree of {old}")
    begin, end, whole = 0, new, True
    path: list[bytes] = []
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(root_of(subtree, middle, end))
            end = middle
        else:
            path.append(root_of(subtree, begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(root_of(subtree, begin, end))
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check an audit path for a leaf's hash. Raises `ProofError` unless it leads to `root`."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    node, last, found = index, size - 1, leaf
    for one in path:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if node & 1 or node == last:
            found = node_hash(one, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, one)
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if found != root:
        raise ProofError("the inclusion proof does not lead to the root of the checkpoint")


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check a consistency proof. Raises `ProofError` unless the tree of `new` leaves begins with that of `old`."""
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} leaves has not grown from one of {old}")
    if old in {0, new}:
        if path or old_root != (new_root if old else EMPTY):
            raise ProofError("the two checkpoints have different roots for the same size")
        return
    hashes = list(path) if old & (old - 1) else [old_root, *path]
    if not hashes:
        raise ProofError("the consistency proof is too short")
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = hashes[0]
    for one in hashes[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if node & 1 or node == last:
            first, second = node_hash(one, first), node_hash(one, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, one)
        node, last = node >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise ProofError("the consistency proof does not connect the two checkpoints")


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
