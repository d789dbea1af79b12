"""What a boot ROM reads first: the IVT, the boot data after it, and the DCD, for chips other than i.MX 8M.

Sources: HABv4 API Reference Manual, 3.4 and "Image Vector Table"; U-Boot, tools/imximage.c (set_imx_hdr_v2) and
include/imximage.h; barebox, scripts/imx/imx-image.c (add_header_v2); SPSDK, image/hab/segments.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from digsigd.hab import FormatError, Ivt
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE
from digsigd.image.errors import ImageError
from digsigd.image.model import Patch
from digsigd.image.regions import RegionMap

# The IVT's offsets on boot devices, which the boot data's start counts: imximage.h, FLASH_OFFSET_*.
IVT_OFFSETS = (0, 0x100, 0x400, 0x1000)
SMALLEST_ROOM = 0x400
# The largest room that boards keep: CONFIG_CSF_SIZE of Digi's U-Boot. What is after it is not part of a CSF.
LARGEST_ROOM = 0x4000
DCD_TAG = 0xD2
_PLUGIN = 1
DCD_POINTER = 0x0C
# HABv4 API Reference Manual, HAB_DCD_BYTES_MAX.
LARGEST_DCD = 1768
# OCRAM of i.MX 6 and 7, and where i.MX 6Quad has it once more.
_OCRAM = (0x900000, 0xA00000)
# mkimage pads what it makes an image of to this (imximage_generate); other tools the whole image.
_PAGE = 0x1000


@dataclass(frozen=True, slots=True)
class Header:
    """IVT and boot data: the ROM loads `length` bytes to `start`. `plugin` is their flag."""

    ivt: Ivt
    start: int
    length: int
    plugin: int

    @property
    def place(self) -> int:
        """The file offset of the IVT."""
        return self.ivt.offset

    @property
    def end(self) -> int:
        """The address just after what is loaded."""
        return self.start + self.length

    @property
    def distance(self) -> int:
        """The distance in bytes from the start of what is loaded to the IVT."""
        return self.ivt.self_address - self.start

    @property
    def boot_data_offset(self) -> int:
        """The file offset of the boot data."""
        return self.ivt.offset_of(self.ivt.boot_data)

    @property
    def csf_offset(self) -> int:
        """The file offset where the CSF belongs."""
        return self.ivt.offset_of(self.ivt.csf)

    @property
    def room(self) -> int:
        """The number of bytes that the ROM loads from the start of the CSF on, at most `LARGEST_ROOM`."""
        return min(self.end - self.ivt.csf, LARGEST_ROOM)


def peek(data: RegionMap, place: int) -> Header | None:
    """Return IVT and boot data at `place`, unchecked; None if they are not in the file."""
    head = data.data[place : place + IVT_SIZE]
    try:
        ivt = Ivt.parse(head, place)
    except FormatError:
        return None
    boot_data = ivt.offset_of(ivt.boot_data)
    if not ivt.boot_data or boot_data < place or boot_data + BOOT_DATA_SIZE > len(data.data):
        return None
    return Header(ivt, *struct.unpack("<3I", data.data[boot_data : boot_data + BOOT_DATA_SIZE]))


def check(regions: RegionMap, header: Header, rebuild: str) -> None:
    """Raise `ImageError` if a ROM would not start this image with a CSF in it; `rebuild` is the hint for its tool."""
    ivt, where = header.ivt, f"the IVT at {header.place:#x}"
    behind = ivt.self_address + IVT_SIZE <= ivt.boot_data
    if behind and header.plugin == _PLUGIN:
        raise ImageError(
            f"{where} is for a plugin (flag {header.plugin:#x} in the boot data at {header.boot_data_offset:#x}):"
            " the ROM calls it to load the rest, which has a separate IVT, and U-Boot's tools reserve room for a CSF in"
            " neither of them",
            hint="Build the image with a DCD or an SPL instead (CONFIG_USE_IMXIMG_PLUGIN off). Plugins are not signed.",
        )
    if not ivt.csf:
        raise ImageError(
            f"{where} has no CSF pointer, so it is unknown how much of the image is signed",
            hint=rebuild + _by_digi(regions, header),
        )
    second, reserved = (
        int.from_bytes(regions.data[header.place + word : header.place + word + 4], "little") for word in (8, 28)
    )
    if not ivt.self_address + IVT_SIZE <= ivt.entry < ivt.csf or second or reserved or ivt.csf % 4:
        raise ImageError(
            f"{where} for {ivt.self_address:#x} has its entry point at {ivt.entry:#x} and its CSF at {ivt.csf:#x}"
            + (f", and {second:#x} and {reserved:#x} in its reserved words" if second or reserved else ""),
            hint="An image that the ROM loads has its IVT, code and CSF in this order. " + rebuild,
        )
    if not behind or ivt.boot_data > ivt.csf - BOOT_DATA_SIZE or header.plugin:
        flag = f", with the flag {header.plugin:#x}" if header.plugin else ", not in the image"
        raise ImageError(f"{where} has its boot data at {ivt.boot_data:#x}{flag}", hint=rebuild)
    if header.distance not in IVT_OFFSETS:
        raise ImageError(
            f"{where} is at {ivt.self_address:#x} in memory, but the boot data at {header.boot_data_offset:#x} make"
            f" the ROM load from {header.start:#x}, which fits no boot device: the IVT must be at the start, or 0x100,"
            " 0x400 or 0x1000 after it",
            hint=rebuild,
        )
    _check_room(header, rebuild)
    _check_end(regions, header, rebuild)


def _by_digi(regions: RegionMap, header: Header) -> str:
    """Return the changes that Digi's signing script makes in an image that was built without a CSF, or ""."""
    size = len(regions.data) - header.place
    if header.end != header.ivt.self_address + size or size % 4:
        return ""
    return (
        f" Or put the CSF after the image, as Digi's signing script does: write {header.end:#x} to"
        f" {header.place + 0x18:#x} in the file, and {header.length + 0x2000:#x} instead of {header.length:#x} to"
        f" {header.boot_data_offset + 4:#x}."
    )


def _check_room(header: Header, rebuild: str) -> None:
    csf, place = header.ivt.csf, header.boot_data_offset
    if _OCRAM[0] <= header.start < _OCRAM[1] < header.end:
        raise ImageError(
            f"the boot data at {place:#x} make the ROM load {header.start:#x} to {header.end:#x}, but the memory on the"
            f" chip ends before {_OCRAM[1]:#x}",
            hint=rebuild,
        )
    if header.end - csf >= SMALLEST_ROOM:
        return
    what = (
        "in the middle of what is signed"
        if header.end < csf
        else "right where the CSF begins"
        if header.end == csf
        else "in the CSF"
    )
    needed = csf - header.start + 0x2000
    raise ImageError(
        f"the boot data at {place:#x} make the ROM load up to {header.end:#x}, {what} (the CSF belongs at {csf:#x}): it"
        " would not be loaded completely, and a closed board does not boot",
        hint=f"{rebuild} Or add the room for the CSF to the length at {place + 4:#x} in the file, as the signing"
        f" scripts of Digi and Foundries do: write {needed:#x} instead of {header.length:#x}.",
    )


def _check_end(regions: RegionMap, header: Header, rebuild: str) -> None:
    """Pad a file that ends before its CSF. Raise `ImageError` if more than a page is missing.

    mkimage makes such files for QSPI and NOR, and older versions for others as well.
    """
    size, csf = len(regions.data), header.csf_offset
    if size >= csf:
        return
    entry = header.ivt.offset_of(header.ivt.entry)
    if csf - size >= _PAGE or size <= entry:
        raise ImageError(
            f"the IVT at {header.place:#x} has its CSF at {csf:#x} in the file, which has only {size:#x} bytes",
            hint="The file is truncated. " + rebuild,
        )
    regions.patches.append(
        Patch(size, bytes(csf - size), "zeros up to the place of the CSF, which is after the end of the file")
    )


def dcd_of(regions: RegionMap, header: Header, rebuild: str) -> tuple[int, int] | None:
    """Return file offset and length of the DCD, or None without a DCD.

    Raises `ImageError` for a DCD that the ROM refuses.
    """
    ivt = header.ivt
    if not ivt.dcd:
        return None
    place = ivt.offset_of(ivt.dcd)
    inside = ivt.self_address + IVT_SIZE <= ivt.dcd <= ivt.csf - 4
    tag, length = struct.unpack(">BH", regions.data[place : place + 3]) if inside else (0, 0)
    if not inside or tag != DCD_TAG or not 4 <= length <= LARGEST_DCD or ivt.dcd + length > ivt.csf:
        raise ImageError(
            f"the IVT at {ivt.offset:#x} has its DCD at {ivt.dcd:#x}"
            + (f", but {regions.data[place : place + 4].hex(' ')} is there" if inside else ", not in the image"),
            hint=f"A DCD begins with d2 and has 4 to {LARGEST_DCD} bytes. " + rebuild,
        )
    start = ivt.boot_data
    if start < ivt.dcd + length and ivt.dcd < start + BOOT_DATA_SIZE:
        raise ImageError(
            f"the IVT at {ivt.offset:#x} has its DCD at {ivt.dcd:#x}, {length:#x} bytes, over its boot data at"
            f" {start:#x}",
            hint=rebuild,
        )
    return place, length
