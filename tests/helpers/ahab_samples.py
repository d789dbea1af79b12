"""Files with AHAB containers that real tools made: imx-mkimage, and cst 4.0.1 for those that are signed."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from digsigd import ahab
from tests.helpers.ahab_forge import Kind, signed_container

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"


@cache
def flash(case: str) -> bytes:
    """The unsigned file of a case, such as "good-93-sd-spl"."""
    return gzip.decompress((SAMPLES / "cases" / case / "flash.bin.gz").read_bytes())


@cache
def signed(case: str) -> bytes:
    """The same, as cst signed it: "good-93-sd-spl", "good-qxp-spl-sgk" or "good-v2-p384"."""
    whole = bytearray(flash(case))
    containers = gzip.decompress((SAMPLES / f"{case}.bin.gz").read_bytes())
    for one in ahab.find(containers):
        whole[one.offset : one.end] = containers[one.offset : one.end]
    return bytes(whole)


def changed(data: bytes, place: int, new: bytes) -> bytes:
    """The same data with other bytes at a place."""
    return data[:place] + new + data[place + len(new) :]


def all_signed(data: bytes, kind: Kind = "p384", *, skip: int | None = None, **options: Any) -> bytes:
    """A file whose OEM containers are all signed with trial keys, but for the one at the offset `skip`.

    The options are those of `signed_container`.
    """
    whole = bytearray(data)
    for one in ahab.find(data):
        if one.srk_set != ahab.SrkSet.NXP and one.offset != skip:
            head = data[one.offset : one.offset + one.header_length]
            new = signed_container(head, kind, version=one.version, **options)
            whole[one.offset : one.offset + len(new)] = new
    return bytes(whole)
