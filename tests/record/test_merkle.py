"""Trees, notes and checkpoints, by the vectors of others."""

from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from digsigd.record import merkle, note
from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.errors import ProofError, RecordError
from digsigd.record.proofs import (
    check_consistency_text,
    check_inclusion_text,
    consistency_text,
    inclusion_text,
)

# The inputs and roots of Certificate Transparency's own tests.
LEAVES = [
    bytes.fromhex(one)
    for one in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# https://pkg.go.dev/golang.org/x/mod/sumdb/note: the example's key and note.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = TEXT + (
    "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


class Tree:
    """All nodes of a tree."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.roots = [merkle.EMPTY]
        frontier = merkle.Frontier()
        for index, data in enumerate(leaves):
            leaf = self.nodes[0, index] = merkle.leaf_hash(data)
            self.nodes.update({(level, number): node for level, number, node in frontier.append(leaf)})
            self.roots.append(frontier.root())

    def subtree(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def test_roots_are_those_of_certificate_transparency() -> None:
    """For each of its eight trees."""
    assert [one.hex() for one in Tree(LEAVES).roots[1:]] == ROOTS


def test_trees_and_inclusion_proofs_are_those_of_another_implementation() -> None:
    """pymerkle's, of each size up to 70; its proofs begin with the leaf, which those of RFC 6962 leave out."""
    leaves = [b"leaf %d" % number for number in range(70)]
    ours, theirs = Tree(leaves), InmemoryTree(algorithm="sha256")
    for size, data in enumerate(leaves, 1):
        theirs.append_entry(data)
        assert ours.roots[size] == theirs.get_root(size)
        for index in range(size):
            leaf, *path = theirs.prove_inclusion(index + 1, size).path
            assert leaf == merkle.leaf_hash(leaves[index])
            assert merkle.inclusion_proof(ours.subtree, index, size) == path


@given(st.integers(1, 70), st.data())
def test_every_proof_holds_and_none_with_a_changed_byte(size: int, data: st.DataObject) -> None:
    """Inclusion of each leaf, growth from each size; a changed, missing or added hash proves nothing."""
    tree = Tree([bytes([one]) for one in range(size)])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = merkle.inclusion_proof(tree.subtree, index, size)
    merkle.check_inclusion(tree.nodes[0, index], index, size, path, tree.roots[size])
    growth = merkle.consistency_proof(tree.subtree, old, size)
    merkle.check_consistency(old, tree.roots[old], size, tree.roots[size], growth)
    for hashes, check in (
        (path, lambda it: merkle.check_inclusion(tree.nodes[0, index], index, size, it, tree.roots[size])),
        (growth, lambda it: merkle.check_consistency(old, tree.roots[old], size, tree.roots[size], it)),
    ):
        wrong = [[*hashes, bytes(32)], *([hashes[:-1], [bytes(32), *hashes[1:]]] if hashes else [])]
        for one in wrong:
            with pytest.raises(ProofError):
                check(one)


def test_notes_are_those_of_go() -> None:
    """Keys and signatures of Go's package are read and made."""
    key = note.VerifierKey.parse(VKEY)
    assert str(key) == VKEY
    assert note.open_note(NOTE, key) == TEXT
    signer = note.SigningKey.parse(SKEY)
    assert signer.secret() == SKEY
    assert note.note_of(TEXT, signer.verifier, signer.private.sign(TEXT.encode())) == NOTE
    cosigned = NOTE + "— witness.example AAAAAAAAAA==\n"
    assert note.open_note(cosigned, key) == TEXT


@pytest.mark.parametrize(
    "wrong",
    [NOTE.replace("problem,", "problem;"), NOTE[:-1], TEXT, NOTE.replace("x08go", "x08gp"), NOTE.replace("—", "-")],
)
def test_a_changed_note_is_refused(wrong: str) -> None:
    """Text, signature and form."""
    with pytest.raises(ProofError):
        note.open_note(wrong, note.VerifierKey.parse(VKEY))


@pytest.mark.parametrize("wrong", ["", "a+b", VKEY[:-4], VKEY.replace("c74f", "c74e"), "a b+c74f20a3+AA=="])
def test_a_changed_key_is_refused(wrong: str) -> None:
    """By its hash and its form."""
    with pytest.raises(RecordError):
        note.VerifierKey.parse(wrong)


def test_proofs_as_text_hold_offline() -> None:
    """With the entry, the key and the older checkpoint alone."""
    key = note.SigningKey.new("host/digsigd/1")
    tree = Tree(LEAVES)

    def signed(size: int) -> str:
        text = str(Checkpoint(key.name, size, tree.roots[size]))
        return note.note_of(text, key.verifier, key.private.sign(text.encode()))

    proof = inclusion_text(3, merkle.inclusion_proof(tree.subtree, 3, 8), signed(8))
    assert proof.startswith("c2sp.org/tlog-proof@v1\nindex 3\n")
    assert check_inclusion_text(proof, LEAVES[3], key.verifier)[0] == 3
    with pytest.raises(ProofError):
        check_inclusion_text(proof, LEAVES[4], key.verifier)
    old = open_checkpoint(signed(5), key.verifier)
    grown = consistency_text(old, merkle.consistency_proof(tree.subtree, 5, 8), signed(8))
    assert check_consistency_text(grown, old, key.verifier).size == 8
    with pytest.raises(ProofError):
        check_consistency_text(grown, open_checkpoint(signed(6), key.verifier), key.verifier)
    assert len(b64decode(proof.splitlines()[2])) == 32
