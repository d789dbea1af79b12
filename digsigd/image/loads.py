"""What U-Boot's SPL loads from a FIT, and where it puts it: HAB checks what is in memory then.

Source: U-Boot and uboot-imx, common/spl/spl_fit.c (spl_load_simple_fit, spl_load_fit_image, spl_fit_append_fdt). Of a
configuration, the firmware is loaded, else the first of the loadables; behind it, where it is U-Boot, the device tree;
then all other loadables.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from digsigd.image.errors import ImageError
from digsigd.image.fit import Configuration, Fit, FitImage

_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True)
class Load:
    """An image, and the address where SPL puts it."""

    image: FitImage
    address: int

    @property
    def end(self) -> int:
        """The address just behind it."""
        return self.address + self.image.size


@dataclass(frozen=True, slots=True)
class Choice:
    """The configuration that the signature is for; None where all of them load the same."""

    loads: tuple[Load, ...]
    configuration: str | None


def choose(fit: Fit, name: str | None) -> Choice:
    """What is loaded, in the order of the file. Raises `ImageError` where that depends on the board.

    There is one CSF for all configurations, and it fails as a whole: with the device trees of several boards under it,
    none of the boards has all of them in memory, and all refuse to start (imx-mkimage issue 4; meta-variscite-hab makes
    an image for each).
    """
    if name is not None:
        for configuration in fit.configurations:
            if configuration.name == name:
                alone = len(fit.configurations) == 1
                return Choice(_loads(fit, configuration), None if alone else name)
        raise ImageError(f"the FIT at {fit.offset:#x} has no configuration {name!r}", hint=f"It has {_names(fit)}.")
    found = [_loads(fit, configuration) for configuration in fit.configurations]
    if any(set(other) != set(found[0]) for other in found[1:]):
        first = next(n for n, other in enumerate(found) if set(other) != set(found[0]))
        raise ImageError(
            f"the FIT at {fit.offset:#x} loads {_described(found[0])} with its configuration"
            f" {fit.configurations[0].name!r}, and {_described(found[first])} with"
            f" {fit.configurations[first].name!r}: one CSF signs what is in memory, and no board has both there",
            hint="Make an image with one device tree for each board, or a FIT with embedded data, as U-Boot's binman"
            f" does; or say for which configuration this one is signed: {_names(fit)}.",
        )
    return Choice(found[0], None)


def _names(fit: Fit) -> str:
    return ", ".join(configuration.name for configuration in fit.configurations)


def _described(loads: tuple[Load, ...]) -> str:
    return " and ".join(load.image.name for load in loads)


def _loads(fit: Fit, configuration: Configuration) -> tuple[Load, ...]:
    where = f"the configuration {configuration.name!r} of the FIT at {fit.offset:#x}"
    if configuration.kernel is not None:
        raise ImageError(
            f"{where} has a kernel; with external data, only what U-Boot's SPL loads is known",
            hint="Make a FIT with a kernel without mkimage's option -E, and give the address where U-Boot loads it.",
        )
    names = list(
        dict.fromkeys([*([configuration.firmware] if configuration.firmware else ()), *configuration.loadables])
    )
    if not names:
        raise ImageError(f"{where} names neither firmware nor loadables, so SPL loads nothing")
    if len(configuration.fdt) > 1:
        raise ImageError(
            f"{where} has overlays ({', '.join(configuration.fdt[1:])}): SPL applies them before HAB checks the tree",
            hint="Apply the overlays when the image is built.",
        )
    loads = [_load(fit.image(name), fit.image(name).load, where) for name in names]
    if configuration.fdt:
        loads.append(_device_tree(fit, configuration, loads, where))
    by_address = sorted(loads, key=lambda load: load.address)
    for before, after in pairwise(by_address):
        if after.address < before.end:
            raise ImageError(
                f"{where} loads {before.image.name} to {before.address:#x}, {before.image.size:#x} bytes, and"
                f" {after.image.name} to {after.address:#x}: they overlap",
                hint="Build the image again with other load addresses.",
            )
    return tuple(sorted(loads, key=lambda load: load.image.offset))


def _load(image: FitImage, address: int | None, where: str) -> Load:
    # mkimage_fit_atf.sh: a place for a key that each board gets for itself, after the image was signed.
    if image.name.startswith("dek_blob"):
        raise ImageError(
            f"{where} loads {image.name}: this is an image for encrypted boot, whose keys differ from board to board",
            hint="Build it without dek_blob_fit_dummy.bin, or sign and encrypt it with cst itself.",
        )
    if image.compression != "none":
        raise ImageError(
            f"{where} loads {image.name}, which is compressed ({image.compression}): HAB would see it unpacked",
            hint="Use images that are not compressed.",
        )
    if address is None:
        raise ImageError(f"{where} loads {image.name}, which has no load address")
    if address + image.size > _LIMIT:
        raise ImageError(f"{where} loads {image.name} to {address:#x}: HAB knows 32-bit addresses only")
    return Load(image, address)


def _device_tree(fit: Fit, configuration: Configuration, loads: list[Load], where: str) -> Load:
    """Behind U-Boot: the first image even if it does not say what it is, others where they do."""
    tree = fit.image(configuration.fdt[0])
    behind = [load for n, load in enumerate(loads) if load.image.os == "u-boot" or (n == 0 and load.image.os is None)]
    if len(behind) != 1:
        raise ImageError(
            f"{where} has the device tree {tree.name} and {len(behind)} images that it could be for"
            f" ({', '.join(load.image.name for load in behind) or 'none says that it is u-boot'})"
        )
    if tree.load is not None:
        return _load(tree, tree.load, where)
    if behind[0].end % 8:
        raise ImageError(
            f"{behind[0].image.name} has {behind[0].image.size:#x} bytes, no multiple of 8: whether SPL puts"
            f" {tree.name} right behind it, at {behind[0].end:#x}, or at the next multiple of 8 depends on"
            " the version of U-Boot",
            hint="Pad u-boot-nodtb.bin to a multiple of 16 bytes, as imx-mkimage does (scripts/pad_image.sh).",
        )
    return _load(tree, behind[0].end, where)
