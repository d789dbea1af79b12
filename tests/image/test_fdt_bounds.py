"""The bounds of device trees are where they are said to be: what just fits is read, and one more is refused."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.errors import ImageError
from digsigd.image.fdt import Tree
from tests.image.test_fdt_reader import BEGIN, END, END_NODE, NOP, PROPERTY, node, padded, prop, refused, tree

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
    with pytest.raises(ImageError, match="but the file has 0x3ffffff"):
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
    assert "ends inside a node" in refused(tree(inside))
    assert Tree.read(tree(inside + END_NODE)).root.properties["one"].length == 8


def test_a_tree_has_16_levels_at_most() -> None:
    """With its root."""
    inner = b""
    for _ in range(15):
        inner = node(b"n", inner)
    assert Tree.read(tree(node(b"", inner))).root.nodes["n"]
    assert "or 16 levels" in refused(tree(node(b"", node(b"n", inner))))


def test_a_value_has_4096_bytes_at_most_unless_more_are_asked_for() -> None:
    """And people are shown 256 of them."""
    for size in (4095, 4096, 4097):
        root = Tree.read(tree(node(b"", prop(0, b"x" * (size - 1) + b"\0")))).root
        assert root.words("one") == "x" * 256
        assert len(root.properties["one"].read(4097)) == size
        if size > 4096:
            with pytest.raises(ImageError, match="has 0x1001 bytes, more than 0x1000"):
                root.text("one")
        else:
            assert root.text("one") == "x" * (size - 1)


@pytest.mark.parametrize(("field", "block", "size"), [
    ("off_dt_struct", "structure block", None), ("off_dt_strings", "strings block", 8),
    ("off_mem_rsvmap", "memory reservation block", 16),
])  # fmt: skip
def test_each_block_lies_behind_the_header_within_the_tree(field: str, block: str, size: int | None) -> None:
    """The structure on a multiple of 4, reservations of 8; one pair of these at least."""
    good = tree(node(b""))
    length = len(node(b"")) + 4 if size is None else size
    assert len(good) % 8 == 0
    for start in (0, 0x20, 0x27, len(good) - length + 8, len(good), 1 << 31):
        assert f"its {block}, {length:#x} bytes at {start:#x}, does not fit" in refused(
            tree(node(b""), changed={field: start})
        )
    align = {"off_dt_struct": 4, "off_dt_strings": 1, "off_mem_rsvmap": 8}[field]
    for odd in range(1, align):
        assert "does not fit" in refused(tree(node(b""), changed={field: 0x38 + odd}))
    if align == 1:
        assert "does not fit" not in refused(tree(node(b""), changed={field: 0x39}))


def test_reservations_may_come_last() -> None:
    """The pair of zeros that ends them is whole."""
    for length, good in ((16, True), (17, True), (15, False), (8, False)):
        data = tree(node(b""))
        size = len(data) + length
        text = tree(node(b""), changed={"off_mem_rsvmap": len(data), "totalsize": size}) + bytes(length)
        if good:
            assert Tree.read(text).size == size
        else:
            assert f"0x10 bytes at {len(data):#x}, does not fit" in refused(text)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_reservations_are_pairs(count: int) -> None:
    """Zeros that begin in the middle of one end nothing."""
    pair, strings, structure = b"\1\2\3\4\5\6\7\x08" * 2, b"\x6f\x6e\x65\0" + b"two\0" * 30, node(b"") + END
    for shift, good in ((0, True), *((shift, False) for shift in (1, 8, 15))):
        blocks = pair * count + b"\x11" * shift + bytes(16) + b"\x11" * (16 - shift)
        start = 0x28 + len(blocks)
        head = struct.pack(">10I", 0xD00DFEED, start + len(strings) + len(structure), start + len(strings), start,
                           0x28, 17, 16, 0, len(strings), len(structure))  # fmt: skip
        if good:
            assert Tree.read(head + blocks + strings + structure).root.name == ""
        else:
            assert "reservation block has no end" in refused(head + blocks + strings + structure)


def test_tokens_and_the_heads_of_properties_are_whole() -> None:
    """Where the structure ends within one, nothing is made of the rest."""
    for cut in (1, 2, 3):
        word = b"\0\0\0\x09"[cut:]
        assert "without FDT_END" in refused(tree(node(b"") + word, end=b""))
    for there in range(8):
        head = (PROPERTY + bytes(8))[: 4 + there]
        assert "ends inside a property" in refused(tree(BEGIN + padded(b"\0") + head, end=b""))
