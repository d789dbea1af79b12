"""Check the containers that a description names, before and after cst has signed them.

cst looks for two bytes at the offsets that it is given, and at nothing else of the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from digsigd import ahab
from digsigd.ahab.find import STEP
from digsigd.ahab.images import check_images
from digsigd.ahab.model import CHECK_ALL, FAST_BOOT_MASK, INDEX_MASK, REVOKE_MASK, SET_MASK
from digsigd.errors import Refused

# What fills gaps: imx-mkimage has 00, erased flash ff, NXP's own builds ca.
_FILLERS = b"\0\xff\xca"
# All versions of cst write these bits of the flags; the others are left as they are by cst 4.0.1.
_CLEARED = 0xFFFF
Containers = tuple[ahab.Container, ...]


def chosen(
    data: ahab.Buffer, offsets: Sequence[tuple[int, int]], lines: Sequence[int], version: int
) -> tuple[Containers, Containers]:
    """Return all containers of a file, and those at these offsets of header and signature block, in their order.

    The latter are among the former wherever they are. `lines` are those of the description, `version` is the container
    version that it is for. Raises `Refused` for what is no container that an OEM signs.
    """
    everything = ahab.find(data)
    found = []
    for (header, block), line in zip(offsets, lines, strict=True):
        try:
            one = ahab.read_header(data, header)
        except ahab.FormatError as error:
            places = ", ".join(f"{other.offset:#x} {other.offset + other.block_offset:#x}" for other in everything)
            hint = f"the file has containers with the Offsets {places}" if places else "is it the right file?"
            raise refused(line, error.what, hint=hint) from None
        if one.offset + one.block_offset != block:
            raise refused(
                line,
                f"the signature block of the container at {header:#x} is at {header + one.block_offset:#x}, not at"
                f" {block:#x}",
            )
        _check(one, line, version)
        found.append(one)
    every = {one.offset: one for one in (*everything, *found)}
    return tuple(every[offset] for offset in sorted(every)), tuple(found)


def _check(one: ahab.Container, line: int, version: int) -> None:
    at = f"the container at {one.offset:#x}"
    if one.tag != ahab.Tag.CONTAINER:
        raise refused(line, f"{at} has the tag {one.tag:#x}: it is not one that an OEM signs")
    if one.version != version:
        raise refused(
            line,
            f"{at} has the version {one.version}, but the description is for version {version}",
            hint=f"write Version = {2 if one.version == 2 else 1}.0 below [Header], and name the SRK table for it",
        )
    if one.srk_set == ahab.SrkSet.NXP:
        raise refused(line, f"{at} is signed by NXP; signing would destroy it", hint="sign the one behind it")
    if encrypted := [image.number for image in one.images if image.encrypted]:
        raise refused(
            line,
            f"image {encrypted[0]} of {at} is encrypted; signing would remove the key for it, and encrypted boot is not"
            " signed here",
        )


def check_fuse_versions(containers: Containers, lines: Sequence[int], most: int | None) -> None:
    """Check that no container has a fuse version above `most`, if the operator gives one. Raises `Refused`."""
    for one, line in zip(containers, lines, strict=True):
        if most is not None and one.fuse_version > most:
            raise refused(
                line,
                f"the container at {one.offset:#x} has the fuse version {one.fuse_version}; the operator allows {most}"
                " at most, because boards that burn it refuse lower ones for good",
                hint="make it with a lower fuse version, or the operator raises max_fuse_version of the machine",
            )


def check_places(one: ahab.Container, line: int, size: int, containers: Containers, digest: ahab.Digest) -> None:
    """Check places and hashes of a container's images in a file of `size` bytes. Raises `Refused`."""
    try:
        check_images(one, size, containers, digest, has_blob=True)
    except ahab.VerificationError as error:
        raise Refused(f"csf: line {line}: {error.what}", line=line, hint=error.hint) from None


def placed(
    before: ahab.Container, written: bytes, data: ahab.Buffer, containers: Containers, line: int, cst_version: str
) -> bytes:
    """Return the signed container in what cst has written for a stub, after checking that it fits into the file.

    Raises `AhabError` if it is none, or another, and `Refused` if it overwrites something or lost flags.
    """
    made = ahab.spliced(before, written, data)
    lost = (before.flags ^ ahab.read_header(made).flags) & ~_written_flags(before.version)
    if lost:
        raise refused(
            line,
            f"cst {cst_version} changes the bits {lost:#x} of the flags of the container at {before.offset:#x}, which"
            " are not the signature's",
            hint="make the container without them" if lost & _CLEARED else "cst 4.0.1 leaves them as they are",
        )
    try:
        ahab.check_room(data, before, len(made), containers=containers)
    except ahab.VerificationError as error:
        raise Refused(f"csf: line {line}: {error.what}", line=line, hint=error.hint) from None
    return made


def misplaced(one: ahab.Container) -> str:
    """Return a note if nothing that boots looks for a container in this place, else an empty text.

    Its offset may be another than on the medium, so it is signed all the same.
    """
    if one.offset % STEP == 0:
        return ""
    return (
        f"the container at {one.offset:#x} is at no multiple of {STEP:#x} bytes, where boot ROM and SPL look for"
        " containers"
    )


def overwritten(before: ahab.Container, made: bytes, data: ahab.Buffer) -> str:
    """Return a note if a signed container overwrites bytes of the file behind it that fill no gap, else an empty text.

    They belong to no container and no image, as `placed` has checked.
    """
    part = data[before.end : before.offset + len(made)]
    if not (rest := part.lstrip(_FILLERS)):
        return ""
    used = before.end + len(part) - len(rest)
    return (
        f"the signed container at {before.offset:#x} is longer than before, and has overwritten what was at {used:#x}"
        " of the file: an older signature, or data that no container covers"
    )


def refused(line: int, what: str, *, hint: str = "") -> Refused:
    """Build the error for a line of the description."""
    return Refused(f"csf: line {line}: {what}", line=line, hint=hint)


def _written_flags(version: int) -> int:
    """Return the bits of a container's flags that a signer writes."""
    return SET_MASK | INDEX_MASK | REVOKE_MASK | (CHECK_ALL | FAST_BOOT_MASK if version == 2 else 0)
