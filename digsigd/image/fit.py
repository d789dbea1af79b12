"""FIT: a device tree with images, and configurations that say which of them belong together.

Format: U-Boot, doc/usage/fit/source_file_format.rst. What U-Boot's SPL makes of it is in `loads`.
"""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.image.errors import ImageError
from digsigd.image.fdt import Node, Tree
from digsigd.image.model import Buffer

_MOST_IMAGES = 64
_REBUILD = "Build the FIT again with mkimage."
# What else U-Boot itself loads by name, of configurations with a kernel.
_OTHER_IMAGES = ("ramdisk", "setup", "fpga", "script", "standalone")


@dataclass(frozen=True, slots=True)
class FitImage:
    """One image: `size` bytes at `offset` of the file, wherever the tree says that they are.

    `kept` says how: "data" within the tree, "data-position" from the start of the tree, or "data-offset" from behind
    it (`offset` is then what mkimage means: from the next multiple of 4). Addresses are None where the tree has none.
    Builds without an optional part, a TEE say, leave an image of 0 bytes. `short_entry` is the entry point as U-Boot
    before v2021.01 reads it, which takes numbers of 4 bytes only.
    """

    name: str
    description: str
    kind: str
    os: str | None
    compression: str
    load: int | None
    entry: int | None
    kept: str
    offset: int
    size: int
    short_entry: int | None

    @property
    def end(self) -> int:
        """The file offset just behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Configuration:
    """Names of images that are loaded together. `firmware` is the first one, None where there is none.

    `fpga` tells of a bitstream, which SPLs load with CONFIG_SPL_FPGA.
    """

    name: str
    description: str | None
    firmware: str | None
    kernel: str | None
    loadables: tuple[str, ...]
    fdt: tuple[str, ...]
    fpga: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A FIT whose tree has `size` bytes at `offset` of the file."""

    offset: int
    size: int
    images: tuple[FitImage, ...]
    configurations: tuple[Configuration, ...]
    default: str | None

    @classmethod
    def read(cls, data: Buffer, offset: int = 0) -> Fit:
        """Read the tree, and see that all it names is there and in the file. Raises `ImageError`."""
        tree = Tree.read(data, offset)
        where = f"the FIT at {offset:#x}"
        images_node, configurations = (_part(tree, name) for name in ("images", "configurations"))
        nodes = images_node.nodes
        if not 0 < len(nodes) <= _MOST_IMAGES:
            raise ImageError(f"{where} has {len(nodes)} images; 1 to {_MOST_IMAGES} are possible", hint=_REBUILD)
        images = tuple(_image(node, tree, data, where) for node in nodes.values())
        if not 0 < len(configurations.nodes) <= _MOST_IMAGES:
            raise ImageError(
                f"{where} has {len(configurations.nodes)} configurations; 1 to {_MOST_IMAGES} are possible",
                hint=_REBUILD,
            )
        found = tuple(_configuration(node, images_node, where) for node in configurations.nodes.values())
        default = configurations.text("default")
        if default is not None and configurations.named(default) is None:
            raise ImageError(f"{where} has no configuration {default!r}, which is its default", hint=_REBUILD)
        return cls(offset, tree.size, images, found, default)

    @property
    def end(self) -> int:
        """The file offset just behind the tree."""
        return self.offset + self.size

    def image(self, name: str) -> FitImage:
        """The image of this name, which has to be there."""
        return next(image for image in self.images if image.name == name)


def _part(tree: Tree, name: str) -> Node:
    node = tree.root.named(name)
    if "compatible" in tree.root.properties and not {"images", "configurations"} & set(tree.root.nodes):
        raise ImageError(
            f"the device tree at {tree.offset:#x} is one for a board, not a FIT: where U-Boot loads it, and how it is"
            " checked there, is not known",
            hint="Put it into a FIT, or sign it with cst and a CSF description of your own. It is not verified alone.",
        )
    if node is None:
        raise ImageError(f"the device tree at {tree.offset:#x} is no FIT: it has no node /{name}", hint=_REBUILD)
    return node


def _image(node: Node, tree: Tree, data: Buffer, where: str) -> FitImage:
    kept, offset, size = _place(node, tree, where)
    if size and offset + size > len(data):
        raise ImageError(
            f"the image {node.name!r} of {where}, {size:#x} bytes at {offset:#x}, is not in the file of {len(data):#x}",
            hint="The file is truncated, or is a FIT's tree without its data.",
        )
    return FitImage(
        node.name,
        node.words("description") or "",
        node.text("type") or "",
        node.text("os"),
        node.text("compression") or "none",
        node.number("load", cells=(1, 2)),
        node.number("entry", cells=(1, 2)),
        kept,
        offset,
        size,
        node.number("entry") if "entry" in node.properties and node.properties["entry"].length == 4 else None,
    )


def _place(node: Node, tree: Tree, where: str) -> tuple[str, int, int]:
    """How the image's data are kept, and their offset and size."""
    ways = [name for name in ("data", "data-position", "data-offset") if name in node.properties]
    if len(ways) != 1:
        seen = " and ".join(ways) or "no data"
        raise ImageError(f"the image {node.name!r} of {where} has {seen}", hint=_REBUILD)
    kept = ways[0]
    if kept == "data":
        value = node.properties["data"]
        return kept, value.offset, value.length
    position, size = node.number(kept), node.number("data-size")
    if position is None or size is None:
        raise ImageError(f"the image {node.name!r} of {where} has {kept} without data-size", hint=_REBUILD)
    start = tree.offset if kept == "data-position" else tree.offset + (tree.size + 3 & ~3)
    return kept, start + position, size


def _configuration(node: Node, images: Node, where: str) -> Configuration:
    found = Configuration(
        node.name,
        node.words("description"),
        node.text("firmware"),
        node.text("kernel"),
        node.texts("loadables") or (),
        node.texts("fdt") or (),
        "fpga" in node.properties,
    )
    for name in (found.firmware, found.kernel, *found.loadables, *found.fdt):
        if name is not None and images.named(name) is None:
            raise ImageError(
                f"{where} has no image {name!r}, which its configuration {node.name!r} names", hint=_REBUILD
            )
    for key in _OTHER_IMAGES:
        for name in node.texts(key) or ():
            images.named(name)
    return found
