"""What U-Boot's SPL loads from a FIT, and where it puts it: HAB checks what is in memory then.

Source: U-Boot and uboot-imx, common/spl/spl_fit.c (spl_load_simple_fit, load_simple_fit, spl_fit_append_fdt) and
boot/common_fit.c (fit_find_config_node), from v2018.03 to v2026.10. Of a configuration, SPL loads the
firmware, or without one the first loadable; after it, if it is U-Boot, the device tree; then all other loadables. SPL
jumps to the first entry point that one of them has, or else to where the first one is loaded.
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
        """The address just after it."""
        return self.address + self.image.size


@dataclass(frozen=True, slots=True)
class Choice:
    """What the signature covers: `configuration` is the one it is for, None if all configurations load the same."""

    loads: tuple[Load, ...]
    configuration: str | None


def choose(fit: Fit, name: str | None) -> Choice:
    """Return what is loaded, in the order of the file.

    One CSF serves all configurations, and it fails as a whole: if it covers the device trees of several boards, no
    board has all of them in memory, and all refuse to start (imx-mkimage issue 4; meta-variscite-hab makes an image for
    each). Raises `ImageError` if what is loaded depends on the board, or the FIT has no configuration `name`.
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
            f" {fit.configurations[0].name!r}, but {_described(found[first])} with"
            f" {fit.configurations[first].name!r}: one CSF signs what is in memory, and no board has both in memory",
            hint="Build one image with one device tree for each board, or a FIT with embedded data, as U-Boot's binman"
            f" does; or pass the configuration that this image is signed for: {_names(fit)}.",
        )
    return Choice(found[0], None)


def check_name(fit: Fit, name: str | None) -> None:
    """Raise `ImageError` if the FIT has no configuration `name`; None is accepted."""
    if name is not None and name not in [configuration.name for configuration in fit.configurations]:
        raise ImageError(f"the FIT at {fit.offset:#x} has no configuration {name!r}", hint=f"It has {_names(fit)}.")


def _check_others(fit: Fit, chosen: Configuration, signed: Sequence[Load]) -> None:
    """Raise `ImageError` if another configuration loads all that is signed and more.

    HAB accepts such a configuration, and refuses all others.
    """
    for other in fit.configurations:
        loads = _external(fit, other)
        more = [load.image.name for load in loads if load not in signed]
        if more and set(signed) <= set(loads):
            raise ImageError(
                f"{_where(fit, other)} loads all that {chosen.name!r} loads, and also {', '.join(more)}: signed for"
                f" {chosen.name!r} only, boards that select {other.name!r} would run these unsigned",
                hint=f"Sign the image for {other.name!r}, or build it without that configuration.",
            )


def _taken(fit: Fit, choice: Choice) -> Configuration:
    return next(one for one in fit.configurations if choice.configuration in (None, one.name))


def u_boots(fit: Fit, choice: Choice) -> tuple[Load, ...]:
    """Return the loads that SPL takes for U-Boot, and after which it puts the device tree. Raises `ImageError`."""
    one = _taken(fit, choice)
    return tuple(_behind(list(_ordered(fit, one, _where(fit, one)))))


def read_over(fit: Fit, choice: Choice) -> tuple[Load, Load] | None:
    """Return an image and an earlier one whose memory is overwritten when the first is read from SD or eMMC, or None.

    SPL reads whole blocks of the device to an address aligned to a cache line, and then moves the image to its place.
    Raises `ImageError`.
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
    """Return everything that any configuration of a FIT with embedded data loads.

    A FIT with a kernel at the start of the file is loaded by U-Boot; a FIT after an SPL, by that SPL. Raises
    `ImageError` for a FIT that no SPL boots.
    """
    kernels = [configuration for configuration in fit.configurations if configuration.kernel is not None]
    if kernels and not fit.offset:
        return _by_u_boot(fit)
    for configuration in kernels:
        if configuration.firmware is None:
            raise ImageError(
                f"{_where(fit, configuration)} has a kernel and no firmware: whether an SPL boots it depends on"
                " CONFIG_SPL_OS_BOOT",
                hint="Build the FIT after the SPL with U-Boot as its firmware, and sign the FIT with the kernel"
                " separately.",
            )
    _check_described(fit)
    found: dict[Load, None] = {}
    for configuration in fit.configurations:
        where = _where(fit, configuration)
        loads = list(_ordered(fit, configuration, where))
        behind = _behind(loads)
        if configuration.fdt and len(behind) == 1:
            tree = fit.image(configuration.fdt[0])
            # Older SPLs put it right behind, without alignment: that makes no difference to the checks here.
            loads.append(Load(tree, _aligned(behind[0].end) if tree.load is None else tree.load))
        _check_apart(loads, where)
        _check_entry(fit, configuration, loads, where)
        found.update(dict.fromkeys(loads))
    return tuple(found)


def _by_u_boot(fit: Fit) -> tuple[Load, ...]:
    """Return what U-Boot loads with bootm: images with a load address. For others, U-Boot chooses the place."""
    for configuration in fit.configurations:
        kernel = fit.image(configuration.kernel) if configuration.kernel is not None else None
        # The addresses of kernel_noload are relative to where the kernel is.
        if kernel is None or kernel.kind == "kernel_noload" or kernel.load is None or kernel.entry is None:
            continue
        inside = kernel.load <= kernel.entry and kernel.entry + _INSTRUCTION <= kernel.load + kernel.size
        if not (inside or (kernel.compression != "none" and kernel.load <= kernel.entry)):
            raise ImageError(
                f"{_where(fit, configuration)} starts at {kernel.entry:#x}, but its kernel {kernel.name}"
                f" ({kernel.size:#x} bytes) is loaded to {kernel.load:#x}: nothing loaded and signed is at the entry"
                " point",
                hint="Build the FIT again with an entry point inside its kernel.",
            )
    return tuple(Load(image, image.load) for image in fit.images if image.load is not None and image.size)


def _check_described(fit: Fit) -> None:
    """Raise `ImageError` for a configuration without a description: SPL selects by descriptions, and stops there."""
    for configuration in fit.configurations:
        if configuration.description is None:
            raise ImageError(
                f"{_where(fit, configuration)} has no description: SPL looks for its board in the descriptions of"
                " all configurations, and boots none if a description is missing",
                hint="Build the FIT again with a description for each configuration.",
            )


def _where(fit: Fit, configuration: Configuration) -> str:
    return f"the configuration {configuration.name!r} of the FIT at {fit.offset:#x}"


def _names(fit: Fit) -> str:
    return ", ".join(configuration.name for configuration in fit.configurations)


def _described(loads: tuple[Load, ...]) -> str:
    return " and ".join(load.image.name for load in loads)


def _external(fit: Fit, configuration: Configuration) -> tuple[Load, ...]:
    """Return what SPL loads with this configuration of a FIT with external data, without keys."""
    where = _where(fit, configuration)
    if configuration.kernel is not None:
        raise ImageError(
            f"{where} has a kernel; with external data, only a FIT that U-Boot's SPL loads is supported",
            hint="Build the FIT without mkimage's option -E, and pass the address where U-Boot loads it.",
        )
    if len(configuration.fdt) > 1:
        raise ImageError(
            f"{where} has overlays ({', '.join(configuration.fdt[1:])}): SPL applies them before HAB checks the tree",
            hint="Apply the overlays when you build the image.",
        )
    loads = list(_ordered(fit, configuration, where))
    for load in loads:
        if load.image.compression != "none":
            raise ImageError(
                f"{where} loads {load.image.name}, which is compressed ({load.image.compression}): HAB would check it"
                " decompressed",
                hint="Use uncompressed images.",
            )
    if configuration.fdt:
        loads.append(_device_tree(fit, configuration, loads, where))
    _check_apart(loads, where)
    loads = [load for load in loads if not is_key(load.image)]
    _check_entry(fit, configuration, loads, where)
    return tuple(sorted(loads, key=lambda load: load.image.offset))


def _ordered(fit: Fit, configuration: Configuration, where: str) -> Iterator[Load]:
    """Yield firmware and loadables in the order in which SPL loads them, without those of 0 bytes."""
    names = _loaded_names(configuration)
    if configuration.fpga:
        raise ImageError(f"{where} has a bitstream for an FPGA: not supported", hint="Build the FIT without it.")
    if not names:
        raise ImageError(
            f"{where} has neither firmware nor loadables, so SPL loads nothing",
            hint="Add them to the configuration in the FIT's source, and build the FIT again.",
        )
    for number, name in enumerate(names):
        image = fit.image(name)
        if image.os is not None and image.os != "u-boot" and image.os.lower() == "u-boot":
            # boot/image.c compares without regard to case, spl_fit.c with CONFIG_SPL_FIT_IMAGE_TINY does not.
            raise ImageError(
                f"{where} loads {name}, whose os is {image.os!r}: whether SPL takes that for U-Boot, and puts a device"
                " tree after it, depends on the configuration of SPL",
                hint='Build the FIT again with os = "u-boot" for U-Boot only.',
            )
        if image.size:
            yield _load(image, image.load, where)
        elif not number:
            raise ImageError(
                f"{where} starts with {name}, which is empty: SPL would load nothing and run whatever is in memory",
                hint="Build the FIT again with all its parts.",
            )


def _loaded_names(configuration: Configuration) -> list[str]:
    first = [configuration.firmware] if configuration.firmware else []
    return list(dict.fromkeys([*first, *configuration.loadables]))


def _check_apart(loads: Sequence[Load], where: str) -> None:
    for before, after in pairwise(sorted(loads, key=lambda load: load.address)):
        if after.address < before.end:
            raise ImageError(
                f"{where} loads {before.image.name} ({before.image.size:#x} bytes) to {before.address:#x} and"
                f" {after.image.name} to {after.address:#x}: they overlap",
                hint="Build the image again with other load addresses.",
            )


def _check_entry(fit: Fit, configuration: Configuration, loads: Sequence[Load], where: str) -> None:
    """Raise `ImageError` if SPL jumps to what is not loaded and signed, in U-Boot of today or before v2021.01."""
    for short in (False, True):
        name, entry = _entry(fit, configuration, where, short=short)
        for load in loads:
            # Of a compressed image, only the address of the first byte is known.
            end = load.address + _INSTRUCTION if load.image.compression != "none" else load.end
            if load.address <= entry and entry + _INSTRUCTION <= end:
                break
        else:
            raise ImageError(
                f"{where} starts at {entry:#x}, the entry point of {name}: nothing loaded and signed is at that"
                " address",
                hint="Build the FIT again with an entry point inside one of its images.",
            )


def _entry(fit: Fit, configuration: Configuration, where: str, *, short: bool) -> tuple[str, int]:
    """Return the name of the image that gives the entry point, and the address where SPL jumps to."""
    images = [fit.image(name) for name in _loaded_names(configuration)]
    for image in images:
        if not image.size and image.kept != "data":
            # SPL leaves what it knows of the image before it, or nothing.
            raise ImageError(
                f"{where} loads {image.name}, which is empty, before any image that has an entry point: the address"
                " that SPL jumps to is unknown",
                hint="Build the FIT again with all its parts.",
            )
        entry = image.short_entry if short else image.entry
        if entry is not None and entry != _NO_ENTRY:
            if entry:
                return image.name, entry
            break
    return images[0].name, images[0].load or 0


def is_key(image: FitImage) -> bool:
    """Return whether this is the place for a key that each board gets after signing: mkimage_fit_atf.sh."""
    return image.name.startswith("dek_blob")


def _load(image: FitImage, address: int | None, where: str) -> Load:
    if address is None:
        raise ImageError(
            f"{where} loads {image.name}, which has no load address",
            hint=f"Add `load` to the node of {image.name} in the FIT's source, and build the FIT again.",
        )
    if address + image.size > _LIMIT:
        raise ImageError(
            f"{where} loads {image.name} to {address:#x}, but HAB only has 32-bit addresses",
            hint=f"Set `load` of {image.name} in the FIT's source to an address below 4 GiB, and build the FIT again.",
        )
    return Load(image, address)


def _behind(loads: Sequence[Load]) -> list[Load]:
    """Return the loads after which SPL puts the device tree: U-Boot, and a first image without `os`."""
    return [load for n, load in enumerate(loads) if load.image.os == "u-boot" or (n == 0 and load.image.os is None)]


def _aligned(address: int, to: int = 8) -> int:
    return -(-address // to) * to


def _device_tree(fit: Fit, configuration: Configuration, loads: list[Load], where: str) -> Load:
    tree = fit.image(configuration.fdt[0])
    if not tree.size:
        raise ImageError(f"{where} has the device tree {tree.name}, which is empty", hint="Build the FIT again.")
    if tree.compression != "none":
        raise ImageError(
            f"{where} loads {tree.name}, which is compressed ({tree.compression}): HAB would check it decompressed",
            hint="Use uncompressed images.",
        )
    behind = _behind(loads)
    if len(behind) != 1:
        raise ImageError(
            f"{where} has the device tree {tree.name} and {len(behind)} images that it could be for"
            f" ({', '.join(load.image.name for load in behind) or 'no image has os = u-boot'})",
            hint='Set `os = "u-boot"` for the image that uses the tree, and for no other, and build the FIT again.',
        )
    if tree.load is not None:
        return _load(tree, tree.load, where)
    if behind[0].end % 8:
        raise ImageError(
            f"{behind[0].image.name} has {behind[0].image.size:#x} bytes, which is not a multiple of 8: whether SPL"
            f" puts {tree.name} right after it, at {behind[0].end:#x}, or at the next multiple of 8 depends on"
            " the version of U-Boot",
            hint="Pad u-boot-nodtb.bin to a multiple of 16 bytes, as imx-mkimage does (scripts/pad_image.sh).",
        )
    return _load(tree, behind[0].end, where)
