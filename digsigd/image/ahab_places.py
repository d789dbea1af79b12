"""Where the containers of a file have to be: the first set for the ROM, the next ones for SPL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from digsigd.ahab import AhabChip, Container
from digsigd.image.ahab_model import PlannedContainer

# SD, eMMC and FlexSPI; pages of NAND.
_SPL_STEPS = (0x400, 0x1000, 0x4000)


def first_set(found: Sequence[Container]) -> list[Container]:
    """Return the containers whose headers are before the images of the first ones."""
    start: int | None = None
    first = []
    for one in found:
        if start is not None and one.offset >= start:
            break
        first.append(one)
        places = [one.offset + image.offset for image in one.images if image.size]
        if places:
            start = min([*places, *([start] if start is not None else [])])
    return first


def gaps(first: Sequence[Container]) -> Iterator[str]:
    """Yield which containers of the first set the ROM does not find: their header is not one step behind the last one.

    imx-mkimage, imx8qxb0.c: CONTAINER_ALIGNMENT.
    """
    for before, after in pairwise(first):
        expected = before.offset + before.step
        if before.end <= after.offset != expected:
            yield (
                f"the container at {after.offset:#x} is not where the ROM looks for it, at {expected:#x}: containers of"
                f" version {before.version} are {before.step:#x} bytes apart"
            )


def place_notes(planned: Sequence[PlannedContainer], chip: AhabChip | None) -> Iterator[str]:
    """Yield which containers of a boot file are not where its chip or SPL is known to look.

    U-Boot, image-container.c: SPL looks behind the images of the first containers, at a whole KiB, on NAND at a page.
    """
    base = planned[0]
    if base.owner != "NXP":
        return
    ours = next((one for one in planned if one.first and one.owner == "OEM"), None)
    if chip is not None and ours is not None and ours.offset - base.offset != chip.oem_offset:
        yield (
            f"the {ours.name} is {ours.offset - base.offset:#x} behind NXP's, where imx-mkimage has it"
            f" {chip.oem_offset:#x} behind for {chip.title}: check for which chip the file was built"
        )
    end = max((image.end for one in planned if one.first for image in one.images), default=0)
    second = next((one for one in planned if not one.first), None)
    if ours is not None and second is None:
        yield "no container follows the images of the first ones: if they have an SPL, it finds no U-Boot in this file"
    places = {base.offset + -(-(end - base.offset) // step) * step for step in _SPL_STEPS}
    if second is not None and second.offset not in places:
        where = " or ".join(f"{place:#x}" for place in sorted(places))
        yield f"the {second.name} is not at {where}, where SPL looks for it, behind the images of the first containers"
