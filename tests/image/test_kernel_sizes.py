"""The sizes that kernels have by their headers."""

from __future__ import annotations

import struct

import pytest

from digsigd.image.errors import ImageError
from tests.helpers import golden, golden_kinds
from tests.image.kinds_judged import at, planned

MIB = 1 << 20


def what(data: bytes) -> str:
    """What is wrong with it; nothing where it is planned."""
    try:
        planned(data, load_address=0x40480000)
    except ImageError as error:
        return error.what
    return ""


@pytest.mark.parametrize(("size", "good"), [
    (0, False), (0x3F, False), (0x40, True), (0x41, True), (256 * MIB, True), (256 * MIB + 1, False),
])  # fmt: skip
def test_an_arm64_kernel_has_its_header_and_256_mib_at_most(size: int, good: bool) -> None:
    """Before the file is looked at."""
    kernel = at(golden.kernel()[:0x1000], 0x10, struct.pack("<Q", size))
    assert ("the kernel's header gives an image size" in what(kernel)) is not good
    if good:
        assert (
            planned(kernel[:0x40], load_address=0x40480000).signings[0].csf_offset == -(-size // 0x1000) * 0x1000 + 0x20
        )


@pytest.mark.parametrize(("start", "end", "size"), [
    (0, 0x2F, None), (0, 0x30, 0x30), (0, 0x1000, 0x1000), (0, 0x1001, None), (0x10000, 0x11000, 0x1000),
    (0x10000, 0x10030, 0x30), (0x800, 0x1000, 0x800), (0x1000, 0x1000, None), (0x1000, 0, None),
])  # fmt: skip
def test_a_zimage_ends_where_its_header_says(start: int, end: int, size: int | None) -> None:
    """Counted from where it starts: 0x30 bytes at least, and no more than the file has."""
    kernel = at(at(golden_kinds.zimage()[:0x1000], 0x28, start), 0x2C, end)
    if size is None:
        assert f"the zImage has {start:#x} and {end:#x} as start and end" in what(kernel)
        return
    whole = kernel[:size].ljust(max(size, 0x40), b"\0")
    (signing,) = planned(whole, "imx6q", load_address=0x12000000).signings
    assert signing.csf_offset == -(-size // 0x1000) * 0x1000 + 0x20
