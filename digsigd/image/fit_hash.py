"""The SHA-256 of the FIT's tree that newer imx-mkimage appends to the SPL, against CVE-2023-39902.

Sources: imx-mkimage, iMX8M/mkimage_imx8.c (LFU-573-1: calc_fitimage_hash, append_data) and soc.mak (DDR firmware in
slots of 0x8000, 0x4000, 0x8000, 0x4000); uboot-imx, arch/arm/mach-imx/spl.c (spl_verify_fit_hash: 0x18000 after the
SPL). The SPL refuses a tree with another hash, unless it has CONFIG_IMX_SPL_FIT_FDT_SIGNATURE.
"""

from __future__ import annotations

from digsigd.hab.ivt import IVT_SIZE
from digsigd.image.errors import ImageError
from digsigd.image.fit_plan import FitPlan
from digsigd.image.regions import RegionMap, digest
from digsigd.image.spl import Spl

HASH_SIZE = 32
DDR_FIRMWARE_SIZE = 0x18000
# mkimage_imx8.c pads the SPL to sectors.
_SECTOR = 0x200


def check_hash(regions: RegionMap, spl: Spl, fit_offset: int, fit: FitPlan, *, required: bool) -> int | None:
    """Return the file offset of the hash of the FIT's tree in the SPL, and add the SPL's regions; None without a hash.

    Raises `ImageError` if the hash is `required`, the FIT shows that imx-mkimage appended one, and it does not match.
    """
    if not fit.external:
        return None
    data = regions.data
    tree_size = int.from_bytes(data[fit_offset + 4 : fit_offset + 8], "big")
    wanted = digest(data, fit_offset, tree_size)
    start = max(spl.ivt.offset + IVT_SIZE, spl.csf_offset - _SECTOR - HASH_SIZE)
    tail = data[start : spl.csf_offset]
    found = tail.find(wanted)
    if found < 0 or any(tail[found + HASH_SIZE :].replace(wanted, b"")):
        if fit.fdt_signed and required:
            raise ImageError(
                f"the SPL does not hold the SHA-256 of the FIT's tree at {fit_offset:#x} ({wanted.hex()}) before its"
                f" CSF at {spl.csf_offset:#x}: the tree has changed since imx-mkimage appended the hash, so SPL"
                " refuses it",
                hint="Run imx-mkimage again with a new u-boot-spl-ddr.bin: it appends the hash to that file. An"
                " SPL with CONFIG_IMX_SPL_FIT_FDT_SIGNATURE needs no hash: for that, pass `--fit-fdt required`.",
            )
        if fit.fdt_signed:
            return None
        regions.notes.append(
            "the SPL does not hold the hash of the FIT's tree that imx-mkimage appends since 2023: SPL uses the tree"
            " before HAB checks it (CVE-2023-39902)"
        )
        return None
    place = start + found
    if any(data[place - 4 : place]):
        regions.notes.append(
            f"the 32 bytes before the hash of the FIT's tree at {place:#x} are not empty; if they are the hash of an"
            " earlier run of imx-mkimage on the same u-boot-spl-ddr.bin, SPL compares with that hash and refuses the"
            " FIT"
        )
    code = spl.ivt.offset + IVT_SIZE
    firmware = place - DDR_FIRMWARE_SIZE
    if firmware > code:
        regions.add(code, firmware - code, "SPL")
        regions.add(firmware, DDR_FIRMWARE_SIZE, "DDR firmware")
    else:
        regions.add(code, place - code, "SPL with DDR firmware")
    regions.add(place, HASH_SIZE, "hash of the FIT's tree")
    regions.add(place + HASH_SIZE, spl.csf_offset - place - HASH_SIZE, "end of the SPL")
    return place
