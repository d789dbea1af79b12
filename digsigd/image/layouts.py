"""What an image is, and what has to be signed of it."""

from __future__ import annotations

from digsigd import hab
from digsigd.image import fdt, socs
from digsigd.image.errors import ImageError
from digsigd.image.fitplan import FitPlan, plan_fit
from digsigd.image.kernel import is_kernel, plan_kernel
from digsigd.image.plan import Buffer, Plan, Signing
from digsigd.image.sketch import Sketch, first_used
from digsigd.image.spl import Spl, find_spl
from digsigd.image.strangers import stranger
from digsigd.image.treehash import check_hash

LARGEST = 64 << 20
_SMALLEST = 0x40
_DAMAGED = "The file is damaged, or made by a tool that is not known. Build the image again."


def plan(data: Buffer, *, load_address: int | None = None, configuration: str | None = None) -> Plan:
    """How this image is signed. Raises `ImageError` where that is not known for certain.

    `load_address` is where U-Boot or SPL loads an image that does not say so itself; `configuration` is that of a FIT
    whose configurations load different images.
    """
    try:
        return _plan(data, load_address, configuration)
    except ImageError as error:
        if error.hint:
            raise
        raise ImageError(error.what, hint=_DAMAGED) from None


def _plan(data: Buffer, load_address: int | None, configuration: str | None) -> Plan:
    if not _SMALLEST <= len(data) <= LARGEST:
        raise ImageError(f"the file has {len(data):#x} bytes; images have {_SMALLEST:#x} to {LARGEST:#x}")
    sketch = Sketch(data)
    spl = find_spl(sketch)
    if spl is not None:
        return _boot_image(sketch, spl, load_address, configuration)
    if data[:4] == fdt.MAGIC:
        fit = plan_fit(sketch, 0, load_address, configuration)
        return _finished(sketch, _fit_name(fit), socs.find(atf=fit.atf), fit.signings)
    if configuration is not None:
        raise ImageError(f"there is no FIT at 0x0, so there is no configuration {configuration!r}")
    if is_kernel(data):
        return _finished(sketch, "arm64 kernel", None, (plan_kernel(sketch, load_address),))
    raise stranger(data, 0)


def _boot_image(sketch: Sketch, spl: Spl, load_address: int | None, configuration: str | None) -> Plan:
    """What the ROM loads, and the FIT behind it, if there is one."""
    data = sketch.data
    place = first_used(data, spl.end, len(data))
    front = f", {spl.front}" if spl.front else ""
    signing = spl.signing("SPL" if spl.is_8m else "image", unlock=spl.is_8m)
    if place is None:
        if load_address is not None and load_address != spl.entry:
            raise ImageError(
                f"the ROM loads this image to {spl.entry:#x} by its IVT at {spl.ivt.offset:#x}, not to"
                f" {load_address:#x}",
                hint="Leave out the load address: the image has one.",
            )
        if configuration is not None:
            raise ImageError(f"there is no FIT in this image, so there is no configuration {configuration!r}")
        if spl.second is not None:
            raise ImageError(
                f"the SPL's IVT at {spl.ivt.offset:#x} has the second loader at {spl.second:#x}, and there is nothing"
                f" behind the SPL in the {len(data):#x} bytes of the file",
                hint="The file was cut short. Build the image again with imx-mkimage.",
            )
        _draw_spl(sketch, spl, signing, None)
        soc = socs.find(spl=spl.entry, hdmi=spl.front == "HDMI")
        return _finished(sketch, ("SPL" if spl.is_8m else "image with an IVT") + front, soc, (signing,))
    if data[place : place + 4] != fdt.MAGIC:
        raise stranger(data, place)
    if spl.second is not None and spl.second != place:
        raise ImageError(
            f"the SPL's IVT at {spl.ivt.offset:#x} has the second loader at {spl.second:#x}, and there is a FIT at"
            f" {place:#x}",
            hint="Build the image again with imx-mkimage.",
        )
    fit = plan_fit(sketch, place, load_address, configuration)
    _draw_spl(sketch, spl, signing, check_hash(sketch, spl, place, fit))
    soc = socs.find(spl=spl.entry, atf=fit.atf, hdmi=spl.front == "HDMI")
    return _finished(sketch, f"SPL{front} and {_fit_name(fit)}", soc, (signing, *fit.signings))


def _draw_spl(sketch: Sketch, spl: Spl, signing: Signing, hash_at: int | None) -> None:
    start = spl.ivt.offset + 0x20
    if hash_at is None:
        sketch.add(start, spl.csf_offset - start, "SPL with DDR firmware" if spl.is_8m else "image")
    sketch.add_room(signing.csf_offset, signing.csf_room, f"room for the CSF of the {signing.name}")


def _fit_name(fit: FitPlan) -> str:
    if not fit.external:
        return "FIT with embedded data"
    return "FIT with external data" + (" and signed tree" if fit.fdt_signed else "")


def _finished(sketch: Sketch, layout: str, soc: str | None, signings: tuple[Signing, ...]) -> Plan:
    size, regions = sketch.finish()
    for signing in signings:
        # As the signing host does: what it would refuse is no plan.
        try:
            hab.check_layout([signing.blocks], [hab.File(size, lambda start, length: sketch.read(start, length, size))])
        except hab.HabError as error:
            raise ImageError(
                f"the {signing.name} cannot be signed as it is: {error}", hint="Build the image again."
            ) from None
    must = tuple(sorted(sketch.must))
    return Plan(
        layout, soc, size, regions, signings, tuple(sketch.patches), tuple(sketch.notes), must, tuple(sketch.signed)
    )
