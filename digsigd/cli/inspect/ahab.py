"""Describe AHAB containers and signed messages."""

from __future__ import annotations

import mmap

from digsigd import ahab
from digsigd.ahab import Container, SignatureBlock, SrkSet, Tag
from digsigd.cli.inspect.ahab_keys import algorithm, describe_srks
from digsigd.cli.inspect.facts import Fact, Hex, Part, Table
from digsigd.image.ahab_detect import CHIPS, is_ahab, is_message

_SETS = {SrkSet.NONE: "none: not signed", SrkSet.NXP: "NXP", SrkSet.OEM: "OEM"}
_MASKED = 0xF00
_NONE_OF_ITS = "its block has neither SRKs nor a signature"


def describe_containers(data: mmap.mmap | bytes) -> Part | None:
    """Return a description of a file with AHAB containers, or of a signed message; None for other files."""
    from digsigd.image.ahab_plan import plan_ahab
    from digsigd.image.errors import ImageError

    if not is_ahab(data):
        return None
    if is_message(data):
        return _describe_message(data)
    part = Part("ahab", f"AHAB containers ({CHIPS}), {len(data)} bytes")
    try:
        plan = plan_ahab(data)
    except ImageError as error:
        part.notes.append(f"digsign cannot sign this file as an image: {error.what}")
        part.parts += [_describe(data, one, "") for one in ahab.find(data)]
        return part
    part.facts = {"layout": plan.layout, "size": plan.size}
    rows: list[tuple[Fact, ...]] = [(Hex(one.offset), Hex(one.length), one.name) for one in plan.regions]
    part.tables.append(Table("regions", ("offset", "length", "part"), rows))
    part.notes += plan.notes
    # What is wrong says why a board refuses it; the file can be in order, and its images be in other files.
    part.notes += plan.faults
    for one in plan.containers:
        inner = _describe(data, one.container, one.owner)
        inner.facts = {**inner.facts, "offsets": f"{one.offset:#x} {one.block:#x}", "room_for_block": Hex(one.room)}
        part.parts.append(inner)
    return part


def _describe(data: mmap.mmap | bytes, one: Container, owner: str) -> Part:
    """Return a description of a container; a damaged signature block is damage."""
    name = "V2X container" if one.tag == Tag.V2X else "container"
    part = Part("ahab-container", f"{name} at {one.offset:#x}")
    block: SignatureBlock | None = None
    try:
        block = ahab.parse(data, one.offset).block
    except ahab.FormatError as error:
        if one.is_signed:
            part.damage.append(error.summary())
        else:
            part.notes.append(f"its signature block is not complete: {error.summary()}")
    part.facts = {
        "owner": owner or None,
        "version": one.version,
        "length": Hex(one.length),
        "signed_by": _SETS.get(SrkSet(one.srk_set), "") if one.srk_set in _SETS else "unknown",
        "srk": one.srk_index + 1 if one.is_signed else None,
        "revokes": [f"SRK {number + 1}" for number in range(4) if one.revoke_mask >> number & 1],
        "software_version": one.sw_version,
        "fuse_version": one.fuse_version,
        "checks_all_signatures": one.check_all or None,
        "fast_boot": Hex(one.fast_boot) if one.fast_boot else None,
        "signed_bytes": Hex(block.signature_offset) if block is not None and block.signatures else None,
    }
    rows: list[tuple[Fact, ...]] = [
        (
            Hex(one.offset + image.offset), Hex(image.size), Hex(image.load), Hex(image.entry), image.kind_name,
            image.core, image.hash_name, image.encrypted,
        )
        for image in one.images
    ]  # fmt: skip
    columns = ("offset", "size", "load", "entry", "kind", "core", "hash", "encrypted")
    part.tables.append(Table("images", columns, rows))
    if block is not None:
        _describe_block(one, block, part)
    outside = [
        f"{one.offset + image.offset:#x}" for image in one.images if one.offset + image.offset + image.size > len(data)
    ]
    if outside:
        part.notes.append(f"images that this file contains only in part: those at {', '.join(outside)}")
    return part


def _describe_block(one: Container, block: SignatureBlock, part: Part) -> None:
    if block.srk is None:
        if one.is_signed:
            part.damage.append(f"the header says that it is signed, but {_NONE_OF_ITS}")
        return
    nxp = one.srk_set == SrkSet.NXP
    part.parts.append(describe_srks(block.srk, "SRK table of NXP" if nxp else "SRK table", of_container=True, nxp=nxp))
    if (certificate := block.certificate) is not None:
        inner = Part("ahab-certificate", "certificate (SGK)")
        inner.facts = {
            "key": algorithm(certificate.record),
            "permissions": Hex(certificate.permissions),
            "may_sign_containers": certificate.may_sign,
            "permission_data": certificate.permission_data.hex() or None,
            "uuid": certificate.uuid.hex() if any(certificate.uuid) else None,
            "fuse_version": certificate.fuse_version or None,
            "signed_by": f"SRK {one.srk_index + 1}",
        }
        part.parts.append(inner)
    if (blob := block.blob) is not None:
        inner = Part("ahab-blob", f"key blob at {one.offset + blob.offset:#x}")
        inner.facts = {"size": len(blob.raw), "key_bits": blob.size, "placeholder": blob.is_placeholder}
        if blob.is_placeholder:
            inner.notes.append("the board makes the blob (U-Boot: dek_blob), which is put here: no signature covers it")
        part.parts.append(inner)


def _describe_message(data: mmap.mmap | bytes) -> Part:
    part = Part("ahab-message", f"signed message for AHAB ({CHIPS}), {len(data)} bytes")
    flags = int.from_bytes(data[4:6], "little")
    part.facts = {
        "version": data[0],
        "length": Hex(int.from_bytes(data[1:3], "little")),
        "signed_by": _SETS.get(SrkSet(flags & 3), "") if flags & 3 in _SETS else "unknown",
        "srk": (flags >> 4 & 3) + 1 if flags & 3 else None,
    }
    part.notes.append("it asks the ELE or SECO to change its life cycle or keys: digsign neither signs nor verifies it")
    return part
