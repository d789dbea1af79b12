"""What U-Boot's SPL loads from a FIT, and where it puts it: HAB checks what is in memory then.

Source: U-Boot and uboot-imx, common/spl/spl_fit.c (spl_load_simple_fit, load_simple_fit, spl_fit_append_fdt) and
boot/common_fit.c (fit_find_config_node), from v2018.03 to v2026.10. Of a configuration, the firmware is loaded, else
the first of the loadables; behind it, where it is U-Boot, the device tree; then all other loadables. Where to jump, the
first of them tells that has an entry point; else it is where the first one is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from digsigd.image.errors import ImageError
from digsigd.image.fit import Configuration, Fit, FitImage

_LIMIT = 1 << 32
_NO_ENTRY = (1 << 64) - 1  # FDT_ERROR
_INSTRUCTION = 4
# spl_fit.c, load_simple_fit: a block of SD and eMMC, and ARCH_DMA_MINALIGN.
_BLOCK, _LINE = 0x200, 0x40


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
    _check_described(fit)
    check_name(fit, name)
    for configuration in fit.configurations:
        if configuration.name == name:
            loads = _external(fit, configuration)
            _check_others(fit, configuration, loads)
            return Choice(loads, name if len(fit.configurations) > 1 else None)
    found = [_external(fit, configuration) for configuration in fit.configurations]
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


def check_name(fit: Fit, name: str | None) -> None:
    """Raise `ImageError` where there is no such configuration."""
    if name is not None and name not in [configuration.name for configuration in fit.configurations]:
        raise ImageError(f"the FIT at {fit.offset:#x} has no configuration {name!r}", hint=f"It has {_names(fit)}.")


def _check_others(fit: Fit, chosen: Configuration, signed: Sequence[Load]) -> None:
    """HAB refuses what other configurations load, but not where they load all that is signed, and something else."""
    for other in fit.configurations:
        loads = _external(fit, other)
        more = [load.image.name for load in loads if load not in signed]
        if more and set(signed) <= set(loads):
            raise ImageError(
                f"{_where(fit, other)} loads all that {chosen.name!r} does, and {', '.join(more)}: signed for"
                f" {chosen.name!r} alone, boards that take {other.name!r} would run that unsigned",
                hint=f"Sign the image for {other.name!r}, or build it without that configuration.",
            )


def _taken(fit: Fit, choice: Choice) -> Configuration:
    return next(one for one in fit.configurations if choice.configuration in (None, one.name))


def u_boots(fit: Fit, choice: Choice) -> tuple[Load, ...]:
    """What of it is U-Boot, as SPL sees it: what gets the device tree behind it."""
    one = _taken(fit, choice)
    return tuple(_behind(list(_ordered(fit, one, _where(fit, one)))))


def read_over(fit: Fit, choice: Choice) -> tuple[Load, Load] | None:
    """An image, and one loaded before it, right behind in memory, that reading it from SD or eMMC writes over.

    SPL reads whole blocks of the device to a line of the cache, and moves what it wanted to its place afterwards.
    """
    images = [load for name in _loaded_names(_taken(fit, choice)) for load in choice.loads if load.image.name == name]
    trees = [load for load in choice.loads if load not in images]
    main = u_boots(fit, choice)
    order = [one for load in images for one in ((load, *trees) if load in main else (load,))]
    for number, load in enumerate(order):
        before = (load.image.offset - fit.offset) % _BLOCK
        end = _aligned(load.address, _LINE) + _aligned(before + load.image.size, _BLOCK)
        for other in order[:number]:
            if load.end <= other.address < end:
                return load, other
    return None


def embedded(fit: Fit) -> tuple[Load, ...]:
    """What may be loaded from a FIT that is signed whole, whichever of its configurations a board takes.

    Raises `ImageError` for one that no SPL boots. What U-Boot itself makes of one with a kernel is another matter; what
    is behind an SPL, that loads.
    """
    kernels = [configuration for configuration in fit.configurations if configuration.kernel is not None]
    if kernels and not fit.offset:
        return _by_u_boot(fit)
    for configuration in kernels:
        if configuration.firmware is None:
            raise ImageError(
                f"{_where(fit, configuration)} has a kernel and no firmware: what an SPL makes of it depends on"
                " CONFIG_SPL_OS_BOOT",
                hint="Build the FIT behind the SPL with U-Boot as its firmware, and sign one with a kernel by itself.",
            )
    _check_described(fit)
    found: dict[Load, None] = {}
    for configuration in fit.configurations:
        where = _where(fit, configuration)
        loads = list(_ordered(fit, configuration, where))
        behind = _behind(loads)
        if configuration.fdt and len(behind) == 1:
            tree = fit.image(configuration.fdt[0])
            # Older SPLs have it right behind: that is no other place for what is asked here.
            loads.append(Load(tree, _aligned(behind[0].end) if tree.load is None else tree.load))
        _check_apart(loads, where)
        _check_entry(fit, configuration, loads, where)
        found.update(dict.fromkeys(loads))
    return tuple(found)


def _by_u_boot(fit: Fit) -> tuple[Load, ...]:
    """What U-Boot loads with bootm: images that have an address; others stay where they are, or go where it likes."""
    for configuration in fit.configurations:
        kernel = fit.image(configuration.kernel) if configuration.kernel is not None else None
        # In kernel_noload the addresses are counted from wherever it is.
        if kernel is None or kernel.kind == "kernel_noload" or kernel.load is None or kernel.entry is None:
            continue
        inside = kernel.load <= kernel.entry and kernel.entry + _INSTRUCTION <= kernel.load + kernel.size
        if not (inside or (kernel.compression != "none" and kernel.load <= kernel.entry)):
            raise ImageError(
                f"{_where(fit, configuration)} starts at {kernel.entry:#x}, and its kernel {kernel.name} is loaded to"
                f" {kernel.load:#x}, {kernel.size:#x} bytes: nothing that is loaded and signed is there",
                hint="Build the FIT again with an entry point in its kernel.",
            )
    return tuple(Load(image, image.load) for image in fit.images if image.load is not None and image.size)


def _check_described(fit: Fit) -> None:
    """SPL takes a configuration by its description, and gives up at one without."""
    for configuration in fit.configurations:
        if configuration.description is None:
            raise ImageError(
                f"{_where(fit, configuration)} has no description: SPL looks for its board's in the descriptions of"
                " all configurations, and boots none if one is missing",
                hint="Build the FIT again, each configuration with a description.",
            )


def _where(fit: Fit, configuration: Configuration) -> str:
    return f"the configuration {configuration.name!r} of the FIT at {fit.offset:#x}"


def _names(fit: Fit) -> str:
    return ", ".join(configuration.name for configuration in fit.configurations)


def _described(loads: tuple[Load, ...]) -> str:
    return " and ".join(load.image.name for load in loads)


def _external(fit: Fit, configuration: Configuration) -> tuple[Load, ...]:
    """What one configuration loads, each image for certain. Keys are left out."""
    where = _where(fit, configuration)
    if configuration.kernel is not None:
        raise ImageError(
            f"{where} has a kernel; with external data, only what U-Boot's SPL loads is known",
            hint="Make a FIT with a kernel without mkimage's option -E, and give the address where U-Boot loads it.",
        )
    if len(configuration.fdt) > 1:
        raise ImageError(
            f"{where} has overlays ({', '.join(configuration.fdt[1:])}): SPL applies them before HAB checks the tree",
            hint="Apply the overlays when the image is built.",
        )
    loads = list(_ordered(fit, configuration, where))
    for load in loads:
        if load.image.compression != "none":
            raise ImageError(
                f"{where} loads {load.image.name}, which is compressed ({load.image.compression}): HAB would see it"
                " unpacked",
                hint="Use images that are not compressed.",
            )
    if configuration.fdt:
        loads.append(_device_tree(fit, configuration, loads, where))
    _check_apart(loads, where)
    loads = [load for load in loads if not is_key(load.image)]
    _check_entry(fit, configuration, loads, where)
    return tuple(sorted(loads, key=lambda load: load.image.offset))


def _ordered(fit: Fit, configuration: Configuration, where: str) -> Iterator[Load]:
    """Firmware and loadables in the order in which SPL loads them, without those of 0 bytes."""
    names = _loaded_names(configuration)
    if configuration.fpga:
        raise ImageError(f"{where} has a bitstream for an FPGA, which is not known", hint="Build the FIT without it.")
    if not names:
        raise ImageError(f"{where} names neither firmware nor loadables, so SPL loads nothing")
    for number, name in enumerate(names):
        image = fit.image(name)
        if image.os is not None and image.os != "u-boot" and image.os.lower() == "u-boot":
            # boot/image.c compares without regard to case, spl_fit.c with CONFIG_SPL_FIT_IMAGE_TINY does not.
            raise ImageError(
                f"{where} loads {name}, whose os is {image.os!r}: whether SPL takes that for U-Boot, and puts a device"
                " tree behind it, depends on its configuration",
                hint='Build the FIT again with os = "u-boot" for U-Boot alone.',
            )
        if image.size:
            yield _load(image, image.load, where)
        elif not number:
            raise ImageError(
                f"{where} starts with {name}, which is empty: SPL would load nothing and start what is there",
                hint="Build the FIT again with all its parts.",
            )


def _loaded_names(configuration: Configuration) -> list[str]:
    first = [configuration.firmware] if configuration.firmware else []
    return list(dict.fromkeys([*first, *configuration.loadables]))


def _check_apart(loads: Sequence[Load], where: str) -> None:
    for before, after in pairwise(sorted(loads, key=lambda load: load.address)):
        if after.address < before.end:
            raise ImageError(
                f"{where} loads {before.image.name} to {before.address:#x}, {before.image.size:#x} bytes, and"
                f" {after.image.name} to {after.address:#x}: they overlap",
                hint="Build the image again with other load addresses.",
            )


def _check_entry(fit: Fit, configuration: Configuration, loads: Sequence[Load], where: str) -> None:
    """What SPL jumps to has to be loaded and signed, as U-Boot reads it now and before v2021.01."""
    for short in (False, True):
        name, entry = _entry(fit, configuration, where, short=short)
        for load in loads:
            # Of what is compressed, only the first byte has a place that is known.
            end = load.address + _INSTRUCTION if load.image.compression != "none" else load.end
            if load.address <= entry and entry + _INSTRUCTION <= end:
                break
        else:
            raise ImageError(
                f"{where} starts at {entry:#x}, by the entry point of {name}: nothing that is loaded and signed is"
                " there",
                hint="Build the FIT again with an entry point in one of its images.",
            )


def _entry(fit: Fit, configuration: Configuration, where: str, *, short: bool) -> tuple[str, int]:
    """Where SPL jumps to, and the image that says so."""
    images = [fit.image(name) for name in _loaded_names(configuration)]
    for image in images:
        if not image.size and image.kept != "data":
            # SPL leaves what it knows of the image before it, or nothing.
            raise ImageError(
                f"{where} loads {image.name}, which is empty, before any image that has an entry point: where SPL jumps"
                " to is not known",
                hint="Build the FIT again with all its parts.",
            )
        entry = image.short_entry if short else image.entry
        if entry is not None and entry != _NO_ENTRY:
            if entry:
                return image.name, entry
            break
    return images[0].name, images[0].load or 0


def is_key(image: FitImage) -> bool:
    """Whether this is a place for a key that each board gets for itself, after signing: mkimage_fit_atf.sh."""
    return image.name.startswith("dek_blob")


def _load(image: FitImage, address: int | None, where: str) -> Load:
    if address is None:
        raise ImageError(f"{where} loads {image.name}, which has no load address")
    if address + image.size > _LIMIT:
        raise ImageError(f"{where} loads {image.name} to {address:#x}: HAB knows 32-bit addresses only")
    return Load(image, address)


def _behind(loads: Sequence[Load]) -> list[Load]:
    """What gets the device tree behind it: U-Boot, which the first image is even if it does not say so."""
    return [load for n, load in enumerate(loads) if load.image.os == "u-boot" or (n == 0 and load.image.os is None)]


def _aligned(address: int, to: int = 8) -> int:
    return -(-address // to) * to


def _device_tree(fit: Fit, configuration: Configuration, loads: list[Load], where: str) -> Load:
    tree = fit.image(configuration.fdt[0])
    if not tree.size:
        raise ImageError(f"{where} has the device tree {tree.name}, which is empty", hint="Build the FIT again.")
    if tree.compression != "none":
        raise ImageError(
            f"{where} loads {tree.name}, which is compressed ({tree.compression}): HAB would see it unpacked",
            hint="Use images that are not compressed.",
        )
    behind = _behind(loads)
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
