"""Plan how an image is signed: detect what it is, and which parts need a signature."""

from __future__ import annotations

from dataclasses import replace

from digsigd import hab
from digsigd.image import fdt, imx8m
from digsigd.image.appended import Front, find_tag, with_tag
from digsigd.image.chips import CHIPS, Chip
from digsigd.image.detect import plan_kind
from digsigd.image.encryption import KEY_ROOM, key_length
from digsigd.image.errors import ImageError
from digsigd.image.fit_hash import DDR_FIRMWARE_SIZE, check_hash
from digsigd.image.fit_plan import FitOptions, FitPlan, plan_fit
from digsigd.image.kernel import is_kernel, plan_kernel
from digsigd.image.model import Buffer, Plan, Signing
from digsigd.image.options import Options, Target, settle
from digsigd.image.regions import RegionMap, first_used
from digsigd.image.spl import Spl, find_spl
from digsigd.image.unsupported import refuse_ahab, stranger

# The largest kernel, with everything that is signed with it. Files are mapped.
LARGEST = 512 << 20
_SMALLEST = 0x40
_BLOCK = 0x200
_GZIP = b"\x1f\x8b\x08"
_DAMAGED = "The file is damaged, or made by an unknown tool. Build the image again."


def plan(
    data: Buffer,
    *,
    load_address: int | None = None,
    configuration: str | None = None,
    fdt_signature: bool = False,
    chip: Chip | None = None,
    sdp: int | None = None,
) -> Plan:
    """Return the plan for signing this image.

    `load_address` is where U-Boot or SPL loads an image that does not contain the address. `configuration` selects one
    configuration of a FIT whose configurations load different images. `fdt_signature` says that SPL requires the
    signature over the FIT's tree and CSF (CONFIG_IMX_SPL_FIT_FDT_SIGNATURE); other SPLs compare the tree's hash and
    ignore that signature. `chip` is the chip of the boards, if known; it must not contradict the image. `sdp` is the
    address where a host writes the DCD; with it, the plan is for the file for serial download. Raises `ImageError` if
    it is not certain how the image is signed.
    """
    try:
        return _plan(data, Options(load_address, configuration, fdt_signature, chip=chip, sdp=sdp))
    except ImageError as error:
        if error.hint:
            raise
        raise ImageError(error.what, hint=_DAMAGED) from None


def _plan(data: Buffer, options: Options) -> Plan:
    if not _SMALLEST <= len(data) <= LARGEST:
        raise ImageError(f"the file has {len(data):#x} bytes; an image has {_SMALLEST:#x} to {LARGEST:#x} bytes")
    tag = find_tag(data)
    regions = RegionMap(data if tag is None else Front(data, tag.offset))
    kind = plan_kind(regions, options)
    if kind is None:
        found = _for_8m(regions, _plan_image(regions, options), options)
    else:
        found = _targeted(_finished(regions, kind.layout, None, kind.signings), kind.target)
    return found if tag is None else with_tag(found, tag, len(data))


def _for_8m(regions: RegionMap, plan: Plan, options: Options) -> Plan:
    """Add the target to the plan of an image that is usually for i.MX 8M. A FIT for 32 bits is for other chips."""
    if options.sdp is not None:
        raise ImageError(f"the {plan.layout} has no DCD", hint="Leave out --sdp.")
    candidates = tuple(one.name for one in CHIPS if one.family == "i.MX 8M" and plan.soc in (None, one.short))
    if regions.data[:4] == fdt.MAGIC and plan.soc is None:
        images = fdt.Tree.read(regions.data, 0).root.nodes["images"].nodes.values()
        candidates = candidates if any(node.text("arch") == "arm64" for node in images) else ()
    target = settle(options.chip, candidates, f"the {plan.layout}")
    if options.chip is None and not target.ask:
        target = Target(None, possible=_by_entry(plan, target.possible))
    return _targeted(plan, target)


def _by_entry(plan: Plan, possible: tuple[Chip, ...]) -> tuple[Chip, ...]:
    """Return the chips whose SPL is at this image's entry point, or all of `possible` if none match."""
    entries = [signing.ivt.entry for signing in plan.signings if signing.by_rom]
    found = tuple(chip for chip in possible if any(load.entry in entries for load in chip.spl))
    return found or possible


def _targeted(plan: Plan, target: Target) -> Plan:
    return replace(plan, chip=target.chip, boards=target.title, ask=target.ask, possible=target.possible)


def _plan_image(regions: RegionMap, options: FitOptions) -> Plan:
    data = regions.data
    refuse_ahab(data)
    spl = find_spl(regions)
    if spl is not None:
        return _boot_image(regions, spl, options)
    if data[:4] == fdt.MAGIC:
        fit = plan_fit(regions, 0, options)
        return _finished(regions, _fit_name(fit), imx8m.find(atf=fit.atf), fit.signings)
    _no_fit("at 0x0", options)
    if is_kernel(data):
        return _finished(regions, "arm64 kernel", None, (plan_kernel(regions, options.load_address),))
    raise stranger(data, 0)


def _no_fit(where: str, options: FitOptions) -> None:
    """Raise `ImageError` if an option was given that only applies to a FIT."""
    if options.configuration is not None:
        raise ImageError(
            f"no FIT {where}, so configuration {options.configuration!r} does not exist",
            hint="Leave out the configuration.",
        )
    if options.fdt_signature:
        raise ImageError(
            f"no FIT {where}, so a signature over its tree does not exist", hint="Leave out `--fit-fdt required`."
        )


def _boot_image(regions: RegionMap, spl: Spl, options: FitOptions) -> Plan:
    """Plan the image that the ROM loads, and the FIT after it, if any."""
    load_address = options.load_address
    data = regions.data
    key = key_length(data[spl.end : spl.end + KEY_ROOM])
    if key:
        regions.add(spl.end, key, "key for encrypted boot")
        regions.encrypted.append(f"at {spl.end:#x} is a key for encrypted boot, wrapped by one chip")
    place = first_used(data, spl.end + key, len(data))
    front = f", {spl.front}" if spl.front else ""
    signing = spl.signing("SPL" if spl.is_8m else "image", unlock=spl.is_8m)
    if place is None:
        if load_address is not None and load_address != spl.entry:
            raise ImageError(
                f"the ROM loads this image to {spl.entry:#x} according to its IVT at {spl.ivt.offset:#x}, not to"
                f" {load_address:#x}",
                hint="Leave out the load address: the image has one.",
            )
        _no_fit("in this image", options)
        if spl.second is not None:
            raise ImageError(
                f"the SPL's IVT at {spl.ivt.offset:#x} places the second loader at {spl.second:#x}, but nothing follows"
                f" the SPL in the {len(data):#x} bytes of the file",
                hint="The file is truncated. Build the image again with imx-mkimage.",
            )
        _draw_spl(regions, spl, signing, None)
        soc = imx8m.find(spl=spl.entry, hdmi=spl.front == "HDMI")
        return _finished(regions, ("SPL" if spl.is_8m else "image with an IVT") + front, soc, (signing,))
    if data[place : place + 4] != fdt.MAGIC:
        raise stranger(data, place)
    if spl.second is not None and spl.second != place:
        raise ImageError(
            f"the SPL's IVT at {spl.ivt.offset:#x} places the second loader at {spl.second:#x}, but the FIT is at"
            f" {place:#x}",
            hint="Build the image again with imx-mkimage.",
        )
    fit = plan_fit(regions, place, replace(options, spl=spl.is_8m))
    _check_over_spl(spl, fit)
    _add_archive(regions, fit.end)
    hash_at = check_hash(regions, spl, place, fit, required=not options.fdt_signature)
    _draw_spl(regions, spl, signing, hash_at)
    soc = imx8m.find(spl=spl.entry, atf=fit.atf, hdmi=spl.front == "HDMI")
    other = imx8m.find(spl=spl.entry, atf=fit.atf)
    if spl.front == "HDMI" and other not in (None, "mq"):
        raise ImageError(
            f"the image starts with HDMI or DisplayPort firmware, which only i.MX 8M Quad has, but the SPL at"
            f" {spl.ivt.offset:#x} and its ATF are for another chip",
            hint="Build the image again for one chip.",
        )
    return _finished(regions, f"SPL{front} and {_fit_name(fit)}", soc, (signing, *fit.signings))


def _add_archive(regions: RegionMap, end: int) -> None:
    """Add the packed archive that CompuLab's builds append to the image (cst-tools, imx8/hab/Makefile).

    SPL does not read beyond the end of the FIT.
    """
    place = first_used(regions.data, end, len(regions.data))
    if place is not None and place % _BLOCK == 0 and regions.data[place : place + 3] == _GZIP:
        regions.add(place, len(regions.data) - place, "archive after the image, not read by boards")
        regions.notes.append(
            f"at {place:#x}, after the image, is a packed archive: no board reads it, so it is not signed"
        )


def _check_over_spl(spl: Spl, fit: FitPlan) -> None:
    """Raise `ImageError` if the FIT would be loaded over the running SPL.

    Its DDR firmware may be overwritten: SPL no longer needs it by then.
    """
    start, end = spl.ivt.self_address, max(spl.entry + 4, spl.ivt.csf - DDR_FIRMWARE_SIZE)
    for load in fit.loads:
        if load.address < end and start < load.end:
            raise ImageError(
                f"{load.image.name} ({load.image.size:#x} bytes) is loaded to {load.address:#x}, over the SPL that"
                f" loads it, which is at {start:#x} to {end:#x}",
                hint="Build the image again with load addresses of the FIT's images that do not overlap the SPL.",
            )


def _draw_spl(regions: RegionMap, spl: Spl, signing: Signing, hash_at: int | None) -> None:
    start = spl.ivt.offset + 0x20
    if hash_at is None:
        regions.add(start, spl.csf_offset - start, "SPL with DDR firmware" if spl.is_8m else "image")
    regions.add_room(signing.csf_offset, signing.csf_room, f"room for the CSF of the {signing.name}")


def _fit_name(fit: FitPlan) -> str:
    if not fit.external:
        return "FIT with embedded data"
    return "FIT with external data" + (" and signed tree" if fit.fdt_signed else "")


def _finished(regions: RegionMap, layout: str, soc: str | None, signings: tuple[Signing, ...]) -> Plan:
    covered = [(block.offset, block.end) for signing in signings for block in signing.blocks]
    size, drawn = regions.finish(covered)
    for signing in signings:
        # The same check as on the signing host: a plan that it would refuse is an error here.
        try:
            hab.check_layout(
                [signing.blocks], [hab.File(size, lambda start, length: regions.read(start, length, size))]
            )
        except hab.HabError as error:
            raise ImageError(f"the {signing.name} cannot be signed: {error}", hint="Build the image again.") from None
    return Plan(
        layout,
        soc,
        size,
        drawn,
        signings,
        patches=tuple(regions.patches),
        notes=tuple(regions.notes),
        must=tuple(sorted(regions.must)),
        replaced=tuple(regions.signed),
        foreign=tuple(regions.foreign),
        encrypted=tuple(regions.encrypted),
        masks=tuple(regions.masks),
    )
