"""Serial download: the host runs the DCD from the chip's internal memory, and sends the image with no pointer to it.

On a closed chip HAB checks both. So the image is signed as it is sent, with 0 as the IVT's pointer to the DCD, and the
DCD again at the address that the host writes it to; the file keeps its pointer, which the host needs to find the DCD.
Such a file fails from flash, where the ROM sees the pointer.

Sources: NXP AN4581, appendix F; uuu, libuuu/sdp.cpp; barebox, scripts/imx/imx.c (do_hab_blocks);
lmp-tools, security/imx_hab4/sign-file.sh (--fix-sdp-dcd).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from digsigd.hab import Block, Ivt
from digsigd.image.chips import Chip
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Patch, Plan
from digsigd.image.regions import RegionMap
from digsigd.image.rom import DCD_POINTER, Header

# External memory begins there on i.MX 6Quad to Solo, and higher on others; the 7ULP's OCRAM is above that. All have
# their ROM from 0 on, and no memory right after it.
_ROM_END, _DRAM, _OCRAM_7ULP = 0x100000, 0x10000000, 0x2F
# uuu, libuuu/sdp.cpp: it clears the pointer on these, and on others with -cleardcd.
_ALWAYS_CLEARED = frozenset(("imx6q", "imx6d", "imx6qp", "imx6dp", "imx6dl", "imx6s", "imx6sl", "imx6sx"))
_NOTE = "for serial download only: pass the same address for the DCD to uuu"


class Overlaid:
    """A file with patches applied on the fly, without a copy."""

    def __init__(self, data: Buffer, patches: tuple[Patch, ...]) -> None:
        self._data = data
        self._patches = patches

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, part: slice, /) -> bytes:
        start, end, step = part.indices(len(self._data))
        if step != 1:
            raise ValueError("only contiguous bytes can be read")
        found = bytearray(self._data[start:end])
        for patch in self._patches:
            first, last = max(start, patch.offset), min(end, patch.offset + len(patch.data))
            if first < last:
                found[first - start : last - start] = patch.data[first - patch.offset : last - patch.offset]
        return bytes(found)


@dataclass(frozen=True, slots=True)
class Download:
    """The IVT as the host sends it, and the block for the DCD."""

    ivt: Ivt
    block: Block


def download(
    regions: RegionMap, header: Header, dcd: tuple[int, int] | None, address: int, chip: Chip | None = None
) -> Download:
    """Return what is signed of the file for serial download, with the DCD at `address`. Raises `ImageError`."""
    if dcd is None:
        raise ImageError(
            f"the IVT at {header.place:#x} has no DCD, so serial download needs no separate file",
            hint="Leave out --sdp: the same signed file is loaded from flash and over USB.",
        )
    place, length = dcd
    # The host sends the file, from its first byte to the end of what the ROM would load.
    first = max(header.start, header.ivt.base)
    if address % 4 or address + length > 1 << 32:
        raise ImageError(
            f"the address {address:#x} for the DCD is not a 32-bit address on a multiple of 4",
            hint="Check the address of the DCD.",
        )
    if address < header.end and first < address + length:
        raise ImageError(
            f"a DCD of {length:#x} bytes at {address:#x} overlaps the image, which is loaded to {first:#x} to"
            f" {header.end:#x}: both must be in memory when HAB checks them",
            hint="Pass another address, and the same to uuu as -dcdaddr.",
        )
    if not _ROM_END <= address < _DRAM and address >> 24 != _OCRAM_7ULP:
        why = "the chip's ROM" if address < _ROM_END else "memory that only works after the DCD has run"
        raise ImageError(
            f"the DCD cannot be written to {address:#x}: that is {why}",
            hint="Pass an address in the chip's internal memory, and the same to uuu as -dcdaddr (i.MX 6: 0x910000).",
        )
    pointer = header.place + DCD_POINTER
    regions.masks.append(Patch(pointer, struct.pack("<I", 0), "the host sends 0 as the pointer to the DCD"))
    regions.notes.append(
        f"{_NOTE}, -dcdaddr {address:#x}, and -cleardcd to clear the pointer; from flash, a closed board refuses"
        " this file"
    )
    if chip is not None and chip.dcd and address not in chip.dcd:
        usual = " or ".join(f"{one:#x}" for one in chip.dcd)
        regions.notes.append(f"the usual address for the DCD of {chip.title} is {usual}, but {address:#x} was given")
    return Download(replace(header.ivt, dcd=0), Block(address, place, length))


def with_pointer(plan: Plan) -> Plan | None:
    """Return the plan of a file signed with its pointer to the DCD, as Digi's scripts do; None if uuu clears it."""
    chips = [chip.title for chip in plan.possible if chip.name not in _ALWAYS_CLEARED]
    if not plan.masks or (plan.possible and not chips):
        return None
    only = f" (correct on {' or '.join(chips)} only)" if len(chips) < len(plan.possible) else ""
    note = (
        f"{_NOTE}, without -cleardcd{only}: the pointer to the DCD is signed and must stay; from flash, a closed board"
        " refuses this file"
    )
    notes = tuple(note if one.startswith(_NOTE) else one for one in plan.notes)
    return replace(plan, masks=(), notes=notes)
