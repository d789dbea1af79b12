"""Registers that tell chips, to the byte, and commands of DCDs that name them."""

from __future__ import annotations

import struct

from digsigd.image.chip_clues import chips_of
from tests.image.test_small_parts import check, dcd, write

QUAD, DUAL_LITE, UL = {"imx6q", "imx6d", "imx6qp", "imx6dp"}, {"imx6dl", "imx6s"}, {"imx6ul", "imx6ull", "imx6ulz"}
MMDC = QUAD | DUAL_LITE | UL | {"imx6sx", "imx6sl", "imx6sll"}
# First and last address of each chip's registers: NXP's reference manuals, IOMUXC (pins of the memory) and its
# controller.
REGISTERS = (
    (0x021B0000, 0x021BFFFF, MMDC),
    (0x020E0244, 0x020E0288, UL), (0x020E0490, 0x020E04B4, UL),
    (0x020E0294, 0x020E02C0, {"imx6sll"}), (0x020E052C, 0x020E052C, {"imx6sll"}),
    (0x020E02EC, 0x020E0340, {"imx6sx"}), (0x020E05F4, 0x020E05F4, {"imx6sx"}),
    (0x020E0300, 0x020E0350, {"imx6sl"}), (0x020E05AC, 0x020E05AC, {"imx6sl"}),
    (0x020E0464, 0x020E04D8, DUAL_LITE), (0x020E050C, 0x020E05C4, QUAD),
    (0x307A0000, 0x307AFFFF, {"imx7d", "imx7s"}), (0x40AB0000, 0x40ABFFFF, {"imx7ulp"}),
    (0x400AE000, 0x400AEFFF, {"vf610", "vf500"}),
)  # fmt: skip
SEVEN = ("imx7d", "imx7s")


def test_registers_begin_and_end_where_the_manuals_have_them() -> None:
    """All chips that have one there, and no others; in the order of their names."""
    for first, last, _ in REGISTERS:
        for address in (first - 1, first, first + 1, last - 1, last, last + 1):
            expected = set().union(*(names for start, end, names in REGISTERS if start <= address <= end))
            assert chips_of(dcd(write(address))) == tuple(sorted(expected)), f"{address:#x}"


def test_a_command_names_an_address_where_its_4_bytes_are_within_it() -> None:
    """A value may be missing."""
    address = 0x307A0000
    word = struct.pack(">I", address)
    for tag in (0xCC, 0xCF):
        assert chips_of(dcd(struct.pack(">BHB", tag, 8, 4) + word)) == SEVEN
        assert chips_of(dcd(struct.pack(">BHB", tag, 7, 4) + word)) == ()
    cut = struct.pack(">BHB2I", 0xCC, 15, 4, 0x1000, 1) + word[:3]
    assert chips_of(dcd(cut, bytes(8))) == ()
    assert chips_of(dcd(struct.pack(">BHB2I", 0xCC, 16, 4, 0x1000, 1) + word)) == SEVEN
    assert chips_of(dcd(check(0x1000, count=True), write(address))) == SEVEN


def test_a_command_shorter_than_its_head_ends_a_dcd() -> None:
    """Nothing is made of what is behind it."""
    good = write(0x307A0000)
    assert chips_of(dcd(bytes([0xC0, 0, 4, 0]), good)) == SEVEN
    assert chips_of(dcd(bytes([0xC0, 0, 3, 0xC0, 0, 4, 0]), good)) == ()
    assert chips_of(dcd(bytes([0xC0, 0, 1, 0]).ljust(1 + 0x100, b"\0"), good)) == ()
    assert chips_of(dcd(bytes([0xC0, 0, 0, 0]), good)) == ()
