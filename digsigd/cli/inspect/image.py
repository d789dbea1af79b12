"""Describe an image, signed or not: its IVTs with what they point at, its CSFs and its FITs."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Hex, Part, Table

if TYPE_CHECKING:
    from digsigd.cli.inspect.csf_blob import Where
    from digsigd.hab import Ivt
    from digsigd.image.fdt import Tree
    from digsigd.image.fit import Fit
    from digsigd.image.model import Plan

FDT_MAGIC = b"\xd0\x0d\xfe\xed"
_IVT_START = b"\xd1\x00\x20"
# An image has three or four IVTs or trees. The limits bound the time for a file full of bytes that look like them.
_MOST_FOUND = 32
_MOST_TRIED = 10_000
_LARGEST_DCD = 1768  # HAB_DCD_BYTES_MAX
# HABv4 API, "Device Configuration Data": Write Data, Check Data, NOP; Unlock in the reference manuals.
_DCD_COMMANDS = (0xCC, 0xCF, 0xC0, 0xB2)
# HABv4 API, 3.5; mkimage_imx8.c, HDMI_IMAGE_FLAG_MASK.
_PLUGIN, _HDMI = 1, 2
_SAMPLE = 0x20


def _places(data: mmap.mmap | bytes, start: bytes) -> Iterator[int]:
    """Yield the offsets of these bytes that are multiples of four."""
    position = -1
    for _ in range(_MOST_TRIED):
        position = data.find(start, position + 1)
        if position < 0:
            return
        if not position % 4:
            yield position


def find_ivts(data: mmap.mmap | bytes) -> list[Ivt]:
    """Return all IVTs in a file, found by the header and the two reserved words.

    The first reserved word can be the second loader's offset in the file: imx-mkimage, mkimage_imx8.c (-second_loader).
    """
    from digsigd.hab import Ivt
    from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt

    found: list[Ivt] = []
    for place in _places(data, _IVT_START):
        head = data[place : place + IVT_SIZE]
        if not looks_like_ivt(head) or struct.unpack("<I", head[8:12])[0] >= len(data) or any(head[28:]):
            continue
        ivt = Ivt.parse(head, place)
        if ivt.self_address and not ivt.self_address % 4:
            found.append(ivt)
        if len(found) == _MOST_FOUND:
            break
    return found


def csf_at(data: mmap.mmap | bytes, ivt: Ivt) -> bytes | None:
    """Return the CSF blob that an IVT points to; None if there is none. Raises `FormatError` if it has no end."""
    from digsigd.cli.inspect.csf_blob import LARGEST
    from digsigd.hab import blob_length

    place = ivt.offset_of(ivt.csf)
    if not ivt.csf or not 0 <= place < len(data):
        return None
    room = data[place : place + LARGEST]
    return room[: blob_length(room)] if room[0] == 0xD4 else None


def describe_image(data: mmap.mmap | bytes) -> Part:
    """Return a description of a file that contains an IVT, a FIT or a kernel."""
    from digsigd.cli.inspect.boot_header import describe_front
    from digsigd.image.errors import ImageError
    from digsigd.image.plan import plan as plan_of

    part = Part("image", f"image, {len(data)} bytes")
    plan: Plan | None = None
    try:
        plan = plan_of(data)
    except ImageError as error:
        part.notes.append(f"digsign cannot sign this file as an image: {error.what}")
    if plan is not None:
        part.facts = {"layout": plan.layout, "soc": plan.soc, "boards": plan.boards or None, "size": plan.size}
        rows = [(Hex(one.offset), Hex(one.length), one.name) for one in plan.regions]
        part.tables.append(Table("regions", ("offset", "length", "part"), rows))
        part.notes += plan.notes
        if plan.ask:
            part.notes.append(f"signing it needs --soc: {plan.ask}")
    part.parts += describe_front(data)
    ivts = find_ivts(data)
    for ivt in ivts:
        part.parts.append(_describe_ivt(data, ivt, _finder(ivt, plan, len(data)), ivts))
    fits, ends = list(_fits(data)), 0
    for tree, found in fits:
        # Device trees among the images of a FIT are in its table.
        if found.kind == "fit" or tree.offset >= ends:
            part.parts.append(found)
        if found.kind == "fit":
            ends = max(ends, *(one[1] for one in _extents(data, tree)))
    if data[:4] == FDT_MAGIC and not any(tree.offset == 0 for tree, _ in fits):
        part.damage += _why_no_tree(data)
    if not ivts:
        part.notes.append("no IVT found, so there is no place for a CSF")
    return part


def _finder(ivt: Ivt, plan: Plan | None, size: int) -> Where:
    """Return a function that finds addresses from the blocks that would be signed, else from the IVT."""
    blocks = [block for signing in plan.signings for block in signing.blocks] if plan is not None else []

    def where(address: int) -> int | None:
        for block in blocks:
            if block.address <= address < block.address + block.length:
                return block.offset + address - block.address
        place = ivt.offset_of(address)
        return place if 0 <= place < size else None

    return where


def _describe_ivt(data: mmap.mmap | bytes, ivt: Ivt, where: Where, others: list[Ivt]) -> Part:
    part = Part("ivt", f"IVT at {ivt.offset:#x}")
    part.facts = {
        "version": f"{data[ivt.offset + 3] >> 4}.{data[ivt.offset + 3] & 0xF}",
        "loaded_to": Hex(ivt.self_address),
        "entry": Hex(ivt.entry),
        "dcd": Hex(ivt.dcd) if ivt.dcd else None,
        "boot_data": Hex(ivt.boot_data) if ivt.boot_data else None,
        "csf": Hex(ivt.csf) if ivt.csf else None,
        "csf_offset": Hex(ivt.offset_of(ivt.csf)) if ivt.csf and ivt.offset_of(ivt.csf) >= 0 else None,
    }
    if ivt.boot_data:
        _describe_boot_data(data, ivt, part)
    if ivt.dcd:
        _describe_dcd(data, ivt, part)
    signed = next((one for one in others if _has_csf(data, one) and _same(one, ivt)), None)
    if signed is not None and not _has_csf(data, ivt):
        part.notes.append(f"it is a copy of the IVT at {signed.offset:#x}, which has the CSF")
    else:
        _describe_its_csf(data, ivt, part, where)
    return part


def _same(one: Ivt, other: Ivt) -> bool:
    """Return whether both are for the same image in memory: HDMI firmware has one before and one after it."""
    return (one.self_address, one.entry, one.csf) == (other.self_address, other.entry, other.csf)


def _has_csf(data: mmap.mmap | bytes, ivt: Ivt) -> bool:
    place = ivt.offset_of(ivt.csf)
    return bool(ivt.csf) and 0 <= place < len(data) and data[place : place + 1] == b"\xd4"


def _loaded_end(data: mmap.mmap | bytes, ivt: Ivt) -> int | None:
    """Return the end address of what the boot data load; None if there are no boot data."""
    place = ivt.offset_of(ivt.boot_data)
    words = data[place : place + 8] if ivt.boot_data and place >= 0 else b""
    return sum(struct.unpack("<2I", words)) if len(words) == 8 else None


def _describe_boot_data(data: mmap.mmap | bytes, ivt: Ivt, part: Part) -> None:
    place = ivt.offset_of(ivt.boot_data)
    words = data[place : place + 12] if place >= 0 else b""
    if len(words) < 12:
        part.damage.append(f"its boot data, {ivt.boot_data:#x} in memory, is not in the file")
        return
    start, length, plugin = struct.unpack("<3I", words)
    part.facts = {**part.facts, "image_start": Hex(start), "image_length": Hex(length), "plugin": plugin == _PLUGIN}
    if plugin == _HDMI:
        part.notes.append("HDMI or DisplayPort firmware, which NXP signs")
    elif plugin > _PLUGIN:
        part.notes.append(f"its boot data have an unknown flag {plugin:#x}")


def _describe_dcd(data: mmap.mmap | bytes, ivt: Ivt, part: Part) -> None:
    place = ivt.offset_of(ivt.dcd)
    head = data[place : place + 4] if place >= 0 else b""
    if len(head) < 4 or head[0] != 0xD2:
        part.damage.append(f"its DCD, {ivt.dcd:#x} in memory, is not a DCD: {head.hex(' ') or 'not in the file'}")
        return
    length = struct.unpack(">H", head[1:3])[0]
    whole = data[place : place + length]
    commands, position, known = 0, 4, True
    while position + 4 <= len(whole):
        tag, size = struct.unpack_from(">BH", whole, position)
        known = tag in _DCD_COMMANDS
        if not known or size < 4 or position + size > length:
            break
        commands, position = commands + 1, position + size
    part.facts = {**part.facts, "dcd_length": length, "dcd_commands": commands}
    if not known:
        # Complete, but unknown to HAB: it is not checked here whether the ROM accepts it.
        part.notes.append(
            f"its DCD of {length} bytes at {place:#x} has a command unknown in HAB at {place + position:#x}:"
            f" {whole[position : position + 4].hex(' ')}"
        )
    if (known and position != length) or len(whole) < length or length > _LARGEST_DCD:
        part.damage.append(f"its DCD of {length} bytes at {place:#x} ends in the middle of a command, or is too long")


def _describe_its_csf(data: mmap.mmap | bytes, ivt: Ivt, part: Part, where: Where) -> None:
    from digsigd.cli.inspect.csf_blob import describe_csf
    from digsigd.hab import FormatError

    if not ivt.csf:
        part.notes.append("it does not point at a CSF")
        return
    place = ivt.offset_of(ivt.csf)
    title = f"CSF at {place:#x}"
    if not 0 <= place < len(data):
        # A part that is signed before the image is assembled ends where its CSF goes.
        where_to = "after the end of the file" if place >= len(data) else "before the start of the file"
        part.notes.append(f"no CSF: its place, {ivt.csf:#x} in memory, is {where_to}")
        return
    head = data[place : place + 4]
    # Rooms are padded with one byte: 00, ff of flash, 5a of barebox.
    if len(set(data[place : place + _SAMPLE])) == 1 and head[:1] != b"\xd4":
        part.notes.append(f"no CSF at {place:#x}: not signed")
        return
    loaded = _loaded_end(data, ivt)
    if loaded is not None and loaded <= ivt.csf:
        # barebox's IVT for FlexSPI, built without CONFIG_HABV4_QSPI.
        part.notes.append(f"no CSF: its place, {ivt.csf:#x} in memory, is after the end of what its boot data load")
        return
    if len(head) < 4 or head[0] != 0xD4:
        part.damage.append(f"expected a CSF at {place:#x}, found {head.hex(' ')}")
        return
    try:
        blob = csf_at(data, ivt)
    except FormatError:
        # The size of the room that imx-mkimage reserves; describe_csf reports what is wrong.
        blob = data[place : place + 0x2000]
    part.parts.append(describe_csf(blob or b"", title=title, where=where))


def _fits(data: mmap.mmap | bytes) -> Iterator[tuple[Tree, Part]]:
    """Yield the device trees in a file, including FITs, with their descriptions."""
    from digsigd.image.errors import ImageError
    from digsigd.image.fdt import Tree
    from digsigd.image.fit import Fit

    end = 0
    count = 0
    for place in _places(data, FDT_MAGIC):
        if place < end or count == _MOST_FOUND:
            continue
        try:
            tree = Tree.read(data, place)
        except ImageError:
            continue  # four bytes of code, perhaps
        count += 1
        end = tree.end
        if "images" not in tree.root.nodes:
            yield tree, _describe_tree(tree)
            continue
        try:
            yield tree, _describe_fit(Fit.read(data, place))
        except ImageError as error:
            part = Part("fit", f"FIT at {place:#x}", {"tree_size": Hex(tree.size)})
            part.damage.append(error.what)
            names = list(tree.root.nodes["images"].nodes)
            part.tables.append(Table("images", ("name",), [(name,) for name in names]))
            yield tree, part


def _why_no_tree(data: mmap.mmap | bytes) -> list[str]:
    from digsigd.image.errors import ImageError
    from digsigd.image.fdt import Tree

    try:
        Tree.read(data, 0)
    except ImageError as error:
        return [error.what]
    return []


def _describe_tree(tree: Tree) -> Part:
    from digsigd.image.errors import ImageError

    try:
        model = tree.root.text("model")
    except ImageError:
        model = None
    return Part("device-tree", f"device tree at {tree.offset:#x}", {"size": Hex(tree.size), "model": model})


def _extents(data: mmap.mmap | bytes, tree: Tree) -> list[tuple[int, int]]:
    """Return the (start, end) offsets of a FIT's tree and of all its images."""
    from digsigd.image.errors import ImageError
    from digsigd.image.fit import Fit

    try:
        images = Fit.read(data, tree.offset).images
    except ImageError:
        images = ()
    return [(tree.offset, tree.end), *((image.offset, image.end) for image in images)]


def _describe_fit(fit: Fit) -> Part:
    part = Part("fit", f"FIT at {fit.offset:#x}", {"tree_size": Hex(fit.size), "default": fit.default})
    images: list[tuple[Fact, ...]] = []
    for one in fit.images:
        load = None if one.load is None else Hex(one.load)
        entry = None if one.entry is None else Hex(one.entry)
        images.append(
            (one.name, one.kind, one.os, one.compression, load, entry, Hex(one.offset), Hex(one.size), one.description)
        )
    columns = ("name", "type", "os", "compression", "load", "entry", "offset", "size", "description")
    part.tables.append(Table("images", columns, images))
    configurations: list[tuple[Fact, ...]] = [
        (one.name, one.firmware or one.kernel, one.loadables, one.fdt, one.description) for one in fit.configurations
    ]
    part.tables.append(Table("configurations", ("name", "firmware", "loadables", "fdt", "description"), configurations))
    return part
