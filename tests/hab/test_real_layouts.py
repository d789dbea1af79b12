"""Layouts of real tools, with the numbers that they print: what boards boot is never refused.

Each is named by the tool and its page; the bytes of the images are made up, the addresses and offsets are the tool's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest

from digsigd import hab

DCD_SIZE = 0x1E8


def table(entry: int, self_address: int, csf: int, *, boot_data: int = 0, dcd: int = 0, version: int = 0x41) -> bytes:
    """An IVT."""
    return bytes([0xD1, 0, 0x20, version]) + struct.pack("<7I", entry, 0, dcd, boot_data, self_address, csf, 0)


def start_of(
    entry: int, self_address: int, csf: int, load: int, length: int, *, plugin: int = 0, dcd: int = 0, dcd_size: int = 0
) -> bytes:
    """IVT, boot data behind it, and the DCD behind that."""
    head = table(entry, self_address, csf, boot_data=self_address + 0x20, dcd=dcd, version=0x40)
    head += struct.pack("<3I", load, length, plugin)
    return head + (struct.pack(">BHB", 0xD2, dcd_size, 0x40).ljust(dcd_size, b"\x01") if dcd_size else b"")


def file_of(size: int, **parts: tuple[int, bytes]) -> bytes:
    """A file of `size` bytes with these parts at their offsets."""
    data = bytearray(b"\x5a" * size)
    for offset, part in parts.values():
        data[offset : offset + len(part)] = part
    return bytes(data)


@dataclass(frozen=True)
class Real:
    """A file, its commands' blocks, and the bytes of room for the CSF."""

    data: bytes = field(repr=False)
    commands: list[list[tuple[int, int, int]]]
    room: int | None


def spl(ivt_at: int, load: int, signed: int, *, first: int = 0) -> Real:
    """imx-mkimage, iMX8M: 0x2000 bytes for the CSF. `first` is where the ROM's image begins before the IVT."""
    address = load - 0x40
    head = start_of(load, address, address + signed, address - first, first + signed + 0x2000)
    data = file_of(ivt_at + signed + 0x2000, head=(ivt_at, head))
    return Real(data, [[(address, ivt_at, signed)]], 0x2000)


def fit(
    at: int, tree: int, extra: list[tuple[int, int, int]], *, fdt: bool = False, load: int = 0, entry: int = 0
) -> Real:
    """imx-mkimage's FIT: IVT behind the tree, CSF behind the IVT, parts at 0x5000 and more from its start.

    With `fdt` the second IVT and CSF, whose block covers the first ones.
    """
    load = load or (0x40200000 - (tree + 0x4000) - 512 - 63) & ~63
    parts = {"ivt": (at + tree, table(entry or load, load + tree, load + tree + 0x20, version=0x40))}
    block = (load, at, tree + 0x20)
    room = 0x2000 - 0x20
    if fdt:
        second = load + tree + 0x2000
        parts["second"] = (at + tree + 0x2000, table(load, second, second + 0x20, version=0x40))
        block = (load, at, tree + 0x2020)
    data = file_of(at + 0x5000 + 0x200000, **parts)
    first_part = min([at + 0x5000] + [offset for _, offset, _ in extra])
    room = first_part - (block[1] + block[2]) if extra else len(data) - (block[1] + block[2])
    return Real(data, [[block, *extra]], room)


def kernel(load: int, size: int, entry: int, *, room: int = 0) -> Real:
    """As genIVT in U-Boot's documents: an IVT behind the padded image, without boot data."""
    data = file_of(size + 0x20 + room, ivt=(size, table(entry, load + size, load + size + 0x20)))
    return Real(data, [[(load, 0, size + 0x20)]], room or None)


def u_boot(address: int, signed: int, commands: list[list[tuple[int, int, int]]], *, dcd: bool = True) -> Real:
    """U-Boot's mkimage, imximage: DCD behind the boot data, entry 0xc00 behind the IVT."""
    where, size = (address + 0x2C, DCD_SIZE) if dcd else (0, DCD_SIZE)
    head = start_of(
        address + 0xC00, address, address + signed, address - 0x400, 0x400 + signed + 0x2000, dcd=where, dcd_size=size
    )
    return Real(file_of(signed, head=(0, head)), commands, 0x2000)


def barebox(commands: list[list[tuple[int, int, int]]]) -> Real:
    """As barebox's imx-image: IVT 0x400 behind the start of the file, which is loaded whole."""
    load, size = 0x27800000, 0x9000
    head = start_of(load + 0x1000, load + 0x400, load + size, load, size + 0x2000)
    return Real(file_of(size, head=(0x400, head)), commands, 0x2000)


U_BOOT, SIZE = 0x877FF400, 0x81C00
SERIAL_DCD = (0x910000, 0x2C, DCD_SIZE)
LOAD = 0x27800000

REAL = {
    "i.MX8MM SPL": spl(0, 0x7E1000, 0x2C400, first=0x400),
    "i.MX8MN SPL": spl(0, 0x912000, 0x2C400),
    "i.MX8MP SPL": spl(0, 0x920000, 0x2DFC0),
    "i.MX8MP SPL, FlexSPI": spl(0x1000, 0x920000, 0x2DFC0, first=0x1000),
    "i.MX8MQ SPL behind the HDMI firmware": spl(0x1A400, 0x7E1000, 0x2C400, first=0x400),
    "NXP FIT": fit(
        0x57C00,
        0x1000,
        [
            (0x40200000, 0x5CC00, 0x9AAC8),
            (0x4029AAC8, 0xF76C8, 0x6DCF),
            (0x920000, 0xFE800, 0x9138),
            (0xBE000000, 0x108000, 0x4D268),
        ],
    ),
    "NXP FIT, a tree of two pages": fit(0x58000, 0x2000, [(0x40200000, 0x5D000, 0x80000), (0x970000, 0xE0000, 0xA000)]),
    "NXP FIT with its FDT": fit(0x57C00, 0x1000, [], fdt=True),
    "NXP FIT with its FDT alone": fit(0, 0x1000, [], fdt=True),
    "binman FIT": fit(0, 0x7000, [], load=0x40200000, entry=0x40207000),
    "kernel for i.MX8M": kernel(0x40480000, 0x8E000, 0x40480000),
    "kernel for i.MX7": kernel(0x80800000, 0x76000, 0x80800000, room=0x2000),
    "uImage for i.MX6": kernel(0x10800000, 0x69F000, 0x10801000, room=0x2000),
    "U-Boot for i.MX6ULL": u_boot(U_BOOT, SIZE, [[(U_BOOT, 0, SIZE)]]),
    "U-Boot for i.MX6ULL, its DCD cleared": u_boot(U_BOOT, SIZE, [[(U_BOOT, 0, SIZE)]], dcd=False),
    "U-Boot and the DCD of serial download, two commands": u_boot(U_BOOT, SIZE, [[(U_BOOT, 0, SIZE)], [SERIAL_DCD]]),
    "U-Boot and the DCD of serial download, one command": u_boot(U_BOOT, SIZE, [[(U_BOOT, 0, SIZE), SERIAL_DCD]]),
    "the DCD of serial download first": u_boot(U_BOOT, SIZE, [[SERIAL_DCD, (U_BOOT, 0, SIZE)]], dcd=False),
    "a small SPL below the DCD of serial download": u_boot(0x907400, 0x6C00, [[(0x907400, 0, 0x6C00)], [SERIAL_DCD]]),
    "the DCD of serial download where the boot data begin": u_boot(
        0x907400, 0xE000, [[(0x907400, 0, 0xE000)], [(0x907000, 0x2C, DCD_SIZE)]], dcd=False
    ),
    "i.MX7ULP, DCD just before the IVT": u_boot(
        0x2F010400, 0x21C00, [[(0x2F010000, 0x2C, DCD_SIZE)], [(0x2F010400, 0, 0x21C00)]], dcd=False
    ),
    "barebox, from the DCD on": barebox([[(LOAD + 0x400, 0x400, 0x8C00)]]),
    "barebox, full": barebox([[(LOAD, 0, 0x9000)]]),
    "barebox, without the MBR": barebox([[(LOAD, 0, 440), (LOAD + 512, 512, 0x8E00)]]),
    "Teensy 4": Real(
        file_of(0x9000, head=(0x1000, start_of(0x60002000, 0x60001000, 0x60003C40, 0x60000000, 0x800000))),
        [[(0x60001000, 0x1000, 0x2C40)]],
        0x9000 - 0x3C40,
    ),
    "i.MX RT in RAM, in pieces": Real(
        file_of(0x6800, head=(0x400, start_of(0x20000841, 0x20000400, 0x20006800, 0x20000000, 0x8800))),
        [[(0x20000400, 0x400, 0x30), (0x20000430, 0x430, 0x410), (0x20000840, 0x840, 0x5FC0)]],
        0x2000,
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_what_boards_boot_is_right(name: str) -> None:
    """The IVT is found, and the room for the CSF is what the tool leaves, None where the CSF goes to the file's end."""
    real = REAL[name]
    blocks = [[hab.Block(*block) for block in command] for command in real.commands]
    found = hab.check_layout(blocks, [hab.File.of(real.data)])
    assert len(found.ivts) == 1
    assert found.room == real.room
