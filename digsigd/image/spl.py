"""The image that the boot ROM loads: an IVT with boot data, then for i.MX 8M the SPL with its DDR firmware.

Sources: NXP imx-mkimage, iMX8M/mkimage_imx8.c (main) and scripts/fspi_packer.sh; U-Boot, tools/imx8mimage.c
(build_image) and tools/binman/etype/nxp_imx8mcst.py. All of them write the file without the bytes that the boot device
has in front of the IVT (0x400, or none where the ROM is of version 2), but for FlexSPI and QSPI: there the device's
configuration is in the first 0x1000 bytes (tags and places: uboot-imx, arch/arm/mach-imx/cmd_qspihdr.c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from digsigd.hab import Block, Ivt
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE, looks_like_ivt
from digsigd.image import imx8m
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Signing
from digsigd.image.regions import RegionMap, first_used, last_used
from digsigd.image.rom import LARGEST_DCD

# CSF_SIZE of mkimage_imx8.c and imx8mimage.c. imx-mkimage makes the ROM load 0x60 bytes more, for a DEK blob after it.
CSF_SIZE = 0x2000
SMALLEST_ROOM = 0x400
# mkimage_imx8.c: HDMI_IMAGE_FLAG_MASK marks HDMI and DisplayPort firmware. It has an IVT in front and one after it;
# the next image is a multiple of 0x1a000 further on with imx-mkimage, of 0x1000 with binman (imx8mq-u-boot.dtsi).
_HDMI = 2
_HDMI_STEP = 0x400
_LONGEST_HDMI = 0x100000
# The configuration of FlexSPI is at 0 on the Mini, at 0x400 on others, and begins with its tag; that of QSPI ends
# with it. (place, place of the tag, tag, what it is)
_CONFIGURED_SIZE = 0x1000
_CONFIGURED = (
    (0, 0, b"FCFB", "FlexSPI"),
    (0x400, 0x400, b"FCFB", "FlexSPI"),
    (0x400, 0x5FC, b"\x01\xee\xff\xc0", "QSPI"),
    # As imx-mkimage's scripts/fspi_packer.sh writes the words of scripts/qspi_header.
    (0x400, 0x5FC, b"\xc0\xff\xee\x01", "QSPI"),
)
# What the boot data's start may count in front of the IVT: the IVT's offsets on boot devices.
_FIRST_LOADED = (0, 0x400, 0x1000)
# Behind all memory on a chip that an SPL is loaded to: OCRAM is below 0x990000 on the Plus, which has most.
_END_ON_CHIP = 0xA00000
# Version byte of the IVT that the i.MX 8M tools write (IVT_VERSION, IVT_VERSION_V3).
_VERSION_8M = 0x41
_REBUILD = "Build the image again with imx-mkimage or U-Boot."


@dataclass(frozen=True, slots=True)
class Spl:
    """The image that the ROM loads.

    `second` is the file offset of the second loader as the IVT gives it, or None. `front` is what precedes the IVT: "",
    "FlexSPI", "QSPI" or "HDMI". `room` is the number of bytes kept for the CSF.
    """

    ivt: Ivt
    entry: int
    front: str
    second: int | None
    csf_offset: int
    room: int
    is_8m: bool

    @property
    def end(self) -> int:
        """The file offset just after the room for its CSF."""
        return self.csf_offset + self.room

    def signing(self, name: str, *, unlock: bool) -> Signing:
        """Return the signing of this image: one block from its IVT to its CSF."""
        length = self.ivt.csf - self.ivt.self_address
        block = Block(self.ivt.self_address, self.ivt.offset, length)
        return Signing(name, self.ivt, (block,), self.csf_offset, self.room, unlock)


def find_spl(regions: RegionMap) -> Spl | None:
    """Return the image that the ROM loads from this file, or None if the file does not look like one.

    Raises `ImageError` if its IVT or boot data are invalid.
    """
    data = regions.data
    if looks_like_ivt(data[:IVT_SIZE]):
        return _read_behind_hdmi(regions, 0) if _flag(data, 0) == _HDMI else _read(regions, 0, "")
    for place, tag_place, tag, name in _CONFIGURED:
        if data[tag_place : tag_place + len(tag)] == tag:
            regions.add(place, _CONFIGURED_SIZE - place, f"{name} configuration")
            found = data[_CONFIGURED_SIZE : _CONFIGURED_SIZE + IVT_SIZE]
            if not looks_like_ivt(found):
                raise ImageError(
                    f"there is a {name} configuration at {place:#x}, but no IVT at {_CONFIGURED_SIZE:#x}, where the"
                    f" ROM looks for it: {found[:4].hex(' ')}",
                    hint=_REBUILD,
                )
            return _read(regions, _CONFIGURED_SIZE, name)
    if looks_like_ivt(data[0x400 : 0x400 + IVT_SIZE]) and first_used(data, 0, 0x400) is None:
        return _read_behind_hdmi(regions, 0x400) if _flag(data, 0x400) == _HDMI else _read(regions, 0x400, "")
    return None


def _flag(data: Buffer, place: int) -> int | None:
    """Return the plugin flag in the boot data after the IVT, or None without boot data."""
    self_address, boot_data = (struct.unpack("<I", data[place + at : place + at + 4])[0] for at in (0x14, 0x10))
    found = place + boot_data - self_address
    if not boot_data or found < place or found + BOOT_DATA_SIZE > len(data):
        return None
    return int(struct.unpack("<I", data[found + 8 : found + 12])[0])


def _read_behind_hdmi(regions: RegionMap, first: int) -> Spl:
    """Read the image after HDMI or DisplayPort firmware, whose IVT is at `first`."""
    data = regions.data
    for place in range(first + _HDMI_STEP, min(first + _LONGEST_HDMI, len(data)), _HDMI_STEP):
        if looks_like_ivt(data[place : place + IVT_SIZE]) and _flag(data, place) != _HDMI:
            regions.add(0, place, "HDMI or DisplayPort firmware, signed by NXP")
            end = last_used(data, place)
            regions.foreign.append((first, end - first))
            regions.notes.append(
                f"the HDMI or DisplayPort firmware at {first:#x} to {end:#x} also runs, under a signature by NXP"
                " that cannot be checked here"
            )
            if not _has_csf(data, first, place):
                regions.notes.append(
                    f"no IVT of the firmware at {first:#x} points to a CSF within it: it is not signed by NXP, and a"
                    " closed board does not run it"
                )
            return _read(regions, place, "HDMI")
    raise ImageError(
        f"the HDMI or DisplayPort firmware at {first:#x}, which only NXP can sign, is not followed by the IVT of"
        " an SPL",
        hint="The firmware alone needs no further signature. Sign a whole flash.bin.",
    )


def _has_csf(data: Buffer, first: int, end: int) -> bool:
    """Return whether an IVT of NXP's firmware points to something that begins like a CSF."""
    for place in range(first, end - IVT_SIZE, _HDMI_STEP):
        head = data[place : place + IVT_SIZE]
        if looks_like_ivt(head):
            ivt = Ivt.parse(head, place)
            csf = ivt.offset_of(ivt.csf)
            if ivt.csf and place < csf < end - 4 and data[csf : csf + 1] == b"\xd4":
                return True
    return False


def _read(regions: RegionMap, place: int, front: str) -> Spl:
    """Read and check the IVT, which must be at `place`, and its boot data."""
    data = regions.data
    where = f"the IVT at {place:#x}"
    head = data[place : place + IVT_SIZE]
    ivt = Ivt.parse(head, place)
    second, reserved = (struct.unpack_from("<I", head, at)[0] for at in (8, 28))
    if not ivt.csf:
        raise ImageError(
            f"{where} has no CSF pointer, so it is unknown how much of the image is signed",
            hint="Build the image with support for secure boot (CONFIG_IMX_HAB; imximage: CSF).",
        )
    if not ivt.self_address + IVT_SIZE <= ivt.entry < ivt.csf or reserved:
        raise ImageError(
            f"{where} for {ivt.self_address:#x} has its entry point at {ivt.entry:#x} and its CSF at {ivt.csf:#x}"
            + (f", and {reserved:#x} in its last word" if reserved else ""),
            hint="An image that the ROM loads has its IVT, code and CSF in this order. " + _REBUILD,
        )
    csf_offset = ivt.offset_of(ivt.csf)
    if csf_offset > len(data):
        raise ImageError(
            f"{where} has its CSF at {csf_offset:#x} in the file, which has only {len(data):#x} bytes",
            hint="The file is truncated. " + _REBUILD,
        )
    room = _room(data, ivt, where)
    spl = Spl(
        ivt,
        ivt.entry,
        front,
        place + second if second else None,
        csf_offset,
        room,
        head[3] == _VERSION_8M or any(ivt.entry in soc.spl for soc in imx8m.SOCS),
    )
    regions.add(place, IVT_SIZE, "IVT")
    regions.must.append((place, csf_offset - place))
    return spl


def _room(data: Buffer, ivt: Ivt, where: str) -> int:
    """Return how many bytes the ROM loads from the start of the CSF on, at most `CSF_SIZE`. Check boot data and DCD."""
    boot_data = ivt.offset_of(ivt.boot_data)
    inside = ivt.self_address + IVT_SIZE <= ivt.boot_data and ivt.boot_data + BOOT_DATA_SIZE <= ivt.csf
    if not inside:
        raise ImageError(f"{where} has its boot data at {ivt.boot_data:#x}, not in the image", hint=_REBUILD)
    if ivt.dcd and not ivt.self_address + IVT_SIZE <= ivt.dcd < ivt.csf:
        raise ImageError(f"{where} has its DCD at {ivt.dcd:#x}, not in the image", hint=_REBUILD)
    if ivt.dcd:
        place = ivt.offset_of(ivt.dcd)
        head = data[place : place + 4]
        dcd_size = int.from_bytes(head[1:3], "big")
        if head[:1] != b"\xd2" or not 4 <= dcd_size <= LARGEST_DCD or ivt.dcd + dcd_size > ivt.csf:
            raise ImageError(
                f"{where} has its DCD at {ivt.dcd:#x}, but {head.hex(' ')} there is not a DCD, and HAB refuses it",
                hint=_REBUILD,
            )
    start: int
    length: int
    plugin: int
    start, length, plugin = struct.unpack("<3I", data[boot_data : boot_data + BOOT_DATA_SIZE])
    if plugin:
        raise ImageError(
            f"{where} is for a plugin (flag {plugin:#x} in the boot data at {boot_data:#x}), which is not supported",
            hint="Write a CSF description for it and sign it with cst.",
        )
    if ivt.self_address - start not in _FIRST_LOADED:
        raise ImageError(
            f"{where} is at {ivt.self_address:#x} in memory, but the boot data at {boot_data:#x} make the ROM load"
            f" from {start:#x}, which fits no boot device",
            hint=_REBUILD,
        )
    if start < _END_ON_CHIP < start + length:
        raise ImageError(
            f"the boot data at {boot_data:#x} make the ROM load {start:#x} to {start + length:#x}, but the memory on"
            f" the chip ends before {_END_ON_CHIP:#x}",
            hint=_REBUILD,
        )
    room = start + length - ivt.csf
    if room < SMALLEST_ROOM:
        raise ImageError(
            f"the boot data at {boot_data:#x} make the ROM load up to {start + length:#x}, but the CSF is at"
            f" {ivt.csf:#x}: it would not be loaded completely",
            hint="Build the image with room for a CSF (0x2000 bytes).",
        )
    return min(room, CSF_SIZE)
