"""A second, plain U-Boot: what SPL loads of a FIT, and what it has HAB check then. libfdt reads the tree, as there.

U-Boot and uboot-imx: common/spl/spl_fit.c (spl_load_simple_fit, spl_load_fit_image, spl_fit_append_fdt),
boot/common_fit.c (fit_find_config_node), arch/arm/mach-imx/spl.c (board_spl_fit_post_load), arch/arm/mach-imx/hab.c
(imx_hab_authenticate_image, validate_ivt, csf_is_valid). What boards differ in is in `unsaid`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import libfdt

from tests.model.rom import Refused, Rom

IVT_SIZE, CSF_PAD_SIZE = 0x20, 0x2000
QUIET = (libfdt.NOTFOUND,)


@dataclass
class Memory:
    """What was written where; of two at one place the later is there."""

    written: list[tuple[int, bytes]] = field(default_factory=list)

    def read(self, address: int, length: int) -> bytes | None:
        found = bytearray(length)
        known = bytearray(length)
        for start, data in self.written:
            low, high = max(start, address), min(start + len(data), address + length)
            if low < high:
                found[low - address : high - address] = data[low - start : high - start]
                known[low - address : high - address] = b"\1" * (high - low)
        return bytes(found) if all(known) else None


@dataclass
class Loaded:
    """An image in memory, and where its bytes are in the file."""

    name: str
    address: int
    offset: int
    size: int
    entry: int | None
    os: str | None


class Spl:
    """Loads one configuration of the FIT at the start of a file to `address`, and has it checked."""

    def __init__(self, file: bytes, address: int, rom: Rom) -> None:
        self.file, self.address, self.rom = file, address, rom
        self.memory = Memory()
        rom.read = self.memory.read
        try:
            self.size = struct.unpack_from(">I", file, 4)[0]
            self.tree = libfdt.FdtRo(file[: self.size])
            self.images = self.tree.path_offset("/images")
            self.configurations = self.tree.path_offset("/configurations")
        except (libfdt.FdtException, struct.error, ValueError):
            raise Refused("no FIT") from None
        self.aligned = -(-self.size // 0x1000) * 0x1000
        self.loaded: list[Loaded] = []

    def names(self) -> list[str]:
        """All configurations; one without a description ends the search for one that a board wants."""
        found = []
        node = self.tree.first_subnode(self.configurations, QUIET)
        while node >= 0:
            if self._property(node, "description") is None:
                raise Refused("a configuration without a description")
            found.append(self.tree.get_name(node))
            node = self.tree.next_subnode(node, QUIET)
        return found

    def boot(self, configuration: str) -> None:
        """Load it, and have HAB check it; everything that runs must be under its signatures."""
        room = self.aligned + IVT_SIZE + CSF_PAD_SIZE
        self.memory.written.append((self.address, self.file[:room].ljust(room, b"\0")))
        node = self._subnode(self.configurations, configuration)
        entry = self._load_all(node)
        self._authenticate()
        for one in self.loaded:
            inside = one.offset + one.size <= self.aligned
            place = self.address + one.offset if inside else one.address
            if not self._signed(place, one.size):
                raise Refused(f"{one.name} runs without a signature")
            # Copies of what is in the tree are made before HAB looks at the tree: they must be of what it finds.
            if self.memory.read(one.address, one.size) != self.file[one.offset : one.offset + one.size]:
                raise Refused(f"something is loaded over {one.name}")
        if not self._signed(self.address, self.size) or not any(
            one.address <= entry and entry + 4 <= one.address + one.size for one in self.loaded
        ):
            raise Refused("the tree is not signed, or the entry is nowhere in what is")

    def _signed(self, address: int, length: int) -> bool:
        blocks = sorted(self.rom.authenticated)
        for start, size in blocks:
            if start <= address < start + size:
                if address + length <= start + size:
                    return True
                length -= start + size - address
                address = start + size
        return False

    def _property(self, node: int, name: str) -> bytes | None:
        found = self.tree.getprop(node, name, QUIET)
        return None if isinstance(found, int) else bytes(found)

    def _cell(self, node: int, name: str) -> int | None:
        """fit_image_get_data_size and the like: the first cell, however many there are."""
        data = self._property(node, name)
        return None if data is None or len(data) < 4 else int.from_bytes(data[:4], "big")

    def _number(self, node: int, name: str) -> int | None:
        """fit_image_get_address: all cells."""
        data = self._property(node, name)
        if data is None or len(data) not in {4, 8}:
            return None
        return int.from_bytes(data, "big")

    def _subnode(self, parent: int, name: str) -> int:
        found: int = self.tree.subnode_offset(parent, name, QUIET)
        if found < 0:
            raise Refused(f"no node {name}")
        return found

    def _strings(self, node: int, name: str) -> list[str]:
        data = self._property(node, name)
        return [] if data is None else data.rstrip(b"\0").decode("latin-1").split("\0")

    def _load_all(self, node: int) -> int:
        """spl_load_simple_fit; the entry point."""
        firmware, loadables = self._strings(node, "firmware"), self._strings(node, "loadables")
        names = [firmware[0], *loadables] if firmware else loadables
        if self._strings(node, "kernel") or self._strings(node, "fpga"):
            self.rom.unsaid.append("a kernel or an FPGA, which few boards load")
        if not names:
            raise Refused("nothing to load")
        first = self._load(self._subnode(self.images, names[0]), None)
        if first is None:
            raise Refused("the first image is empty")
        entry = first.entry
        if first.os in {None, "u-boot"}:
            self._device_tree(node, first)
        first_node = self._subnode(self.images, names[0])
        for name in names[1:]:
            this = self._subnode(self.images, name)
            if this == first_node:
                continue
            one = self._load(this, None)
            if one is None:
                continue
            if one.os == "u-boot":
                self._device_tree(node, one)
            if entry is None:
                entry = one.entry
        return entry or first.address

    def _device_tree(self, node: int, behind: Loaded) -> None:
        trees = self._strings(node, "fdt")
        if not trees:
            self.rom.unsaid.append("SPL's own tree is put behind U-Boot")
            return
        if len(trees) > 1:
            self.rom.unsaid.append("overlays")
        end = behind.address + behind.size
        if end % 8:
            self.rom.unsaid.append("versions differ in whether a tree is put on a multiple of 8")
        self._load(self._subnode(self.images, trees[0]), end)

    def _load(self, node: int, otherwise: int | None) -> Loaded | None:
        """spl_load_fit_image."""
        name = self.tree.get_name(node)
        address = self._number(node, "load")
        if address is None:
            address = otherwise
        if address is None:
            raise Refused(f"{name} has no load address")
        position, size = self._cell(node, "data-position"), self._cell(node, "data-size")
        if position is None:
            position = self._cell(node, "data-offset")
            if position is not None:
                self.rom.unsaid.append("data-offset: where that is depends on the room that SPL keeps")
        if position is not None:
            if size is None:
                raise Refused(f"{name} has no size")
            if not size:
                return None
        else:
            data = self._property(node, "data")
            if data is None:
                raise Refused(f"{name} has no data")
            if not data:
                self.rom.unsaid.append("an empty image")
                return None
            position, size = self.file.index(data), len(data)
        content = self.file[position : position + size]
        if len(content) < size:
            raise Refused(f"{name} is not in the file")
        compression = self._strings(node, "compression")
        if compression and compression != ["none"]:
            self.rom.unsaid.append("compression")
        systems = self._strings(node, "os")
        loaded = Loaded(name, address, position, size, self._number(node, "entry"), systems[0] if systems else None)
        self.memory.written.append((address, content))
        self.loaded.append(loaded)
        return loaded

    def _authenticate(self) -> None:
        """hab.c."""
        at = self.address + self.aligned
        ivt = self.memory.read(at, IVT_SIZE)
        if ivt is None or ivt[:3] != b"\xd1\0\x20" or ivt[3] >> 4 != 4:
            raise Refused("no IVT")
        entry, first, dcd, boot, own, csf, last = struct.unpack_from("<7I", ivt, 4)
        if first or dcd or boot or last or own != at or not entry:
            raise Refused("validate_ivt")
        room = self.memory.read(csf, 4)
        start, end = self.address, self.address + self.aligned + IVT_SIZE + CSF_PAD_SIZE
        if room is None or room[0] != 0xD4:
            raise Refused("csf_is_valid: no CSF")
        length = int.from_bytes(room[1:3], "big")
        if csf < start or csf + length > end - 1:
            raise Refused("csf_is_valid: outside")
        data = self.memory.read(csf, end - csf) or b""
        position = 4
        while position + 4 <= length:
            tag, size, parameter = struct.unpack_from(">BHB", data, position)
            if tag in {0xCC, 0xCF} or (tag == 0xB1 and parameter == 1) or not size:
                raise Refused("csf_is_valid: a command")
            position += size
        self.rom.authenticate_image(at, start, end - start, csf, data)
