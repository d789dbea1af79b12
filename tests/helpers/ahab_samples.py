"""Files with AHAB containers that real tools made: imx-mkimage, and cst 4.0.1 for those that are signed."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from digsigd import ahab

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
