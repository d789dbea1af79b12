"""Describe AHAB containers and SRK tables, so that they are not mistaken for damaged ones of HAB."""

from __future__ import annotations

import mmap

from digsigd.cli.inspect.facts import Fact, Hex, Part, Table
from digsigd.image import ahab

_NOT_HAB = "AHAB is a different secure boot from HAB: use NXP's tools for AHAB to sign"


def describe_containers(data: mmap.mmap | bytes) -> Part | None:
    """Return a description of a file with AHAB containers; None if it has none."""
    found = ahab.containers(data)
    if not found:
        return None
    part = Part("ahab", f"AHAB containers ({ahab.CHIPS}), {len(data)} bytes", notes=[_NOT_HAB])
    for one in found:
        inner = Part("ahab-container", f"{one.name} at {one.offset:#x}")
        inner.facts = {
            "version": one.version,
            "length": Hex(one.length),
            "signed_by": one.signed_by,
            "srk": one.srk if one.signed else None,
            "software_version": one.software_version,
            "fuse_version": one.fuse_version,
        }
        rows: list[tuple[Fact, ...]] = [
            (Hex(image.offset), Hex(image.size), Hex(image.load), Hex(image.entry), image.kind) for image in one.images
        ]
        inner.tables.append(Table("images", ("offset", "size", "load", "entry", "kind"), rows))
        outside = [f"{image.offset:#x}" for image in one.images if image.offset + image.size > len(data)]
        if outside:
            inner.notes.append(f"images that this file contains only in part: those at {', '.join(outside)}")
        part.parts.append(inner)
    return part


def describe_srk_table(data: bytes, title: str = "SRK table") -> Part | None:
    """Return a description of an SRK table of AHAB; None if it is not one."""
    kinds = ahab.srk_table(data)
    if kinds is None:
        return None
    part = Part("ahab-srk-table", f"{title} of AHAB ({ahab.CHIPS}), {len(data)} bytes", notes=[_NOT_HAB])
    part.tables.append(Table("SRKs", ("number", "key"), list(enumerate(kinds, 1))))
    return part
