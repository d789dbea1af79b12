"""Random FITs with real signatures: right ones, and such that are wrong in one respect; what both say of them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import libfdt

from digsigd.image import plan as planner
from digsigd.image.errors import ImageError
from digsigd.image.verify import verify
from tests.model import shapes, trees
from tests.model.rom import Refused, Rom
from tests.model.shapes import Authenticate, Case, Other
from tests.model.trees import Node, cell, text
from tests.model.uboot import IVT_SIZE, Memory, Spl

# imx-mkimage: u-boot.itb for 0x40200000, its ATF and TEE on an i.MX8M Plus, whose HAB takes ECDSA keys.
UBOOT, ATF, TEE = 0x40200000, 0x970000, 0x56000000
POSITION = 0x5000


@dataclass
class Fit:
    """A FIT in the making. `data` are its images by the name of their nodes; `blocks` what is signed, if not all."""

    root: Node
    data: dict[str, bytes]
    embedded: bool
    address: int
    case: Case
    fault: str = "none"
    compatible: int = 16
    ivt: list[int] = field(default_factory=list)
    cut: int = 0
    spoil: Callable[[bytearray], None] | None = None
    change_blocks: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] | None = None

    def images(self) -> Node:
        return next(node for node in self.root.nodes if node.name == "images")

    def configurations(self) -> Node:
        return next(node for node in self.root.nodes if node.name == "configurations")

    def file(self) -> bytes:
        """All of it, with its CSF."""
        position = POSITION
        if not self.embedded:
            for node in self.images().nodes:
                known = dict(node.properties)
                if node.name in self.data and "data-size" not in known:
                    node.put("data-position", cell(position))
                    node.put("data-size", cell(len(self.data[node.name])))
                    position += (len(self.data[node.name]) + 3) & ~3
        tree = trees.written(self.root, self.compatible)
        size = -(-len(tree) // 0x1000) * 0x1000
        own = self.address + size
        words = [own if self.embedded else self.address, 0, 0, 0, own, own + IVT_SIZE, 0]
        for at, value in enumerate(self.ivt):
            words[at] += value
        file = tree.ljust(size, b"\0") + b"\xd1\0\x20\x41" + struct.pack("<7I", *words)
        blob = self._blob(file, size)
        file = (file + blob).ljust(size + IVT_SIZE + 0x1FE0, b"\0")
        if not self.embedded:
            file = file.ljust(POSITION, b"\0")
            for node in self.images().nodes:
                if node.name in self.data:
                    content = self.data[node.name]
                    file += content + bytes(-len(content) % 4)
        changed = bytearray(file[: len(file) - self.cut])
        if self.spoil is not None:
            self.spoil(changed)
        return bytes(changed)

    def _blob(self, file: bytes, size: int) -> bytes:
        """Signs what is in memory once this FIT is loaded as it is meant to be."""
        memory = Memory([(self.address, file)])
        blocks = [(self.address, size + IVT_SIZE)]
        if not self.embedded:
            for name, address in self.meant():
                memory.written.append((address, self.data[name]))
                blocks.append((address, len(self.data[name])))
        if self.change_blocks is not None:
            blocks = self.change_blocks(blocks)
        self.case.memory = memory.read  # type: ignore[method-assign]
        signs = next(one for one in self.case.commands if isinstance(one, Authenticate) and one.blocks)
        signs.blocks, signs.engine = blocks, 0x1D
        rest = [one for one in self.case.commands if isinstance(one, Authenticate) and one.blocks][1:]
        self.case.commands = [one for one in self.case.commands if one not in rest]
        return self.case.blob()

    def meant(self) -> list[tuple[str, int]]:
        """Names and addresses of what is loaded, in a FIT without a fault."""
        found = [("uboot-1", UBOOT), ("fdt-1", UBOOT + len(self.data["uboot-1"])), ("atf-1", ATF)]
        return found + ([("tee-1", TEE)] if "tee-1" in self.data else [])


def right(chance: random.Random) -> Fit:
    """As imx-mkimage and binman make them."""
    case = shapes.right(chance)
    embedded = chance.random() < 0.4
    data = {
        "uboot-1": chance.randbytes(16 * chance.randrange(4, 0x40)),
        "fdt-1": b"\xd0\x0d\xfe\xed" + chance.randbytes(4 * chance.randrange(4, 0x40)),
        "atf-1": chance.randbytes(4 * chance.randrange(4, 0x40)),
    }
    if chance.random() < 0.6:
        data["tee-1"] = chance.randbytes(4 * chance.randrange(4, 0x40))
    kinds = {
        "uboot-1": [("type", text("standalone")), ("load", cell(UBOOT))],
        "fdt-1": [("type", text("flat_dt"))],
        "atf-1": [("type", text("firmware")), ("load", cell(ATF)), ("entry", cell(ATF))],
        "tee-1": [("type", text("firmware")), ("load", cell(TEE)), ("entry", cell(TEE))],
    }
    images = Node("images")
    for name in chance.sample(sorted(data), len(data)):
        node = Node(name, [("description", text(name)), *kinds[name], ("compression", text("none"))])
        if embedded:
            node.put("data", data[name])
        images.nodes.append(node)
    loadables = [name for name in ("atf-1", "tee-1") if name in data]
    configuration = Node("config-1", [("description", text("a board")), ("firmware", text("uboot-1")),
                                      ("loadables", text(*loadables)), ("fdt", text("fdt-1"))])  # fmt: skip
    configurations = Node("configurations", [("default", text("config-1"))], [configuration])
    root = Node("", [("description", text("a FIT"))], [images, configurations])
    # Right before U-Boot, as SPLs have it that look at external data: board_spl_fit_buffer_addr.
    address = UBOOT - 0x6000 if not embedded else 0x44000000
    return Fit(root, data, embedded, address, case)


Fault = Callable[[random.Random, Fit], None]
FAULTS: dict[str, Fault] = {}


def fault(make: Fault) -> Fault:
    FAULTS[make.__name__] = make
    return make


@fault
def changed_byte(chance: random.Random, fit: Fit) -> None:
    """Anywhere."""
    place, bit = chance.random(), chance.randrange(8)

    def spoil(file: bytearray) -> None:
        file[int(place * len(file))] ^= 1 << bit

    fit.spoil = spoil


@fault
def changed_tree(chance: random.Random, fit: Fit) -> None:
    """A byte of the tree or its IVT."""
    place, bit = chance.random(), chance.randrange(8)

    def spoil(file: bytearray) -> None:
        size = struct.unpack_from(">I", file, 4)[0]
        file[int(place * size)] ^= 1 << bit

    fit.spoil = spoil


@fault
def other_ivt(chance: random.Random, fit: Fit) -> None:
    """One of its words is another."""
    fit.ivt = [0] * 7
    fit.ivt[chance.randrange(7)] = chance.choice((4, 0x20, 0x1000, 0x40))


@fault
def unsigned_part(chance: random.Random, fit: Fit) -> None:
    """A block is missing, or shorter."""
    which, shorter = chance.random(), chance.random() < 0.5

    def change(blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
        at = int(which * len(blocks))
        address, length = blocks[at]
        if len(blocks) > 1 and not shorter:
            return blocks[:at] + blocks[at + 1 :]
        return [*blocks[:at], (address, length - 4), *blocks[at + 1 :]]

    fit.change_blocks = change


@fault
def twin_of_a_node(chance: random.Random, fit: Fit) -> None:
    """To libfdt `atf-1@0` is `atf-1`, and the first of the two."""
    parent = chance.choice([fit.root, fit.images(), fit.configurations()])
    one = chance.choice(parent.nodes)
    twin = Node(one.name + chance.choice(("@0", "@", "@1")), list(one.properties), list(one.nodes))
    if parent is fit.images() and fit.embedded:
        twin.put("data", b"evil" * 8)
    elif parent is fit.images():
        fit.data[twin.name] = b"evil" * 8
    parent.nodes.insert(chance.choice((0, len(parent.nodes))), twin)


@fault
def entry(chance: random.Random, fit: Fit) -> None:
    """Somewhere else."""
    node = chance.choice(fit.images().nodes)
    value = chance.choice((0, 4, UBOOT, UBOOT + 8, UBOOT - 4, ATF, TEE, 0x7F000000, fit.address))
    node.put("entry", chance.choice((cell(value), cell(0) + cell(value))))


@fault
def load(chance: random.Random, fit: Fit) -> None:
    """Somewhere else, without an address, or over something."""
    node = chance.choice(fit.images().nodes)
    value = chance.choice((UBOOT, UBOOT + 8, ATF, ATF + 16, fit.address, fit.address + 0x1000, 0xFFFFFFF0))
    node.put("load", chance.choice((cell(value), cell(0) + cell(value), None)))


@fault
def sizes_of_two_cells(chance: random.Random, fit: Fit) -> None:
    """U-Boot reads the first."""
    for node in fit.images().nodes:
        if not fit.embedded and chance.random() < 0.7:
            size = len(fit.data[node.name])
            position = POSITION
            for other in fit.images().nodes:
                if other is node:
                    break
                position += (len(fit.data[other.name]) + 3) & ~3
            node.put("data-position", cell(position))
            node.put("data-size", chance.choice((cell(0) + cell(size), cell(size) + cell(0), cell(size)[:2])))


@fault
def without_a_property(chance: random.Random, fit: Fit) -> None:
    """Any of an image or a configuration."""
    node = chance.choice([*fit.images().nodes, *fit.configurations().nodes])
    node.put(chance.choice(node.properties)[0], None)


@fault
def another_configuration(chance: random.Random, fit: Fit) -> None:
    """One that loads something else, or the same, or has no description."""
    first = fit.configurations().nodes[0]
    other = Node("config-2", list(first.properties))
    what = chance.randrange(4)
    if what == 0:
        other.put("loadables", text("atf-1"))
    elif what == 1:
        other.put("description", None)
    elif what == 2:
        other.put("fdt", text("atf-1"))
    fit.configurations().nodes.insert(chance.randrange(2), other)


@fault
def loadables(chance: random.Random, fit: Fit) -> None:
    """In another order, twice, one that is not there, without firmware."""
    node = fit.configurations().nodes[0]
    names = sorted(fit.data)
    node.put("loadables", text(*(chance.choice([*names, "gone"]) for _ in range(chance.randrange(1, 4)))))
    if chance.random() < 0.4:
        node.put("firmware", None)


@fault
def systems(chance: random.Random, fit: Fit) -> None:
    """Images that say what they are."""
    for node in fit.images().nodes:
        node.put("os", text(chance.choice(("u-boot", "arm-trusted-firmware", "tee", "linux"))))


@fault
def empty_image(chance: random.Random, fit: Fit) -> None:
    """Of no bytes."""
    name = chance.choice(sorted(fit.data))
    fit.data[name] = b""
    if fit.embedded:
        next(node for node in fit.images().nodes if node.name == name).put("data", b"")


@fault
def commands_for_uboot(chance: random.Random, fit: Fit) -> None:
    """Which it does not have in a CSF."""
    fit.case.commands.append(chance.choice((Other(0xCC, 4, bytes(8)), Other(0xCF, 4, bytes(12)),
                                            Other(0xB1, 1, bytes(4)), Other(0xC0))))  # fmt: skip


@fault
def compatible(chance: random.Random, fit: Fit) -> None:
    """By mkimage of several ages."""
    fit.compatible = chance.choice((0, 1, 2, 15, 16, 17, 18))


@fault
def cut(chance: random.Random, fit: Fit) -> None:
    """The end is missing."""
    fit.cut = chance.choice((1, 4, 0x40))


@fault
def other_keys(chance: random.Random, fit: Fit) -> None:
    """The board's fuses are others."""
    fit.case.fuses = chance.randbytes(32)


@fault
def kernel(chance: random.Random, fit: Fit) -> None:
    """Few SPLs load one."""
    fit.configurations().nodes[0].put(chance.choice(("kernel", "fpga", "script")), text("atf-1"))


@fault
def compression(chance: random.Random, fit: Fit) -> None:
    """SPL unpacks where it can."""
    chance.choice(fit.images().nodes).put("compression", text(chance.choice(("gzip", "lzma", "none", ""))))


def board(fit: Fit, file: bytes, after: Rom | None = None) -> tuple[str | None, list[str]]:
    """Why a board refuses it, or runs what is not signed, whichever configuration it takes; and what is not certain.

    `after` is a ROM that has keys already.
    """
    unsaid: list[str] = []
    try:
        names = Spl(file, fit.address, Rom(fit.case.fuses, Memory().read)).names()
        if not names:
            raise Refused("no configuration")
        for name in names:
            rom = Rom(fit.case.fuses, Memory().read)
            if after is not None:
                rom = Rom(after.fuses, Memory().read, dict(after.keys), fast=after.fast)
            try:
                Spl(file, fit.address, rom).boot(name)
            finally:
                unsaid += rom.unsaid
    except Refused as error:
        return str(error), unsaid
    except libfdt.FdtException as error:
        return f"libfdt: {error}", unsaid
    return None, unsaid


def daemon(file: bytes, fuses: bytes) -> str | None:
    """Why `digsign verify` does not say that it holds."""
    try:
        plan = planner.plan(file)
    except ImageError as error:
        return f"image: {error}"
    report = verify(file, plan, fuse_value=fuses)
    if report.holds:
        return None
    checks = [*report.checks, *(check for one in report.csfs for check in one.checks)]
    return "; ".join(f"{check.what}: {check.detail}" for check in checks if check.holds is False) or "not tried"
