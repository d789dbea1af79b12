"""The bounds of device trees are where they are said to be: what just fits is read, and one more is refused."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fdt import Tree
from tests.image.test_fdt_reader import BEGIN, END, END_NODE, NOP, node, padded, prop, refused, tree

LARGEST = 64 << 20


class Long:
    """A file that begins with these bytes, and has zeros behind them; it is not in memory."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, end, _ = part.indices(self._size)
        assert end - start <= 1 << 20
        return self._data[start:end].ljust(max(0, end - start), b"\0")


def test_a_tree_has_64_mib_at_most() -> None:
    """And all of it is in the file."""
    for size in (LARGEST - 1, LARGEST):
        assert Tree.read(Long(tree(node(b""), changed={"totalsize": size}), LARGEST)).size == size
    with pytest.raises(ImageError, match="has 0x4000001 bytes"):
        Tree.read(Long(tree(node(b""), changed={"totalsize": LARGEST + 1}), LARGEST + 1))
    with pytest.raises(ImageError, match="of which the file has 0x3ffffff"):
        Tree.read(Long(tree(node(b""), changed={"totalsize": LARGEST}), LARGEST - 1))


def test_a_tree_has_4096_nodes_at_most() -> None:
    """With its root."""
    inside = [node(b"n%d" % number) for number in range(4096)]
    assert len(Tree.read(tree(node(b"", *inside[:-1]))).root.nodes) == 4095
    assert "more than 4096 nodes" in refused(tree(node(b"", *inside)))


def test_a_tree_has_32768_properties_at_most() -> None:
    """In all of its nodes; properties of several nodes may have one name."""
    names = b"".join(b"%05d\0" % number for number in range(16384))
    all_of_them = [prop(number * 6, b"") for number in range(16384)]
    two = [node(b"", *all_of_them, node(b"a", *all_of_them, *more)) for more in ((), (node(b"b", prop(0, b"")),))]
    assert len(Tree.read(tree(two[0], names)).root.nodes["a"].properties) == 16384
    assert "more than 32768 properties" in refused(tree(two[1], names))


def test_a_tree_has_32768_nops_at_most() -> None:
    """They are nothing, and take time."""
    assert Tree.read(tree(NOP * 32768 + node(b""))).root.name == ""
    assert "more than 32768 NOP" in refused(tree(NOP * 32769 + node(b"")))


@pytest.mark.parametrize("count", [0, 1, 255, 256])
def test_a_tree_has_255_reservations_at_most(count: int) -> None:
    """And the one of zeros that ends them, which is no part of another."""
    blocks = struct.pack(">2Q", 1, 0) * count + bytes(16)
    structure, strings = node(b"") + END, b"one\0"
    head = struct.pack(">10I", 0xD00DFEED, 0x28 + len(blocks) + len(structure) + len(strings), 0x28 + len(blocks),
                       0x28 + len(blocks) + len(structure), 0x28, 17, 16, 0, len(strings), len(structure))  # fmt: skip
    data = head + blocks + structure + strings
    if count < 256:
        assert Tree.read(data).size == len(data)
    else:
        assert "has no end" in refused(data)


def test_names_have_255_characters_at_most() -> None:
    """Of nodes and of properties, each with a zero behind it."""
    name = b"n" * 255
    read = Tree.read(tree(node(b"", prop(0, b"1234"), node(name)), name + b"\0")).root
    assert list(read.nodes) == [name.decode()]
    assert read.number(name.decode()) == 0x31323334
    assert "has no end" in refused(tree(node(b"", node(name + b"n"))))
    assert "has no end" in refused(tree(node(b"", prop(0, b"")), name + b"n\0"))
    assert "has no end" in refused(tree(node(b"", prop(0, b"")), b""))


def test_names_of_properties_are_in_the_first_mib_of_their_block() -> None:
    """The longest that is looked at."""
    strings = bytes((1 << 20) - 4) + b"one\0"
    assert Tree.read(tree(node(b"", prop((1 << 20) - 4, b"1234")), strings)).root.number("one") == 0x31323334
    assert "has no end" in refused(tree(node(b"", prop((1 << 20) - 3, b"1234")), b"\0" + strings))


def test_the_strings_may_come_before_the_structure() -> None:
    """Right before it, and not over it."""
    structure, strings = node(b"", prop(0, b"1234")) + END, b"one\0"

    def made(start: int) -> bytes:
        head = struct.pack(">10I", 0xD00DFEED, 0x3C + len(structure), 0x3C, start, 0x28, 17, 16, 0, 4, len(structure))
        return head + bytes(16) + strings + structure

    assert Tree.read(made(0x38)).root.number("one") == 0x31323334
    assert "overlap" in refused(made(0x39))


def test_values_end_where_they_end() -> None:
    """What is read of one at most may be just as long; one of zero bytes is no string, and no number."""
    root = Tree.read(tree(node(b"", prop(0, b"1234"), prop(4, b"")))).root
    assert root.properties["one"].read(4) == b"1234"
    for ask in (root.text, root.texts, root.number):
        with pytest.raises(ImageError, match="'two'"):
            ask("two")
    assert root.words("two") == ""
    assert root.words("nothing") is None
    assert root.words("one") == "1234"


def test_the_last_property_ends_with_the_structure() -> None:
    """Or within it: one that is longer than what is left of it is refused, wherever the file ends."""
    inside = BEGIN + padded(b"\0") + prop(0, b"12345678")
    for cut in (1, 4, 8):
        size = len(inside) - cut
        assert "is longer than the tree" in refused(tree(inside, end=b"", changed={"size_dt_struct": size & ~3}))
    assert "without FDT_END" in refused(tree(inside, end=b""))
    assert "ends within a node" in refused(tree(inside))
    assert Tree.read(tree(inside + END_NODE)).root.properties["one"].length == 8
