"""Images of barebox: their IVT is after barebox's header, which other loaders use; some have two IVTs.

Sources: barebox, scripts/imx/imx-image.c (add_header_v2, add_flexspi_header, hab_sign), scripts/imx/imx.c
(do_hab_blocks, imx8m_get_offset_size), include/mach/imx/imx-header.h, arch/arm/lib/pbl.lds.S and pbl/decomp.c: of i.MX
8M, only the first part (PBL) is signed. It holds the SHA-256 of barebox proper, and compares.
"""

from __future__ import annotations

from dataclasses import replace

from digsigd.hab import Block
from digsigd.hab.ivt import BOOT_DATA_SIZE, IVT_SIZE
from digsigd.image.chip_clues import chips_of
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Signing
from digsigd.image.ocram import bounds_note
from digsigd.image.options import CHIPS_8M, CHIPS_32, Kind, Options, settle
from digsigd.image.regions import RegionMap, first_used
from digsigd.image.rom import Header, check, dcd_of, peek
from digsigd.image.sdp import download

_MAGIC_AT, _MAGIC = 0x20, b"barebox\0"
# The second word of the header is a branch to itself: of AArch64, or of ARM.
_AARCH64 = b"\0\0\0\x14"
_CSF_SIZE = 0x2000
# header_gap (0x8000 where the ROM reads the SD card from there), then ivtofs; FlexSPI's is 0x1000 after the gap.
_GAPS = (0, 0x8000)
_FIRST, _FLEXSPI = (0x400, 0), 0x1000
# PLUGIN_HDMI_SIZE, and the flag that firmware for HDMI has.
_HDMI_SIZE, _HDMI = 0x1A000, 2
_HEADER = "barebox's header, not signed"
_REBUILD = (
    "Build barebox with CONFIG_HABV4, which makes signed images (*.simximg, *.psimximg); with digsign-cst as CST, the"
    " build signs them."
)


def is_barebox(data: Buffer) -> bool:
    """Return whether the file has barebox's header."""
    return data[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def plan(regions: RegionMap, wanted: Options) -> Kind:
    """Return the plan for an image of barebox. Raises `ImageError`."""
    is_8m = regions.data[4:8] == _AARCH64
    headers = _with_csfs(regions, _headers(regions, _GAPS if is_8m else (0,), is_8m=is_8m))
    for header in headers:
        check(regions, header, _REBUILD)
    if wanted.configuration is not None:
        raise ImageError(
            f"no FIT in this image, so configuration {wanted.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )
    if wanted.load_address is not None and wanted.load_address != headers[0].start:
        raise ImageError(
            f"the ROM loads this image to {headers[0].start:#x}, not to {wanted.load_address:#x}",
            hint="Leave out the load address: the image has one.",
        )
    return _plan_8m(regions, headers, wanted) if is_8m else _plan_one(regions, headers[0], wanted)


def _headers(regions: RegionMap, gaps: tuple[int, ...], *, is_8m: bool) -> list[Header]:
    """Return the IVT for SD and other devices, and the IVT for FlexSPI after it, if any."""
    for gap in gaps:
        for at in _FIRST:
            header = peek(regions, gap + at)
            if header is None:
                continue
            if header.plugin == _HDMI and gap < _HDMI_SIZE:
                regions.add(gap, _HDMI_SIZE, "HDMI or DisplayPort firmware, signed by NXP")
                regions.foreign.append((gap, _HDMI_SIZE))
                return _headers(regions, gaps=(gap + _HDMI_SIZE,), is_8m=is_8m)
            other = peek(regions, gap + _FLEXSPI) if is_8m else None
            return [header] if other is None else [header, other]
    raise ImageError(
        "the file has barebox's header, but no IVT with boot data after it",
        hint="This is not an image that a ROM of i.MX loads. " + _REBUILD,
    )


def _with_csfs(regions: RegionMap, headers: list[Header]) -> list[Header]:
    """Return the headers that have a CSF: without CONFIG_HABV4_QSPI, only the first has one (imx-image.c, hab_sign).

    The second then points after the first CSF, where nothing is, and its boot data do not load that.
    """
    for other in headers[1:]:
        if not other.ivt.csf or other.end <= other.ivt.csf:
            regions.notes.append(
                f"the IVT at {other.place:#x}, for FlexSPI, has no CSF: a closed board boots this image from SD and"
                " eMMC, and refuses it from FlexSPI; for that, build barebox with CONFIG_HABV4_QSPI"
            )
            return headers[:1]
    return headers


def _plan_one(regions: RegionMap, header: Header, wanted: Options) -> Kind:
    dcd = dcd_of(regions, header, _REBUILD)
    named = chips_of(regions.data[dcd[0] : dcd[0] + dcd[1]]) if dcd is not None else ()
    target = settle(wanted.chip, named or CHIPS_32, "according to its DCD, the image" if named else "the image")
    place, csf = header.place, header.csf_offset
    ivt, blocks = header.ivt, [Block(header.ivt.self_address, place, csf - place)]
    if wanted.sdp is not None:
        sent = download(regions, header, dcd, wanted.sdp, target.chip)
        ivt, blocks = sent.ivt, [*blocks, sent.block]
    if note := bounds_note(target.chip, header):
        regions.notes.append(note)
    signing = Signing("barebox", ivt, tuple(blocks), csf, min(header.room, _CSF_SIZE))
    _draw(regions, [header], (signing,), csf, dcd)
    return Kind("barebox" + (" for serial download" if wanted.sdp is not None else ""), (signing,), target)


def _plan_8m(regions: RegionMap, headers: list[Header], wanted: Options) -> Kind:
    if wanted.sdp is not None:
        raise ImageError("images of i.MX 8M have no DCD", hint="Leave out --sdp.")
    target = settle(wanted.chip, CHIPS_8M, "the image")
    # Each IVT has a separate CSF. The rooms follow each other; the data before the first room are signed.
    end = min(header.csf_offset for header in headers)
    signings = []
    for header, name in zip(headers, ("barebox", "barebox for FlexSPI"), strict=False):
        ivt = header.ivt
        block = Block(ivt.self_address, header.place, end - header.place)
        signings.append(Signing(name, ivt, (block,), header.csf_offset, min(header.room, _CSF_SIZE), unlock=True))
    first, *others = sorted(signings, key=lambda one: one.csf_offset)
    if others:
        room = others[0].csf_offset - first.csf_offset
        signings = [replace(one, csf_room=min(one.csf_room, room)) if one == first else one for one in signings]
    _draw(regions, headers, tuple(signings), end, None)
    behind = max(one.csf_offset + one.csf_room for one in signings)
    rest = first_used(regions.data, min(behind, len(regions.data)), len(regions.data))
    if rest is not None:
        regions.add(rest, len(regions.data) - rest, "barebox proper, checked by the first part")
        regions.foreign.append((rest, len(regions.data) - rest))
        regions.notes.append(
            f"barebox proper starts at {rest:#x}, and HAB does not check it: the signed first part checks its SHA-256."
            " That cannot be verified here"
        )
    return Kind("barebox for i.MX 8M", tuple(signings), target)


def _draw(
    regions: RegionMap, headers: list[Header], signings: tuple[Signing, ...], end: int, dcd: tuple[int, int] | None
) -> None:
    known = [(header.place, IVT_SIZE, "IVT") for header in headers]
    known += [(header.boot_data_offset, BOOT_DATA_SIZE, "boot data") for header in headers]
    known += [(*dcd, "DCD")] if dcd is not None else []
    first = min(header.place for header in headers)
    at, own = 0, first
    for region in tuple(regions.found):
        # Firmware for HDMI is between barebox's header and what is signed.
        regions.add(0, region.offset, _HEADER)
        at, own = region.end, region.offset
    for start, length, name in sorted(known):
        regions.add(at, start - at, _HEADER if at < first else "image header")
        regions.add(start, length, name)
        at = start + length
    regions.add(at, end - at, "barebox")
    regions.must.append((first, end - first))
    if own:
        regions.notes.append(
            f"the first {own:#x} bytes are barebox's header"
            + (" with the configuration of the flash" if len(headers) > 1 else ", which the ROM does not use")
            + "; they are not signed"
        )
    for signing in signings:
        regions.add_room(signing.csf_offset, signing.csf_room, f"room for the CSF of the {signing.name}")
