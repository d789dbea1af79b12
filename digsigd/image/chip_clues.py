"""Find the chip that an image is for: from the registers that its DCD writes to, and from a device tree in it.

Sources: the DCDs of U-Boot's boards (board/*/*/imximage*.cfg) and NXP's reference manuals: the pins of the memory
(IOMUXC) are at different addresses on each chip, i.MX 6's memory controllers (MMDC) at the same address on all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from digsigd.image.model import Buffer

_QUAD = ("imx6q", "imx6d", "imx6qp", "imx6dp")
_DUAL_LITE = ("imx6dl", "imx6s")
_UL = ("imx6ul", "imx6ull", "imx6ulz")
_ALL_6 = (*_QUAD, *_DUAL_LITE, "imx6sx", "imx6sl", "imx6sll", *_UL)
_SEVEN = ("imx7d", "imx7s")
# (first, last, chips)
_REGISTERS = (
    (0x021B0000, 0x021BFFFF, _ALL_6),
    (0x020E0244, 0x020E0288, _UL),
    (0x020E0490, 0x020E04B4, _UL),
    (0x020E0294, 0x020E02C0, ("imx6sll",)),
    (0x020E052C, 0x020E052C, ("imx6sll",)),
    (0x020E02EC, 0x020E0340, ("imx6sx",)),
    (0x020E05F4, 0x020E05F4, ("imx6sx",)),
    (0x020E0300, 0x020E0350, ("imx6sl",)),
    (0x020E05AC, 0x020E05AC, ("imx6sl",)),
    (0x020E0464, 0x020E04D8, _DUAL_LITE),
    (0x020E050C, 0x020E05C4, _QUAD),
    (0x307A0000, 0x307AFFFF, _SEVEN),
    (0x40AB0000, 0x40ABFFFF, ("imx7ulp",)),
    (0x400AE000, 0x400AEFFF, ("vf610", "vf500")),
)
# HABv4 API Reference Manual, "DCD commands": Write Data, with pairs of address and value; Check Data, address first.
_WRITE, _CHECK = 0xCC, 0xCF
_MOST_COMMANDS = 512
_CHUNK = 1 << 16
_LONGEST = 32
_CHIPS = frozenset(
    b"fsl," + name.encode()
    for name in ("imx6q", "imx6qp", "imx6dl", "imx6sx", "imx6sl", "imx6sll", "imx6ul", "imx6ull", "imx6ulz", "imx7d",
                 "imx7s", "imx7ulp")
)  # fmt: skip


def chips_of(dcd: bytes) -> tuple[str, ...]:
    """Return the names of the chips that a DCD can be for: those that have all known registers that it uses.

    Empty if it uses no known register, or no chip has all of them.
    """
    found: set[str] | None = None
    for address in _addresses(dcd):
        of = {name for first, last, names in _REGISTERS if first <= address <= last for name in names}
        if of:
            found = of if found is None else found & of
    return tuple(sorted(found or ()))


def _addresses(dcd: bytes) -> Iterator[int]:
    position = 4
    for _ in range(_MOST_COMMANDS):
        if position + 8 > len(dcd):
            return
        tag, length, _parameter = struct.unpack_from(">BHB", dcd, position)
        if length < 4 or position + length > len(dcd):
            return
        step = 8 if tag == _WRITE else length
        if tag in (_WRITE, _CHECK):
            for place in range(position + 4, position + length - 3, step):
                yield struct.unpack_from(">I", dcd, place)[0]
        position += length


def tree_of(data: Buffer) -> str | None:
    """Return the `compatible` of i.MX in the device trees of the file; None if none is found, or they differ.

    It is only a hint: U-Boot for one chip can contain the trees of others.
    """
    found: set[str] = set()
    # Device trees are on a multiple of 4, and the name of a chip is a separate string in them.
    for start in range(0, len(data), _CHUNK):
        part = data[start : min(start + _CHUNK + _LONGEST, len(data))]
        place = -1
        for _ in range(_MOST_COMMANDS):
            place = part.find(b"\0fsl,imx", place + 1)
            if place < 0:
                break
            end = part.find(b"\0", place + 1)
            # A name without an end can be the start of a longer name.
            text = part[place + 1 : max(0, end)]
            if text in _CHIPS:
                found.add(text.decode())
    return found.pop() if len(found) == 1 else None
