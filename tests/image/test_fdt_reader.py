"""Flattened device trees: what dtc makes is read, and what is not one is refused within bounds."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.image.errors import ImageError
from digsigd.image.fdt import Tree
from tests.helpers.work import calls

BEGIN, END_NODE, PROPERTY, NOP, END = (struct.pack(">I", token) for token in (1, 2, 3, 4, 9))


def node(name: bytes, *inside: bytes) -> bytes:
    return BEGIN + padded(name + b"\0") + b"".join(inside) + END_NODE


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def prop(name_offset: int, value: bytes) -> bytes:
    return PROPERTY + struct.pack(">2I", len(value), name_offset) + padded(value)


def tree(
    structure: bytes,
    strings: bytes = b"one\0two\0",
    *,
    end: bytes = END,
    changed: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    """A tree in the order that dtc has: header, reservations, structure, strings; header fields may be wrong."""
    structure += end
    header = {
        "magic": 0xD00DFEED,
        "totalsize": 0x38 + len(structure) + len(strings),
        "off_dt_struct": 0x38,
        "off_dt_strings": 0x38 + len(structure),
        "off_mem_rsvmap": 0x28,
        "version": 17,
        "last_comp_version": 16,
        "boot_cpuid_phys": 0,
        "size_dt_strings": len(strings),
        "size_dt_struct": len(structure),
        **changed,
    }
    return struct.pack(">10I", *header.values()) + bytes(16) + structure + strings


def refused(data: bytes, offset: int = 0) -> str:
    with pytest.raises(ImageError) as caught:
        Tree.read(data, offset)
    return caught.value.what


def test_what_dtc_makes_is_read(tmp_path: Path) -> None:
    """Nodes, strings, lists of strings, numbers and bytes, with their offsets."""
    source = """/dts-v1/; / { #address-cells = <2>; first { text = "a"; texts = "b", "c"; empty; cell = <7>;
        wide = <1 2>; raw = [01 02 03]; deep { deeper { x = "y"; }; }; }; second@2 { }; };"""
    (tmp_path / "a.dts").write_text(source)
    subprocess.run(["dtc", "-q", "-O", "dtb", "-o", "a.dtb", "a.dts"], cwd=tmp_path, check=True, timeout=60)
    data = (tmp_path / "a.dtb").read_bytes()
    read = Tree.read(b"\xff" * 8 + data + b"more", 8)
    assert (read.offset, read.size, read.end) == (8, len(data), 8 + len(data))
    assert list(read.root.nodes) == ["first", "second@2"]
    first = read.root.nodes["first"]
    assert first.text("text") == "a"
    assert first.texts("texts") == ("b", "c")
    assert first.number("cell") == 7
    assert first.number("wide", cells=(1, 2)) == 1 << 32 | 2
    assert first.properties["raw"].read() == b"\1\2\3"
    assert first.properties["empty"].length == 0
    assert first.nodes["deep"].nodes["deeper"].text("x") == "y"
    assert (first.text("nothing"), first.texts("nothing"), first.number("nothing")) == (None, None, None)
    assert data[first.properties["raw"].offset - 8 :][:3] == b"\1\2\3"


def test_values_are_of_their_kind_or_refused() -> None:
    """A string without an end, a list where one string belongs, a number of another length, too many bytes."""
    root = Tree.read(tree(node(b"", prop(0, b"ab"), prop(4, b"a\0b\0")))).root
    for ask in (lambda: root.text("one"), lambda: root.texts("one"), lambda: root.number("one")):
        with pytest.raises(ImageError, match="'one'"):
            ask()
    with pytest.raises(ImageError, match="has 2 strings"):
        root.text("two")
    assert root.number("two") == int.from_bytes(b"a\0b\0", "big")
    with pytest.raises(ImageError, match="more than 0x3"):
        root.properties["two"].read(3)
    with pytest.raises(ImageError, match="not printable"):
        Tree.read(tree(node(b"", prop(0, b"\x1b[2J\0")))).root.text("one")


def test_nothing_but_version_17_is_read() -> None:
    """Whatever older versions it claims to be compatible with; U-Boot's own libfdt wrote 2 for years."""
    good = node(b"")
    for version, compatible in ((17, 2), (17, 0), (17, 16), (17, 17), (18, 17), (0xFFFFFFFF, 2)):
        changed = {"version": version, "last_comp_version": compatible}
        assert Tree.read(tree(good, changed=changed)).root.name == ""
    for changed in ({"version": 16}, {"version": 3}, {"last_comp_version": 18}, {"last_comp_version": 0xFFFFFFFF}):
        assert "version" in refused(tree(good, changed=changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"magic": 0xD00DFEEE}, "no device tree at 0x0"),
        ({"totalsize": 0x10}, "has 0x10 bytes"),
        ({"totalsize": 0x1000}, "has 0x1000 bytes, but the file has"),
        ({"totalsize": 0xFFFFFFFF}, "has 0xffffffff bytes"),
        ({"off_dt_struct": 0x3A}, "structure block"),
        ({"off_dt_struct": 0x10}, "structure block"),
        ({"off_dt_struct": 0xFFFFFFF0}, "structure block"),
        ({"size_dt_struct": 0xFFFFFFF0}, "structure block"),
        ({"size_dt_struct": 0x14}, "overlap"),
        ({"size_dt_struct": 8}, "ends at 0x40 without FDT_END"),
        ({"off_dt_strings": 0xFFFFFFF0}, "strings block"),
        ({"off_dt_strings": 0x3C}, "overlap"),
        ({"size_dt_strings": 0xFFFF}, "strings block"),
        ({"off_mem_rsvmap": 0x2C}, "memory reservation block"),
        ({"off_mem_rsvmap": 0}, "memory reservation block"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(changed: dict[str, int], says: str) -> None:
    """Before anything is read by it."""
    assert says in refused(tree(node(b""), changed=changed))


def test_reservations_without_an_end_are_refused() -> None:
    """Of memory, which a FIT has none of."""
    data = bytearray(tree(node(b"")))
    data[0x28:0x38] = b"\x01" * 16
    assert "memory reservation block has no end" in refused(bytes(data))


@pytest.mark.parametrize(
    ("structure", "says"),
    [
        (b"", "ends inside a node"),
        (NOP * 3, "ends inside a node"),
        (END_NODE, "ends a node at 0x3c that was not begun"),
        (BEGIN + bytes(4), "ends inside a node"),
        (node(b"name"), "with a name"),
        (node(b"") + node(b""), "second root"),
        (node(b"", node(b"")), "without a unique name"),
        (node(b"", node(b"a"), node(b"a")), "without a unique name ('a')"),
        (node(b"", prop(0, b""), prop(0, b"")), "the property 'one' at"),
        (node(b"", node(b"a"), prop(0, b"")), "in the wrong place"),
        (prop(0, b""), "in the wrong place"),
        (node(b"", prop(100, b"")), "of the strings block has no end"),
        (node(b"", prop(3, b"")), "the property ''"),
        (node(b"", PROPERTY + struct.pack(">2I", 0x1000, 0)), "longer than the tree"),
        (node(b"", PROPERTY + struct.pack(">2I", 0xFFFFFFFF, 0)), "longer than the tree"),
        (node(b"", struct.pack(">I", 5)), "unknown token 0x5"),
        (node(b"", node(b"\xc3\xa4")), "not printable ASCII"),
        (node(b"", node(b"a" * 256)), "has no end"),
    ],
)
def test_a_structure_that_is_none_is_refused(structure: bytes, says: str) -> None:
    """Each with what is wrong and where."""
    assert says in refused(tree(structure))


def test_names_without_an_end_are_refused() -> None:
    """At the end of the block they are in."""
    assert "the node name at" in refused(tree(BEGIN + b"abcd", end=b""))
    assert "has no end" in refused(tree(node(b"", prop(0, b"")), b"one"))
    assert "inside a property" in refused(tree(node(b"")[:-4] + PROPERTY + b"1234", end=b""))


def test_nops_are_nothing() -> None:
    """Between any two tokens."""
    read = Tree.read(tree(NOP + node(b"", NOP, prop(0, b"1234"), NOP, node(b"a", NOP), NOP) + NOP))
    assert read.root.number("one") == 0x31323334
    assert list(read.root.nodes) == ["a"]


def test_depth_and_numbers_are_bounded() -> None:
    """A tree cannot have more than a FIT ever needs, and what is beyond that is not read.

    Bounded are the calls of functions: some for each node, property or NOP up to the bound, whatever follows.
    """
    deep = b"".join(BEGIN + padded(b"n%d\0" % n if n else b"\0") for n in range(100_000))
    many = b"".join(node(b"n%d" % n) for n in range(100_000))
    names = b"".join(b"p%d\0" % n for n in range(100_000))
    places = [0]
    for name in names.split(b"\0")[:-2]:
        places.append(places[-1] + len(name) + 1)
    for says, most, hostile in (
        ("more than 4096 nodes or 16 levels", 16, tree(deep)),
        ("more than 4096 nodes or 16 levels", 4096, tree(node(b"", many))),
        ("more than 32768 properties", 32768, tree(node(b"", *(prop(place, b"") for place in places)), names)),
        ("more than 32768 NOP tokens", 32768, tree(NOP * 1_000_000 + node(b""))),
    ):
        told: list[str] = []
        assert calls(lambda tree=hostile, told=told: told.append(refused(tree))) < 30 * most + 1000  # type: ignore[misc]
        assert says in told[0]
    sixteen = BEGIN + bytes(4) + b"".join(BEGIN + padded(b"n\0") for _ in range(15)) + END_NODE * 16
    assert Tree.read(tree(sixteen)).root.nodes
    assert "16 levels" in refused(tree(BEGIN + bytes(4) + b"".join(BEGIN + padded(b"n\0") for _ in range(16))))


def test_a_short_file_is_refused_at_each_length() -> None:
    """And so is one in which the tree begins elsewhere."""
    data = tree(node(b"", prop(0, b"12345"), node(b"a", prop(4, b"x\0"))))
    assert Tree.read(data).root.nodes["a"].text("two") == "x"
    for length in range(len(data)):
        refused(data[:length])
    refused(data, 1)
    refused(data, len(data) + 5)


def outcome(data: bytes) -> str:
    """Why it is refused; empty where it is a tree."""
    try:
        assert Tree.read(data).root.name == ""
    except ImageError as error:
        return error.what
    return ""


@given(st.data())
def test_any_bytes_are_a_tree_or_refused(data: st.DataObject) -> None:
    """Nothing but ImageError comes out of bytes that were changed, or cut, or never a tree."""
    good = bytearray(tree(node(b"", prop(0, b"12345"), NOP, node(b"a", prop(4, b"x\0"), node(b"b")), node(b"c"))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(good) - 1))
        good[place] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 9, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    end = data.draw(st.integers(0, len(good))) if data.draw(st.booleans()) else len(good)
    assert outcome(bytes(good[:end])).isprintable()


@given(st.binary(max_size=300))
def test_any_structure_is_a_tree_or_refused(structure: bytes) -> None:
    """With a header that fits."""
    assert outcome(tree(structure + bytes(-len(structure) % 4))).isprintable()
