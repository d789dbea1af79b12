"""Write to the file of an image before, between and after its signatures. All functions block."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from digsigd.image.errors import ImageError
from digsigd.image.model import Plan, Signing


def prepare(path: Path, plan: Plan) -> list[tuple[int, bytes]]:
    """Prepare the file for signing; return what `finish` has to restore, as (offset, bytes) pairs."""
    with path.open("r+b") as file:
        if plan.tail is not None:
            os.ftruncate(file.fileno(), plan.tail.offset)
        for patch in plan.patches:
            # A gap after the end of the file is filled with zeros.
            os.pwrite(file.fileno(), patch.data, patch.offset)
    with path.open("rb") as file:
        there = [(mask.offset, os.pread(file.fileno(), len(mask.data), mask.offset)) for mask in plan.masks]
    _write(path, [(mask.offset, mask.data) for mask in plan.masks])
    return there


def insert(path: Path, signing: Signing, blob: bytes) -> None:
    """Write the CSF blob of a part into its place. Raises `ImageError` if it does not fit."""
    if len(blob) > signing.csf_room:
        raise ImageError(
            f"the CSF of {signing.name} has {len(blob):#x} bytes, but the room for it at {signing.csf_offset:#x} only"
            f" {signing.csf_room:#x}",
            hint="reserve more room in the image (CSF_SIZE), or use smaller keys",
        )
    # The padding overwrites the rest of an older CSF.
    _write(path, [(signing.csf_offset, blob.ljust(signing.csf_room, b"\0"))])


def finish(path: Path, plan: Plan, masked: Iterable[tuple[int, bytes]]) -> None:
    """Restore what `prepare` returned, and write the tail after the image."""
    _write(path, masked)
    if plan.tail is not None:
        _write(path, [(plan.size - len(plan.tail.data), plan.tail.data)])


def _write(path: Path, parts: Iterable[tuple[int, bytes]]) -> None:
    with path.open("r+b") as file:
        for offset, data in parts:
            os.pwrite(file.fileno(), data, offset)
