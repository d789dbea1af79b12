"""Images that mkimage makes for i.MX 6, 7 and 7ULP: U-Boot with a DCD, an SPL, and what the SPL loads after it.

Sources: U-Boot, tools/imximage.c (set_imx_hdr_v2, imximage_set_header), arch/arm/mach-imx/Makefile (u-boot-nand.imx,
u-boot-with-spl.imx: the second part is at CONFIG_SPL_PAD_TO) and spl.c; doc/imx/habv4/guides/mx6_mx7_secure_boot.txt
and mx6_mx7_spl_secure_boot.txt.
"""

from __future__ import annotations

from digsigd.hab import Block
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE
from digsigd.image import fdt, uimage
from digsigd.image.chip_clues import chips_of, tree_of
from digsigd.image.chips import Chip
from digsigd.image.errors import ImageError
from digsigd.image.fit_plan import plan_fit
from digsigd.image.model import Signing
from digsigd.image.ocram import bounds_note
from digsigd.image.options import CHIPS_32, Kind, Options, settle
from digsigd.image.regions import RegionMap, first_used
from digsigd.image.rom import SMALLEST_ROOM, Header, check, dcd_of
from digsigd.image.sdp import download
from digsigd.image.unsupported import stranger

_REBUILD = "Build the image again with room for a CSF (U-Boot: CONFIG_IMX_HAB; imximage: CSF 0x2060)."
_CONFIGURATION_SIZE = 0x1000
_CONFIGURATION_AT = 0x400
# lmp-tools, security/imx_hab4/sign-file.sh (--m4app): QSPI of the M4, and its tightly coupled memory.
_M4_7ULP = ((0x04000000, 0x06000000), (0x1FFC0000, 0x20000000))


def plan(regions: RegionMap, header: Header, front: str, wanted: Options) -> Kind:
    """Return the plan for an image for i.MX 6, 7 or 7ULP; `front` is what precedes its IVT. Raises `ImageError`."""
    _check_core(header, wanted.chip)
    check(regions, header, _REBUILD)
    dcd = dcd_of(regions, header, _REBUILD)
    named = chips_of(regions.data[dcd[0] : dcd[0] + dcd[1]]) if dcd is not None else ()
    target = settle(wanted.chip, named or CHIPS_32, "according to its DCD, the image" if named else "the image")
    _hint_of_tree(regions, target.chip, named)
    ivt, blocks = header.ivt, [Block(header.ivt.self_address, header.place, header.csf_offset - header.place)]
    if wanted.sdp is not None:
        sent = download(regions, header, dcd, wanted.sdp, target.chip)
        ivt, blocks = sent.ivt, [*blocks, sent.block]
    place = first_used(regions.data, min(len(regions.data), header.csf_offset + header.room), len(regions.data))
    # What follows an SPL can take part of the room for its CSF.
    second = _second(regions, header)
    end = header.csf_offset + header.room
    if second is not None:
        end, place = second, second
    if end - header.csf_offset < SMALLEST_ROOM:
        raise ImageError(
            f"the CSF at {header.csf_offset:#x} has room for only {end - header.csf_offset:#x} bytes, before the data"
            f" at {end:#x}",
            hint="Build the image with a larger CONFIG_SPL_PAD_TO.",
        )
    if ocram := bounds_note(target.chip, header):
        regions.notes.append(ocram)
    name = "image" if place is None else "SPL"
    signing = Signing(name, ivt, tuple(blocks), header.csf_offset, end - header.csf_offset)
    _draw(regions, header, dcd, front, signing)
    layout = "image with an IVT" + (f", {front}" if front else "") + (" for serial download" if wanted.sdp else "")
    if place is None:
        _check_alone(header, wanted)
        return Kind(layout, (signing,), target)
    if wanted.sdp is not None:
        raise ImageError(
            f"data follow the image at {place:#x}, but over USB the ROM accepts a single image only",
            hint="Use the SPL (or u-boot.imx) alone for serial download.",
        )
    more, what = _behind(regions, place, wanted)
    return Kind(f"SPL{f', {front}' if front else ''} and {what}", (signing, *more), target)


def _check_core(header: Header, chip: Chip | None) -> None:
    """Raise `ImageError` for an image for a Cortex-M. The M4 of i.MX 7ULP has a separate HAB and fuses."""
    at = header.ivt.self_address
    is_m4 = header.place == _CONFIGURATION_SIZE and any(first <= at < last for first, last in _M4_7ULP)
    if is_m4 or (header.ivt.entry % 2 and chip is not None and chip.name == "imx7ulp"):
        raise ImageError(
            f"the IVT at {header.place:#x} is for {at:#x} with the entry point {header.ivt.entry:#x}: an image for the"
            " M4 of i.MX 7ULP, which has a separate HAB and separate SRK fuses. Only one script is known that signs for"
            " it, and no document by NXP",
            hint="Fill in its CSF pointer and boot data, write a CSF description and sign it with that (digsign cst).",
        )
    if header.ivt.entry % 2:
        raise ImageError(
            f"the IVT at {header.place:#x} has an odd entry point, {header.ivt.entry:#x}: an image for a Cortex-M",
            hint="Pass --soc with the i.MX RT that it is for.",
        )


def _second(regions: RegionMap, header: Header) -> int | None:
    """Return the file offset of a second part inside the room that the boot data keep for the CSF, or None."""
    data = regions.data
    for place in range(-(-header.csf_offset // 0x400) * 0x400, header.csf_offset + header.room, 0x400):
        if data[place : place + 4] in (fdt.MAGIC, uimage.MAGIC):
            return place
    return None


def _behind(regions: RegionMap, place: int, wanted: Options) -> tuple[tuple[Signing, ...], str]:
    start = regions.data[place : place + 4]
    if start == fdt.MAGIC:
        fit = plan_fit(regions, place, wanted)
        return fit.signings, "FIT with external data" if fit.external else "FIT with embedded data"
    if start == uimage.MAGIC:
        return (uimage.plan_second(regions, place, wanted),), "u-boot-ivt.img"
    raise stranger(regions.data, place)


def _check_alone(header: Header, wanted: Options) -> None:
    if wanted.load_address is not None and wanted.load_address != header.ivt.entry:
        raise ImageError(
            f"the ROM loads this image to {header.ivt.entry:#x} according to its IVT at {header.place:#x}, not to"
            f" {wanted.load_address:#x}",
            hint="Leave out the load address: the image has one.",
        )
    if wanted.configuration is not None:
        raise ImageError(
            f"no FIT in this image, so configuration {wanted.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )


def _hint_of_tree(regions: RegionMap, chip: Chip | None, named: tuple[str, ...]) -> None:
    """Add a note with the chip that a device tree in the image names."""
    tree = tree_of(regions.data)
    if tree is None:
        return
    name = tree.removeprefix("fsl,")
    if chip is None:
        regions.notes.append(f"a device tree in the image is for {tree}: a hint, if U-Boot's tree is for this board")
    elif name != chip.name and name not in named:
        regions.notes.append(f"a device tree in the image is for {tree}, but the image is signed for {chip.title}")


def _draw(regions: RegionMap, header: Header, dcd: tuple[int, int] | None, front: str, signing: Signing) -> None:
    place, csf = header.place, header.csf_offset
    if front == "QSPI":
        regions.add(_CONFIGURATION_AT, _CONFIGURATION_SIZE - _CONFIGURATION_AT, "QSPI configuration, not signed")
    elif front == "FlexSPI":
        regions.add(0, _CONFIGURATION_SIZE, "FlexSPI configuration, not signed")
    elif front and front != "NAND":
        regions.add(0, place, f"{front} of the IVT, not signed")
        regions.notes.append(f"the data before the IVT at {place:#x} are not signed, and the ROM does not read them")
    elif front == "NAND":
        regions.add(0, 0x10, "NAND marker, not signed")
    known = [(place, IVT_SIZE, "IVT"), (header.boot_data_offset, BOOT_DATA_SIZE, "boot data")]
    if dcd is not None:
        known.append((*dcd, "DCD"))
    at = place
    for start, length, name in sorted(known):
        regions.add(at, start - at, "image header")
        regions.add(start, length, name)
        at = start + length
    regions.add(at, csf - at, "code")
    regions.must.append((place, csf - place))
    regions.add_room(signing.csf_offset, signing.csf_room, f"room for the CSF of the {signing.name}")
