"""Writes flattened device trees, for FITs of any shape: Devicetree Specification v0.4, chapter 5."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field


@dataclass
class Node:
    """A node: properties, then nodes, in this order."""

    name: str
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def put(self, name: str, value: bytes | None) -> None:
        """Set a property, or take it away."""
        found = next((n for n, (known, _) in enumerate(self.properties) if known == name), None)
        if value is None:
            self.properties = [one for one in self.properties if one[0] != name]
        elif found is None:
            self.properties.append((name, value))
        else:
            self.properties[found] = (name, value)


def cell(value: int) -> bytes:
    return struct.pack(">I", value)


def text(*values: str) -> bytes:
    return b"".join(value.encode() + b"\0" for value in values)


def written(root: Node, compatible: int = 16) -> bytes:
    """The tree as a file."""
    names: dict[str, int] = {}
    strings = bytearray()

    def at(name: str) -> int:
        if name not in names:
            names[name] = len(strings)
            strings.extend(name.encode() + b"\0")
        return names[name]

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def node(one: Node) -> bytes:
        data = cell(1) + padded(one.name.encode() + b"\0")
        for name, value in one.properties:
            data += cell(3) + cell(len(value)) + cell(at(name)) + padded(value)
        return data + b"".join(node(child) for child in one.nodes) + cell(2)

    structure = node(root) + cell(9)
    start = 40 + 16
    size = start + len(structure) + len(strings)
    head = struct.pack(
        ">10I", 0xD00DFEED, size, start, start + len(structure), 40, 17, compatible, 0, len(strings), len(structure)
    )
    return head + bytes(16) + structure + bytes(strings)
