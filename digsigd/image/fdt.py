"""Flattened device trees, read strictly and within bounds.

Format: Devicetree Specification v0.4, chapter 5, "Flattened Devicetree (DTB) Format"; version 17. The oldest
version that a header claims to be compatible with says nothing about the format: libfdt, which boards and tools use,
accepts any up to 17 (fdt.c, fdt_check_header), and U-Boot's libfdt wrote 2 until v2026.01. Property values are not
copied: a FIT may have tens of MiB in one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer

MAGIC = b"\xd0\x0d\xfe\xed"
HEADER_SIZE = 40
_VERSION = 17
# Of a tree in a file of at most 64 MiB; images that boards boot have a depth of 4 and some dozen nodes.
_LARGEST = 64 << 20
_DEEPEST = 16
_MOST_NODES = 4096
_MOST_PROPERTIES = 32768
_MOST_RESERVATIONS = 256
_LONGEST_NAME = 255
_LONGEST_WORDS = 256

# 5.4.1, "Lexical structure".
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9


@dataclass(frozen=True, slots=True)
class Value:
    """A property's value: `length` bytes at `offset` of the file."""

    data: Buffer = field(repr=False, compare=False)
    offset: int
    length: int

    def read(self, most: int = 4096) -> bytes:
        """Return its bytes. Raises `ImageError` if there are more than `most`."""
        if self.length > most:
            raise ImageError(f"the property at {self.offset:#x} has {self.length:#x} bytes, more than {most:#x}")
        return self.data[self.offset : self.offset + self.length]


@dataclass(slots=True)
class Node:
    """A node with its properties and its subnodes, in the order of the file. The root's name is empty."""

    name: str
    offset: int
    properties: dict[str, Value] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return the string in this property, or None without such a property.

        Raises `ImageError` if it is not exactly one string of printable ASCII.
        """
        strings = self.texts(name)
        if strings is None:
            return None
        if len(strings) != 1:
            raise ImageError(f"the property {name!r} of {self.name!r} has {len(strings)} strings where one is expected")
        return strings[0]

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return the list of strings in this property (2.2.4.1, <stringlist>), or None without such a property.

        Raises `ImageError` if it is not a list of strings of printable ASCII.
        """
        value = self.properties.get(name)
        if value is None:
            return None
        data = value.read()
        if not data.endswith(b"\0"):
            raise ImageError(f"the property {name!r} of {self.name!r} at {value.offset:#x} is not a string")
        return tuple(_ascii(part, f"the property {name!r} of {self.name!r}") for part in data[:-1].split(b"\0"))

    def words(self, name: str) -> str | None:
        """Return this property as text to show, with "?" for what cannot be printed; None without such a property."""
        value = self.properties.get(name)
        if value is None:
            return None
        data = value.data[value.offset : value.offset + min(value.length, _LONGEST_WORDS)]
        text = data.rstrip(b"\0").decode("utf-8", "replace")
        return "".join(one if one.isprintable() else "?" for one in text)

    def number(self, name: str, *, cells: tuple[int, ...] = (1,)) -> int | None:
        """Return the number in this property, or None without such a property.

        Raises `ImageError` if it does not have one of the lengths in `cells`, counted in 4 bytes.
        """
        value = self.properties.get(name)
        if value is None:
            return None
        if value.length not in [4 * count for count in cells]:
            wanted = " or ".join(str(4 * count) for count in cells)
            raise ImageError(
                f"the property {name!r} of {self.name!r} at {value.offset:#x} has {value.length} bytes, not {wanted}"
            )
        return int.from_bytes(value.read(), "big")

    def named(self, name: str) -> Node | None:
        """Return the subnode that libfdt finds under this name, or None.

        For a name without a unit address, libfdt takes the first node with that name, with or without a unit address
        (fdt_ro.c, fdt_nodename_eq_). If that can be a different node, boards and tools see different images: raises
        `ImageError`.
        """
        found = self.nodes.get(name)
        if "@" not in name:
            others = [one for one in self.nodes if one.startswith(name + "@")]
            if others:
                raise ImageError(
                    f"the node {self.name or '/'!r} has {', '.join([*([name] if found else []), *others][:4])}: U-Boot"
                    f" takes the first of them for {name!r}",
                    hint="Build the FIT again with names that differ before the @.",
                )
        return found


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of `size` bytes (the header's totalsize) at `offset` of the file."""

    offset: int
    size: int
    root: Node

    @classmethod
    def read(cls, data: Buffer, offset: int = 0) -> Tree:
        """Read the whole tree at `offset` of the file. Raises `ImageError` if it is damaged, too large or too deep."""
        head = data[offset : offset + HEADER_SIZE]
        if len(head) < HEADER_SIZE or head[:4] != MAGIC:
            raise ImageError(f"no device tree at {offset:#x}: {head[:4].hex(' ')} instead of d0 0d fe ed")
        size, structure, strings, reserved, version, compatible = struct.unpack_from(">6I", head, 4)
        strings_size, structure_size = struct.unpack_from(">2I", head, 32)
        where = f"the device tree at {offset:#x}"
        if version < _VERSION or compatible > _VERSION:
            raise ImageError(
                f"{where} has version {version}, compatible with {compatible}; supported is {_VERSION}, or a version"
                " compatible with that"
            )
        if size < HEADER_SIZE or size > _LARGEST or offset + size > len(data):
            raise ImageError(f"{where} has {size:#x} bytes, but the file has {max(0, len(data) - offset):#x}")
        for what, start, length, align in (
            ("structure block", structure, structure_size, 4),
            ("strings block", strings, strings_size, 1),
            ("memory reservation block", reserved, 16, 8),
        ):
            if start % align or start < HEADER_SIZE or start + length > size:
                raise ImageError(f"{where}: its {what}, {length:#x} bytes at {start:#x}, does not fit its {size:#x}")
        if structure < strings + strings_size and strings < structure + structure_size:
            raise ImageError(f"{where}: its structure block and its strings block overlap")
        _check_reservations(data[offset + reserved : offset + min(size, reserved + 16 * _MOST_RESERVATIONS)], where)
        names = _Names(data[offset + strings : offset + strings + min(strings_size, 1 << 20)], where)
        return cls(offset, size, _read_nodes(data, offset + structure, structure_size, names, where))

    @property
    def end(self) -> int:
        """The file offset just after it."""
        return self.offset + self.size


class _Names:
    """The strings block: names of properties, looked up by their offsets."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._known: dict[int, str] = {}

    def __getitem__(self, offset: int) -> str:
        if offset not in self._known:
            end = self._data.find(b"\0", offset, offset + _LONGEST_NAME + 1)
            if end < 0:
                raise ImageError(f"{self._where}: the property name at {offset:#x} of the strings block has no end")
            self._known[offset] = _ascii(self._data[offset:end], self._where)
        return self._known[offset]


def _check_reservations(data: bytes, where: str) -> None:
    """Raise `ImageError` if no pair of zeros ends the list of pairs of 64-bit numbers (5.3)."""
    if not any(data[place : place + 16] == bytes(16) for place in range(0, len(data), 16)):
        raise ImageError(f"{where}: its memory reservation block has no end")


def _read_nodes(data: Buffer, start: int, size: int, names: _Names, where: str) -> Node:
    """Return the root node (5.4.2: one root node, then FDT_END)."""
    open_nodes: list[Node] = []
    root: Node | None = None
    nodes = properties = 0
    for token, place, name, length in _tokens(data, start, size, names, where):
        if token == _BEGIN_NODE:
            nodes += 1
            if nodes > _MOST_NODES or len(open_nodes) >= _DEEPEST:
                raise ImageError(f"{where} has more than {_MOST_NODES} nodes or {_DEEPEST} levels, at {place:#x}")
            node = Node(name, place)
            if open_nodes:
                if not name or name in open_nodes[-1].nodes:
                    raise ImageError(f"{where} has a node without a unique name ({name!r}) at {place:#x}")
                open_nodes[-1].nodes[name] = node
            elif root is not None or name:
                raise ImageError(f"{where} has a second root, or a root with a name ({name!r}), at {place:#x}")
            root = root or node
            open_nodes.append(node)
        elif token == _PROPERTY:
            properties += 1
            if properties > _MOST_PROPERTIES:
                raise ImageError(f"{where} has more than {_MOST_PROPERTIES} properties")
            if not open_nodes or open_nodes[-1].nodes or not name or name in open_nodes[-1].properties:
                raise ImageError(f"{where}: the property {name!r} at {place:#x} is a duplicate or in the wrong place")
            open_nodes[-1].properties[name] = Value(data, place, length)
        elif token == _END_NODE:
            if not open_nodes:
                raise ImageError(f"{where} ends a node at {place:#x} that was not begun")
            open_nodes.pop()
    if root is None or open_nodes:
        raise ImageError(f"{where} ends inside a node")
    return root


def _tokens(data: Buffer, start: int, size: int, names: _Names, where: str) -> Iterator[tuple[int, int, str, int]]:
    """Yield (token, file offset, name, length) up to FDT_END; for a property, offset and length of its value."""
    place, end = start, start + size
    nops = 0
    while True:
        word = data[place : min(place + 4, end)]
        if len(word) < 4:
            raise ImageError(f"{where}: its structure block ends at {place:#x} without FDT_END")
        token = int.from_bytes(word, "big")
        place += 4
        if token == _BEGIN_NODE:
            text = data[place : min(place + _LONGEST_NAME + 1, end)]
            length = text.find(b"\0")
            if length < 0:
                raise ImageError(f"{where}: the node name at {place:#x} has no end")
            yield token, place, _ascii(text[:length], where), length
            place += (length + 4) & ~3
        elif token == _PROPERTY:
            head = data[place : min(place + 8, end)]
            if len(head) < 8:
                raise ImageError(f"{where}: its structure block ends inside a property at {place:#x}")
            length, name_offset = struct.unpack(">2I", head)
            place += 8
            if place + length > end:
                raise ImageError(f"{where}: a property of {length:#x} bytes at {place:#x} is longer than the tree")
            yield token, place, names[name_offset], length
            place += (length + 3) & ~3
        elif token == _END_NODE:
            yield token, place, "", 0
        elif token == _END:
            return
        elif token == _NOP:
            nops += 1
            if nops > _MOST_PROPERTIES:
                raise ImageError(f"{where} has more than {_MOST_PROPERTIES} NOP tokens")
        else:
            raise ImageError(f"{where} has an unknown token {token:#x} at {place - 4:#x}")


def _ascii(data: bytes, where: str) -> str:
    text = data.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise ImageError(f"{where} has text that is not printable ASCII: {data[:40]!r}")
    return text
