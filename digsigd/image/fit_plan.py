"""A FIT that U-Boot's SPL loads and lets HAB check: its IVT and CSF are after its tree.

With external data, as NXP makes it (imx-mkimage, iMX8M/mkimage_imx8.c: generate_ivt_for_fit; iMX8M/print_fit_hab.sh),
the CSF signs the tree and each image where it is loaded to. Since the fix of CVE-2023-39902 (LFU-573, imx-mkimage of
2023) the SPL holds the SHA-256 of the tree, and a second IVT and CSF, 0x2000 after the first, sign the tree with the
first CSF. With data embedded in the tree, as U-Boot's binman makes it (tools/binman/etype/nxp_imx8mcst.py), there is
one block. SPL's side of both: arch/arm/mach-imx/spl.c (board_spl_fit_size_align, board_spl_fit_post_load, and in
uboot-imx spl_load_simple_fit_fix_load) and hab.c (validate_ivt).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from digsigd.hab import Block, FormatError, Ivt
from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt
from digsigd.image.errors import ImageError
from digsigd.image.fit import Fit, FitImage
from digsigd.image.fit_loads import Load, check_name, choose, embedded, is_key, read_over, u_boots
from digsigd.image.model import Buffer, Patch, Signing
from digsigd.image.regions import RegionMap, aligned, first_used
from digsigd.image.spl import CSF_SIZE, SMALLEST_ROOM

# hab.c: authenticate_image expects an IVT on a multiple of this.
_ALIGN = 0x1000
_LIMIT = 1 << 32
# How far before U-Boot a FIT with external data may be. It is its own size, room for one or two CSFs and a block of the
# device: others than these SPLs have it above U-Boot, or where another memory begins.
_BEFORE_U_BOOT = 0x100000
# CONFIG_SPL_LOAD_FIT_ADDRESS of all boards with an i.MX 8M: U-Boot's boot/Kconfig since v2025.01, and before that each
# board that set one, as it had to for HAB. Since v2023.07 (arch/arm/mach-imx/spl.c) SPL has HAB check the FIT there
# before it loads anything from it, and FITs have their data embedded.
USUAL_ADDRESS = 0x44000000
_LABELS = (("uboot", "U-Boot"), ("u-boot", "U-Boot"), ("atf", "ATF"), ("bl31", "ATF"), ("tee", "TEE"), ("optee", "TEE"))


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How a FIT is signed: `end` is the file offset just after all of it, `atf` the load address of its ATF.

    `loads` are the images and their addresses in memory, as far as they are known.
    """

    signings: tuple[Signing, ...]
    end: int
    external: bool
    fdt_signed: bool
    atf: int | None
    loads: tuple[Load, ...]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the image does not contain: see `plan.plan`. `spl` says whether an SPL of i.MX 8M loads the FIT."""

    load_address: int | None = None
    configuration: str | None = None
    fdt_signature: bool = False
    spl: bool = False


def plan_fit(regions: RegionMap, offset: int, options: FitOptions) -> FitPlan:
    """Return the plan for the FIT at this file offset. Raises `ImageError`."""
    fit = Fit.read(regions.data, offset)
    regions.encrypted += [
        f"the FIT at {offset:#x} has {image.name}, a key for encrypted boot that differs from board to board"
        for image in fit.images
        if image.size and is_key(image)
    ]
    kept = sorted({image.kept for image in fit.images if image.size})
    if kept == ["data-position"]:
        return _plan_external(regions, fit, options)
    if options.fdt_signature:
        raise ImageError(
            f"the FIT at {offset:#x} has no external data, so it has no separate signature over its tree",
            hint="Leave out `--fit-fdt required`.",
        )
    if kept == ["data"]:
        return _plan_embedded(regions, fit, options)
    if not kept:
        raise ImageError(f"all images of the FIT at {offset:#x} are empty", hint="Build it again with all its parts.")
    if kept == ["data-offset"]:
        raise ImageError(
            f"the images of the FIT at {offset:#x} have data-offset, counted from the end of the tree: an SPL with HAB"
            " reserves room for a CSF there and would load other bytes",
            hint="Build the FIT with `mkimage -E -p 0x5000` (older SPLs: 0x3000), as imx-mkimage does, or without -E.",
        )
    raise ImageError(
        f"the images of the FIT at {offset:#x} are stored in different ways ({', '.join(kept)}): not supported",
        hint="Build the FIT with one run of mkimage.",
    )


def label(image: FitImage) -> str:
    """Return the name to show for this image: "U-Boot (uboot-1)"."""
    if image.kind == "flat_dt":
        return f"DTB ({image.name})"
    for start, text in _LABELS:
        if image.name.lower().startswith(start):
            return f"{text} ({image.name})"
    return image.name


def _plan_external(regions: RegionMap, fit: Fit, options: FitOptions) -> FitPlan:
    place = fit.offset + aligned(fit.size, _ALIGN)
    images = [image for image in fit.images if image.size]
    first = min(images, key=lambda image: image.offset)
    if place + IVT_SIZE + SMALLEST_ROOM > first.offset:
        raise ImageError(
            f"the tree of the FIT at {fit.offset:#x} has {fit.size:#x} bytes and its IVT belongs at {place:#x}, but"
            f" {first.name} starts at {first.offset:#x}: no room for a CSF",
            hint=f"Build the FIT with `mkimage -E -p {aligned(fit.size, _ALIGN) + 2 * CSF_SIZE:#x}`.",
        )
    chosen = choose(fit, options.configuration)
    ivt = _ivt(regions, fit, place, options, embedded=False)
    base = ivt.self_address - (place - fit.offset)
    _check_before_u_boot(fit, base, place - fit.offset, u_boots(fit, chosen))
    fdt_place = place + CSF_SIZE
    fdt_ivt = _fdt_ivt(regions.data, ivt, fdt_place) if fdt_place + IVT_SIZE <= first.offset else None
    if options.fdt_signature and fdt_ivt is None:
        raise ImageError(
            f"the IVT for a signature over the FIT's tree is missing at {fdt_place:#x}, where SPLs with"
            " CONFIG_IMX_SPL_FIT_FDT_SIGNATURE expect it",
            hint="Build the image with imx-mkimage of lf-6.1.36 or newer, or leave out `--fit-fdt required`.",
        )
    end = min(first.offset, fdt_place)
    tree = Block(base, fit.offset, place + IVT_SIZE - fit.offset)
    blocks = (tree, *(Block(load.address, load.image.offset, load.image.size) for load in chosen.loads))
    signings = [Signing("FIT", ivt, blocks, place + IVT_SIZE, end - place - IVT_SIZE)]
    if fdt_ivt is not None:
        # Its block covers the FIT's CSF, which must be in place first.
        end = min(first.offset, fdt_place + CSF_SIZE)
        whole = Block(base, fit.offset, fdt_place + IVT_SIZE - fit.offset)
        csf = fdt_place + IVT_SIZE
        if end - csf < SMALLEST_ROOM:
            raise ImageError(
                f"the IVT for a signature over the FIT's tree at {fdt_place:#x} has only {end - csf:#x} bytes"
                f" for its CSF before {first.name} at {first.offset:#x}",
                hint=f"Build the FIT with `mkimage -E -p {place - fit.offset + 2 * CSF_SIZE:#x}`.",
            )
        optional = not options.fdt_signature
        signings.append(Signing("FIT-FDT", fdt_ivt, (whole,), csf, end - csf, optional=optional))
    _check_memory(base, base + end - fit.offset, chosen.loads)
    _draw(regions, fit, signings)
    loaded = {load.image.name for load in chosen.loads}
    for image in images:
        if is_key(image):
            regions.add(image.offset, image.size, f"key for encrypted boot ({image.name})")
        else:
            regions.add(image.offset, image.size, label(image) + ("" if image.name in loaded else ", not loaded"))
    regions.must += [(load.image.offset, load.image.size) for load in chosen.loads]
    if chosen.configuration is not None:
        regions.notes.append(
            f"the FIT is signed for its configuration {chosen.configuration}: boards whose SPL selects another"
            " configuration refuse it"
        )
    if (over := read_over(fit, chosen)) is not None:
        late, early = over
        regions.notes.append(
            f"{late.image.name} is loaded to {late.address:#x}, after {early.image.name} to {early.address:#x}: from SD"
            f" and eMMC, SPL reads whole blocks and overwrites the start of {early.image.name}, which HAB then refuses"
        )
    last = max(image.end for image in images)
    return FitPlan(tuple(signings), last, True, fdt_ivt is not None, _atf(fit), chosen.loads)


def _check_before_u_boot(fit: Fit, base: int, size: int, loads: Sequence[Load]) -> None:
    """Raise `ImageError` for a FIT with external data that is not loaded right before U-Boot.

    SPLs whose HAB checks external data after loading put the FIT there: U-Boot and uboot-imx,
    board_spl_fit_buffer_addr; before v2022.07 spl_fit.c, spl_load_simple_fit.
    """
    for load in loads:
        if not 0 < load.address - base <= size + _BEFORE_U_BOOT:
            raise ImageError(
                f"the FIT at {fit.offset:#x} has external data and is loaded to {base:#x}, not right before"
                f" {load.image.name} at {load.address:#x}: only U-Boot since v2023.07 loads a FIT elsewhere"
                " (CONFIG_SPL_LOAD_FIT_ADDRESS), and its HAB checks the FIT before the data are loaded, so HAB refuses"
                " signatures over them",
                hint="Build the image with embedded data (CONFIG_IMX_HAB); or, for NXP's U-Boot and U-Boot up to"
                " v2023.04, pass the address where SPL loads the FIT, below U-Boot's address.",
            )


def _plan_embedded(regions: RegionMap, fit: Fit, options: FitOptions) -> FitPlan:
    place = fit.offset + aligned(fit.size, _ALIGN)
    # One signature covers all of its configurations.
    check_name(fit, options.configuration)
    loads = embedded(fit)
    ivt = _ivt(regions, fit, place, options, embedded=True)
    base = ivt.self_address - (place - fit.offset)
    csf = place + IVT_SIZE
    signing = Signing("FIT", ivt, (Block(base, fit.offset, csf - fit.offset),), csf, CSF_SIZE - IVT_SIZE)
    # Older SPLs copy the images to their places before HAB checks what they were copied from.
    _check_memory(base, base + csf + signing.csf_room - fit.offset, loads)
    _draw(regions, fit, [signing])
    return FitPlan((signing,), csf + signing.csf_room, False, False, _atf(fit), loads)


def _draw(regions: RegionMap, fit: Fit, signings: list[Signing]) -> None:
    """Add the regions of the tree, the IVTs and the rooms for CSFs."""
    place = signings[0].ivt.offset
    inside = [image for image in fit.images if image.kept == "data" and image.size]
    start = fit.offset
    for image in sorted(inside, key=lambda image: image.offset):
        regions.add(start, image.offset - start, "FIT tree")
        regions.add(image.offset, image.size, label(image))
        start = image.end
    regions.add(start, fit.end - start, "FIT tree")
    regions.must.append((fit.offset, place + IVT_SIZE - fit.offset))
    for signing in signings:
        regions.add(signing.ivt.offset, IVT_SIZE, f"IVT of the {signing.name}")
        regions.add_room(signing.csf_offset, signing.csf_room, f"room for the CSF of the {signing.name}")


def _atf(fit: Fit) -> int | None:
    return next((image.load for image in fit.images if label(image).startswith("ATF")), None)


def _check_memory(start: int, end: int, loads: Sequence[Load]) -> None:
    """Raise `ImageError` if an image is loaded over the tree, its IVT or its CSF, which HAB needs in memory."""
    if end > _LIMIT:
        raise ImageError(
            f"the FIT's tree is loaded to {start:#x}, but HAB only has 32-bit addresses",
            hint="Pass the address to which SPL loads the FIT: --load-address.",
        )
    for load in loads:
        if load.address < end and start < load.end:
            raise ImageError(
                f"{load.image.name} is loaded to {load.address:#x}, over the FIT's tree, IVT and CSF, which are at"
                f" {start:#x} to {end:#x}",
                hint="Build the image again with addresses of the FIT, its IVT and its images that do not overlap.",
            )


def _ivt(regions: RegionMap, fit: Fit, place: int, options: FitOptions, *, embedded: bool) -> Ivt:
    """Return the IVT after the tree, or make it if it is missing and the tree's address is known."""
    data = regions.data
    size = place - fit.offset
    load_address = options.load_address
    if not looks_like_ivt(data[place : place + IVT_SIZE]):
        return _made_ivt(regions, fit, place, options, embedded=embedded)
    ivt = read_plain_ivt(data, place)
    base = ivt.self_address - size
    # For the entry point, binman uses the IVT's address, imx-mkimage the tree's.
    entries = {base, ivt.self_address} if embedded else {base}
    if ivt.entry not in entries or base < 0:
        raise ImageError(
            f"the IVT at {place:#x} is for {ivt.self_address:#x}, which puts the FIT at {base:#x}, but its entry point"
            f" is {ivt.entry:#x}",
            hint="The FIT's tree has changed since its IVT was made. Build the image again.",
        )
    if load_address is not None and load_address != base:
        raise ImageError(
            f"the FIT is loaded to {base:#x} according to its IVT at {place:#x}, not to {load_address:#x}",
            hint="Leave out the load address: the image has one.",
        )
    return ivt


def _fdt_ivt(data: Buffer, ivt: Ivt, place: int) -> Ivt | None:
    """Return the IVT for the signature over the tree and the FIT's CSF, or None if it is missing."""
    if not looks_like_ivt(data[place : place + IVT_SIZE]):
        return None
    found = read_plain_ivt(data, place)
    if found.self_address != ivt.self_address + CSF_SIZE or found.entry != ivt.entry:
        raise ImageError(
            f"the IVTs at {ivt.offset:#x} and {place:#x} are for {ivt.self_address:#x} and {found.self_address:#x} with"
            f" the entry points {ivt.entry:#x} and {found.entry:#x}: they do not belong to the same FIT",
            hint="Build the image again with imx-mkimage.",
        )
    return found


def read_plain_ivt(data: Buffer, place: int) -> Ivt:
    """Return the IVT at `place`: without boot data, right before its CSF, as U-Boot requires (hab.c, validate_ivt).

    Raises `ImageError` if it is not such an IVT.
    """
    head = data[place : place + IVT_SIZE]
    try:
        ivt = Ivt.parse(head, place)
    except FormatError as e:
        raise ImageError(f"the IVT at {place:#x}: {e}") from None
    first, last = (struct.unpack_from("<I", head, at)[0] for at in (8, 28))
    if first or last or ivt.dcd or ivt.boot_data or ivt.csf != ivt.self_address + IVT_SIZE or not ivt.entry:
        raise ImageError(
            f"U-Boot does not accept the IVT at {place:#x} for {ivt.self_address:#x}: entry {ivt.entry:#x}, CSF"
            f" {ivt.csf:#x}, DCD {ivt.dcd:#x}, boot data {ivt.boot_data:#x}, reserved {first:#x} and {last:#x}",
            hint="Build the image again: its CSF must follow right after it, and the other fields must be 0.",
        )
    return ivt


def ivt_bytes(ivt: Ivt) -> bytes:
    """Return the 32 bytes of the IVT, of version 4.1 as NXP's genIVT and binman write it."""
    words = (ivt.entry, 0, ivt.dcd, ivt.boot_data, ivt.self_address, ivt.csf, 0)
    return b"\xd1\x00\x20\x41" + struct.pack("<7I", *words)


def _made_ivt(regions: RegionMap, fit: Fit, place: int, options: FitOptions, *, embedded: bool) -> Ivt:
    data, size = regions.data, place - fit.offset
    load_address = options.load_address
    used = first_used(data, place, min(place + IVT_SIZE, len(data)))
    if used is not None:
        raise ImageError(
            f"at {place:#x}, where the IVT of the FIT at {fit.offset:#x} belongs, is"
            f" {data[place : place + 8].hex(' ')}",
            hint="Build the image again, with HAB (CONFIG_IMX_HAB) or with imx-mkimage.",
        )
    if load_address is None and embedded and options.spl:
        load_address = USUAL_ADDRESS
        regions.notes.append(
            f"the image does not contain the address where SPL loads the FIT: it is signed for {USUAL_ADDRESS:#x},"
            " CONFIG_SPL_LOAD_FIT_ADDRESS of U-Boot's boards with an i.MX 8M; pass --load-address for another"
        )
    if load_address is None:
        raise ImageError(
            f"the FIT at {fit.offset:#x} has no IVT at {place:#x}, so the address where SPL or U-Boot loads it is"
            " unknown",
            hint="Pass the load address to have the IVT made: for SPL, CONFIG_SPL_LOAD_FIT_ADDRESS or what SPL's"
            " board_spl_fit_buffer_addr returns; for a kernel, the address where U-Boot loads the FIT."
            + ("" if embedded else " U-Boot since v2023.07 needs embedded data: build it with CONFIG_IMX_HAB."),
        )
    if load_address % 4 or load_address < 0 or load_address + size + CSF_SIZE > _LIMIT:
        raise ImageError(
            f"the load address {load_address:#x} is not a 32-bit address on a multiple of 4",
            hint="Check the load address.",
        )
    address = load_address + size
    ivt = Ivt(place, address if embedded else load_address, 0, 0, address, address + IVT_SIZE)
    if place > len(data):
        regions.patches.append(Patch(len(data), bytes(place - len(data)), "padding of the FIT to a multiple of 4 KiB"))
    why = f"the FIT has no IVT: this one is for the load address {load_address:#x}"
    regions.patches.append(Patch(place, ivt_bytes(ivt), why))
    return ivt
