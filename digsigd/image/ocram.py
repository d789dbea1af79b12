"""The bounds in the memory on the chip that the ROMs of newer silicon enforce.

Since the fix of ERR010872 and ERR010873 (NXP, ICSA-17-152-02) a ROM refuses an image whose start and size, rounded up
to what the boot device reads at once, reach beyond the memory that it leaves to images: boards with i.MX 6UltraLite of
silicon 1.2 report INV_ADDRESS for a size of 0x11060 at 0x907000.
"""

from __future__ import annotations

from digsigd.image.chips import Chip
from digsigd.image.regions import aligned
from digsigd.image.rom import Header

# (bytes, boot device): SD and eMMC read blocks, NAND reads pages.
_UNITS = ((0x200, "SD"), (0x4800, "NAND"))
# Memory on the chip of i.MX 6 and 7.
_FIRST, _LAST = 0x900000, 0x980000


def bounds_note(chip: Chip | None, header: Header) -> str | None:
    """Return a warning if newer silicon refuses the image; None if it does not, or no bounds are known."""
    if chip is None or chip.ocram is None or not _FIRST <= header.start < _LAST:
        return None
    first, end = chip.ocram
    for unit, device in _UNITS:
        last = header.start + aligned(header.length, unit)
        if header.start < first or last > end:
            return (
                f"{chip.title} of newer silicon leaves {first:#x} to {end - 1:#x} of its memory to images, but this one"
                f" is loaded to {header.start:#x} up to {last:#x} (from {device}, in pieces of {unit:#x}): the ROM"
                " refuses it with INV_ADDRESS; make the SPL or the room for its CSF smaller"
            )
    return None
