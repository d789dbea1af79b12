"""Images for i.MX RT: NXP's SPSDK, elftosb and MCUXpresso SDK build them from pieces, with padding between them.

Sources: SPSDK, spsdk/image/hab/hab_image.py (_get_signed_blocks: IVT with boot data, DCD, XMCD, application),
segments/seg_bdt.py, seg_xmcd.py (both 0x40 after the IVT), seg_csf.py (at the next page, 0x2000 bytes) and
data/devices/*/database.yaml (where IVT and FCB are); NXP's reference manuals, "Program image".
"""

from __future__ import annotations

import struct

from digsigd.hab import Block
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE
from digsigd.image.chip_clues import chips_of
from digsigd.image.chips import CHIPS, Chip
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Signing
from digsigd.image.options import Kind, Options, settle
from digsigd.image.regions import RegionMap, aligned, first_used
from digsigd.image.rom import Header, check, dcd_of

_REBUILD = "Build the image again as a signed image (SPSDK and elftosb: flags = 0x08)."
# Flash for execution in place; memory on the chips: ITCM, DTCM and OCRAM.
_FLASH = (0x30000000, 0x60000000, 0x70000000)
_MEMORY = ((0x00000000, 0x00080000), (0x20000000, 0x20400000))
# External memory at the SEMC.
_SDRAM = (0x80000000, 0xE0000000)
_CONFIGURATION_SIZE = 0x1000
# Behind the IVT: boot data with what SPSDK fills them up to, then DCD or XMCD.
_HEADER_SIZE = 0x40
_LARGEST_XMCD = 0x400
# Applications begin with a table of vectors, on a multiple of this at least (SPSDK, seg_app.py: known_offsets).
_APP_ALIGN = 0x100
# SPSDK pads an application to this before it signs it.
_APP_SIZE_ALIGN = 16
_CHUNK = 1 << 16


def is_rt(header: Header, front: str, chip: Chip | None) -> bool:
    """Return whether this is an image for i.MX RT: as `chip` says, or by where the ROM loads it."""
    if chip is not None:
        return chip.family == "i.MX RT"
    if header.start in _FLASH:
        return header.distance == _CONFIGURATION_SIZE and header.ivt.entry > header.start
    inside = any(first <= header.start < last for first, last in _MEMORY)
    return inside and (front == "FlexSPI" or header.ivt.entry % 2 == 1 or header.start >= 0x20000000)


def plan(regions: RegionMap, header: Header, front: str, wanted: Options) -> Kind:
    """Return the plan for an image for i.MX RT; `front` is what precedes its IVT. Raises `ImageError`."""
    data, ivt = regions.data, header.ivt
    if wanted.configuration is not None:
        raise ImageError(
            f"no FIT in this image, so configuration {wanted.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )
    if wanted.load_address is not None and wanted.load_address != header.start:
        raise ImageError(
            f"the boot data make the ROM load this image to {header.start:#x}, not to {wanted.load_address:#x}",
            hint="Leave out the load address: the image has one.",
        )
    if wanted.sdp is not None:
        raise ImageError(
            "it is not confirmed how a closed i.MX RT runs a DCD over USB",
            hint="Leave out --sdp.",
        )
    if header.start not in _FLASH and not any(first <= header.start < last for first, last in (*_MEMORY, _SDRAM)):
        raise ImageError(
            f"the boot data make the ROM load from {header.start:#x}, where i.MX RT has no memory for images"
            + (f", but {wanted.chip.title} was given" if wanted.chip is not None else ""),
            hint="Check the image, and the chip that --soc names.",
        )
    check(regions, header, _REBUILD)
    dcd = dcd_of(regions, header, _REBUILD)
    by_dcd = chips_of(data[dcd[0] : dcd[0] + dcd[1]]) if dcd is not None else ()
    target = settle(wanted.chip, by_dcd or _told(header), "according to its DCD, the image" if by_dcd else "the image")
    xmcd = None if dcd is not None else _xmcd(data, header)
    pieces = [(header.place, header.boot_data_offset + BOOT_DATA_SIZE - header.place, "IVT and boot data")]
    pieces += [(*dcd, "DCD")] if dcd else []
    pieces += [(*xmcd, "XMCD")] if xmcd else []
    first, last = header.place + IVT_SIZE, max(start + length for start, length, _ in pieces)
    if header.boot_data_offset != first:
        raise ImageError(
            f"the IVT at {header.place:#x} has its boot data at {ivt.boot_data:#x}, not right after it", hint=_REBUILD
        )
    app, end = _application(regions, header, last)
    least = [*pieces, (app, end - app, "application")]
    blocks = [_block(header, start, length) for start, length, _ in _filled(header, pieces, app)]
    blocks.append(_block(header, app, header.csf_offset - app))
    signing = Signing(
        "image", ivt, tuple(blocks), header.csf_offset, min(header.room, 0x2000),
        least=tuple(_block(header, start, length) for start, length, _ in least),
    )  # fmt: skip
    _draw(regions, front, least, signing)
    _check_reset(regions, header, app)
    name = "image for i.MX RT" + (", executed in place" if header.start in _FLASH else "")
    return Kind(name + (f", {front}" if front else ""), (signing,), target)


def _told(header: Header) -> tuple[str, ...]:
    """Return the names of the chips with a flash at this address, or of all i.MX RT."""
    family = [chip for chip in CHIPS if chip.family == "i.MX RT"]
    fitting = family
    if header.start in (0x30000000, 0x70000000):
        fitting = [chip for chip in family if chip.flash == header.start]
    return tuple(chip.name for chip in fitting)


def _xmcd(data: Buffer, header: Header) -> tuple[int, int] | None:
    """Return file offset and length of the configuration of external memory, or None.

    Its first word has tag c in the highest bits, its size in bytes in the lowest.
    """
    place = header.place + _HEADER_SIZE
    (word,) = struct.unpack("<I", data[place : place + 4].ljust(4, b"\0"))
    size = word & 0xFFF
    if word >> 28 != 0xC or not 4 <= size <= _LARGEST_XMCD or place + size > header.csf_offset:
        return None
    return place, size


def _application(regions: RegionMap, header: Header, behind: int) -> tuple[int, int]:
    """Return the file offsets of the start and the end of the application, without the padding around it."""
    data, csf = regions.data, min(header.csf_offset, len(regions.data))
    used = first_used(data, behind, csf)
    entry = header.ivt.offset_of(header.ivt.entry)
    if used is None:
        raise ImageError(f"no application: nothing between {behind:#x} and the CSF at {csf:#x}", hint=_REBUILD)
    app = max(behind, used - used % _APP_ALIGN)
    end = min(aligned(_last_used(data, app, csf) + 1, _APP_SIZE_ALIGN), header.csf_offset)
    # The entry point is that of the application, or its table of vectors.
    if entry < app:
        raise ImageError(
            f"the IVT at {header.place:#x} has its entry point at {header.ivt.entry:#x}, but the application begins"
            f" at {app:#x} in the file, {header.ivt.base + app:#x} in memory",
            hint=_REBUILD,
        )
    return app, max(end, entry + 4)


def _check_reset(regions: RegionMap, header: Header, app: int) -> None:
    """Raise `ImageError` if the reset vector is outside the application; an even entry point is a table of vectors."""
    if header.ivt.entry % 2 or regions.encrypted:
        return
    table = header.ivt.offset_of(header.ivt.entry)
    (reset,) = struct.unpack("<I", regions.data[table + 4 : table + 8].ljust(4, b"\0"))
    place = header.ivt.offset_of(reset - 1)
    if not reset % 2 or not app <= place <= header.csf_offset - 2:
        raise ImageError(
            f"the IVT at {header.place:#x} has the table of vectors at {header.ivt.entry:#x}, which makes the core"
            f" start at {reset:#x}: nothing signed is there",
            hint="Link the application to its load address, with its reset handler inside. " + _REBUILD,
        )


def _last_used(data: Buffer, start: int, end: int) -> int:
    """Return the offset of the last byte that is not padding, or `start`."""
    place = end
    while place > start:
        first = max(start, place - _CHUNK)
        rest = data[first:place].rstrip(b"\0\xff")
        if rest:
            return first + len(rest) - 1
        place = first
    return start


def _filled(header: Header, pieces: list[tuple[int, int, str]], app: int) -> list[tuple[int, int, str]]:
    """Return the pieces as SPSDK signs them: boot data extended to 0x20 bytes if nothing else is there."""
    (start, length, name), *others = pieces
    end = min([header.place + _HEADER_SIZE, app, *(other[0] for other in others)])
    return [(start, max(length, end - start), name), *others]


def _block(header: Header, offset: int, length: int) -> Block:
    return Block(header.ivt.base + offset, offset, length)


def _draw(regions: RegionMap, front: str, least: list[tuple[int, int, str]], signing: Signing) -> None:
    if front:
        regions.add(0, _CONFIGURATION_SIZE, f"{front} configuration, not signed")
    for start, length, name in least:
        regions.add(start, length, name)
        regions.must.append((start, length))
    regions.add_room(signing.csf_offset, signing.csf_room, "room for the CSF of the image")
    app = least[-1][0]
    ends = max(start + length for start, length, _ in least[:-1])
    first = max(ends, signing.blocks[0].end)
    if app > first:
        regions.notes.append(
            f"from {first:#x} to {app:#x}, between IVT and application, is padding that no signature covers, as with"
            " NXP's tools; it is empty, and the ROM does not use it"
        )
