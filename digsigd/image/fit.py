"""FIT: a device tree with images, and configurations that say which of them belong together.

Format: U-Boot, doc/usage/fit/source_file_format.rst. What U-Boot's SPL loads from a FIT is in `fit_loads`.
"""

from __future__ import annotations

from dataclasses import dataclass

from digsigd.image.errors import ImageError
from digsigd.image.fdt import Node, Tree
from digsigd.image.model import Buffer

_MOST_IMAGES = 64
_REBUILD = "Build the FIT again with mkimage."
# Other images that U-Boot loads by name from a configuration with a kernel.
_OTHER_IMAGES = ("ramdisk", "setup", "fpga", "script", "standalone")


@dataclass(frozen=True, slots=True)
class FitImage:
    """One image: `size` bytes at `offset` of the file.

    `kept` is how the tree refers to the bytes: "data" within the tree, "data-position" from the start of the tree, or
    "data-offset" from its end (as mkimage counts: from the next multiple of 4). Addresses are None if the tree has
    none. A build without an optional part, such as a TEE, leaves an image of 0 bytes. `short_entry` is the entry point
    as U-Boot before v2021.01 reads it, which only accepts numbers of 4 bytes.
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
        """The file offset just after it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Configuration:
    """Names of images that are loaded together. `firmware` is loaded first; None if the configuration has none.

    `fpga` says whether it has a bitstream, which SPLs load with CONFIG_SPL_FPGA.
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
        """Read the FIT at `offset`. Raises `ImageError` if an image that it names is missing or not in the file."""
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
            raise ImageError(f"{where} does not have its default configuration {default!r}", hint=_REBUILD)
        return cls(offset, tree.size, images, found, default)

    @property
    def end(self) -> int:
        """The file offset just after the tree."""
        return self.offset + self.size

    def image(self, name: str) -> FitImage:
        """Return the image of this name, which must exist."""
        return next(image for image in self.images if image.name == name)


def _part(tree: Tree, name: str) -> Node:
    node = tree.root.named(name)
    if "compatible" in tree.root.properties and not {"images", "configurations"} & set(tree.root.nodes):
        raise ImageError(
            f"the device tree at {tree.offset:#x} is for a board, it is not a FIT: where U-Boot loads it, and how it"
            " is checked there, is unknown",
            hint="Put it into a FIT, or write a CSF description for it and sign it with cst. A device tree alone cannot"
            " be verified.",
        )
    if node is None:
        raise ImageError(f"the device tree at {tree.offset:#x} is not a FIT: it has no node /{name}", hint=_REBUILD)
    return node


def _image(node: Node, tree: Tree, data: Buffer, where: str) -> FitImage:
    kept, offset, size = _place(node, tree, where)
    if size and offset + size > len(data):
        raise ImageError(
            f"the image {node.name!r} of {where}, {size:#x} bytes at {offset:#x}, is outside the file, which has"
            f" {len(data):#x} bytes",
            hint="The file is truncated, or it is a FIT's tree without its data.",
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
    """Return how the image's data are kept, their file offset and their size in bytes."""
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
                f"{where} has no image {name!r}, which its configuration {node.name!r} uses", hint=_REBUILD
            )
    for key in _OTHER_IMAGES:
        for name in node.texts(key) or ():
            images.named(name)
    return found
