"""Plan how a file with AHAB containers is signed: find them, tell whose they are, and check what they load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from digsigd import ahab
from digsigd.ahab import AhabChip, Container, SrkSet
from digsigd.ahab.images import Digest, hashing
from digsigd.ahab.model import KINDS
from digsigd.image.ahab_detect import containers, is_message
from digsigd.image.ahab_model import TRAINING_DATA, AhabPlan, Owner, PlannedContainer, PlannedImage
from digsigd.image.ahab_places import first_set, gaps, place_notes
from digsigd.image.appended import find_tag
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer, Region
from digsigd.image.plan import LARGEST
from digsigd.image.regions import PADDING

_BUILD = "Sign flash.bin (imx-boot) or a container, as imx-mkimage or U-Boot's binman wrote it."
# Images that only NXP's containers have: ELE, SECO and V2X firmware. imx-mkimage, imx8qxb0.c; SPSDK, database.yaml.
# Not D: in NXP's containers it is a patch of V2X's ROM, in those of i.MX 94, 95 B0 and 952 the place of the DDR's data.
_NXP_KINDS = (0x6, 0xB, 0xC)
_DDR_DATA = 0xD
# Images that only the maker of the boards has: code, data, DCD or OEI.
_OEM_KINDS = (0x3, 0x4, 0x5)
# FlexSPI configurations, at the start or behind 1 KiB; the container is behind 4 KiB.
_FLASH_TAG, _FLASH_TAGS, _BEHIND_FLASH = b"FCFB", (0, 0x400), 0x1000
# What fills the place between headers and images: imx-mkimage has 00, erased flash ff, NXP's own builds ca.
_FILLERS = b"\0\xff\xca"
# SPSDK, ahab_iae.py: containers of version 2 have others too.
_HASHES_0 = ("sha256", "sha384", "sha512", "sm3")
# cst's longest blocks, for RSA-4096 with an SGK; in version 2, the distance of the headers.
_LONGEST_BLOCKS = {0: 0xE78, 2: 0x4000}
_CHUNK = 1 << 16
_MOST_FAULTS = 20


def plan_ahab(data: Buffer, chip: AhabChip | None = None) -> AhabPlan:
    """Return the plan for signing this file: every container, and what is wrong with it.

    What is wrong is in the plan, not raised: `AhabPlan.check_signable` raises it. `chip` is the chip of the boards, if
    known. Raises `ImageError` for files without AHAB containers, and for those that are not to be signed as images.
    """
    if len(data) > LARGEST:
        raise ImageError(f"the file has {len(data):#x} bytes; an image has at most {LARGEST:#x}", hint=_BUILD)
    if is_message(data):
        raise ImageError(
            "the file is a signed message for AHAB, not an image: it changes the chip's life cycle or keys",
            hint="Signed messages are not signed here. Use NXP's tools on a host of your own.",
        )
    found = containers(data)
    if not found:
        raise ImageError("the file has no AHAB container", hint=_BUILD)
    if data[510:512] == b"\x55\xaa" and found[0].offset > 510:
        raise ImageError(
            "the file is the image of a disk", hint="Sign flash.bin (imx-boot) before it is written to it."
        )
    digest = hashing(data)
    first = first_set(found)
    overlaps = list(_overlaps(found))
    ends = sorted(
        [one.offset for one in found]
        + [image.offset for one in found for image in _images(one) if image.size]
        + [len(data)]
    )
    planned = []
    for one in found:
        images = _images(one)
        key, broken = _key(data, one)
        wrong = [*broken, *_wrong_images(data, one, images, digest, overlaps)]
        if chip is not None and one.version not in chip.versions:
            wrong.append(
                f"the container at {one.offset:#x} has version {one.version}, but {chip.title} has containers of"
                f" version {' or '.join(map(str, chip.versions))}"
            )
        block = one.offset + one.header_length
        room = next((end for end in ends if end > one.offset), block) - block
        owner = _owner(one)
        if owner == "NXP" and not one.is_signed:
            wrong.append(f"the container at {one.offset:#x} has NXP's firmware, but is not signed by NXP")
        if one.srk_set == SrkSet.NXP and not any(image.kind in _NXP_KINDS for image in one.images):
            wrong.append(
                f"the container at {one.offset:#x} says that NXP has signed it, but it has no firmware of NXP: it needs"
                " your signature (Source set = OEM)"
            )
        if one.srk_set not in tuple(SrkSet):
            wrong.append(f"the container at {one.offset:#x} names the SRK set {one.srk_set}, which is unknown")
        planned.append(
            PlannedContainer(
                one,
                owner,
                images,
                max(room, 0),
                one in first,
                key,
                tuple(wrong[:_MOST_FAULTS]),
                tuple(_refused(one, images)) if owner == "OEM" else (),
            )
        )
    regions, stray = _regions(data, planned)
    return AhabPlan(
        _layout(planned),
        len(data),
        tuple(planned),
        tuple(regions),
        chip,
        wrong=(*_wrong_file(found), *gaps(first), *stray),
        notes=(*_notes(planned, regions), *place_notes(planned, chip)),
        replaced=tuple(_replaced(planned)),
    )


def _images(container: Container) -> tuple[PlannedImage, ...]:
    """Return its images with their places in the file: their offsets count from the container's header."""
    return tuple(PlannedImage(entry, container.offset + entry.offset) for entry in container.images)


def _owner(container: Container) -> Owner:
    if container.srk_set == SrkSet.NXP:
        return "NXP"
    if container.srk_set == SrkSet.OEM:
        return "OEM"
    first = container.images[0].kind if container.images else 0
    return "NXP" if first in _NXP_KINDS else "OEM"


def _key(data: Buffer, container: Container) -> tuple[str, list[str]]:
    """Return the key that a container says it is signed with, and what is wrong with its signature block."""
    if not container.is_signed:
        return "", []
    try:
        block = ahab.parse(data, container.offset).block
    except ahab.FormatError as error:
        return "", [f"the signature block of the container at {container.offset:#x} is damaged: {error.what}"]
    if block is None or block.srk is None:
        return "", [f"the container at {container.offset:#x} says that it is signed, but has no SRK table"]
    return key_name(container, block), []


def key_name(container: Container, block: ahab.SignatureBlock) -> str:
    """Return the name of the key that signs a container: the SRK's number, from 1, and its kind."""
    number = container.srk_index
    srk = block.srk
    records = srk.records if isinstance(srk, ahab.SrkTable) else srk.tables[0].records if srk is not None else ()
    kind = records[number].name if number < len(records) else "unknown"
    through = f", through an SGK ({block.certificate.record.name})" if block.certificate is not None else ""
    return f"SRK {number + 1} ({kind}){through}"


def _wrong_images(
    data: Buffer,
    container: Container,
    images: Sequence[PlannedImage],
    digest: Digest,
    overlaps: Sequence[tuple[int, int, str]],
) -> Iterator[str]:
    """Yield what is wrong with the images of one container. Only images that overlap nothing are hashed."""
    bad = {image: text for offset, image, text in overlaps if offset == container.offset}
    for image in images:
        what = f"{image.name} of the container at {container.offset:#x}"
        if image.size and image.end > len(data):
            yield (
                f"{what} ends at {image.end:#x}, but the file has {len(data):#x} bytes: the file is cut, or only its"
                " header"
            )
        elif image.entry.number in bad:
            yield bad[image.entry.number]
        elif (why := _wrong_hash(image, digest)) is not None:
            yield f"{what}, {image.size:#x} bytes at {image.offset:#x}: {why}"


def _wrong_hash(image: PlannedImage, digest: Digest) -> str | None:
    """Return what is wrong with the hash of an image that is in the file, or None."""
    entry = image.entry
    if entry.version == 0 and entry.hash_name not in _HASHES_0:
        return f"its hash, {entry.hash_name}, is not one of containers of version 0"
    try:
        found = digest(entry.hash_name, image.offset, image.size)
    except ahab.VerificationError as error:
        return error.what
    if found.ljust(len(entry.hash), b"\0") == entry.hash:
        return None
    return "its hash in the container differs: the image was changed after the container was made"


def _overlaps(found: Sequence[Container]) -> Iterator[tuple[int, int, str]]:
    """Yield (offset of a container, number of an image, what it overlaps)."""
    pieces = [(one.offset, max(one.end, one.offset + one.header_length), one, -1) for one in found]
    pieces += [
        (image.offset, image.end, one, image.entry.number) for one in found for image in _images(one) if image.size
    ]
    pieces.sort(key=lambda piece: piece[:2])
    last = None
    for piece in pieces:
        if last is not None and piece[0] < last[1]:
            # Whichever of the two is an image is at fault: a container that overlaps another is told by `_wrong_file`.
            for image, other in ((piece, last), (last, piece)):
                if image[3] >= 0:
                    text = f"image {image[3]} of the container at {image[2].offset:#x} ({image[0]:#x} to {image[1]:#x})"
                    of = f"image {other[3]} of the " if other[3] >= 0 else "the "
                    yield image[2].offset, image[3], f"{text} overlaps {of}container at {other[2].offset:#x}"
                    break
        if last is None or piece[1] > last[1]:
            last = piece


def _wrong_file(found: Sequence[Container]) -> Iterator[str]:
    """Yield what is wrong with the containers among each other."""
    for before, after in pairwise(found):
        if after.offset < before.end:
            yield (
                f"the container at {before.offset:#x} ends at {before.end:#x}, in the container at {after.offset:#x}"
            )
    versions = {one.version for one in found}
    if len(versions) > 1:
        yield "its containers have different versions, which no chip boots"


def _refused(container: Container, images: Sequence[PlannedImage]) -> Iterator[str]:
    """Yield why a container is not signed here, although it is right."""
    for image in images:
        if image.entry.encrypted:
            yield (
                f"{image.name} of the container at {container.offset:#x} is encrypted: signing it here would remove the"
                " blob with its key"
            )


def _replaced(planned: Sequence[PlannedContainer]) -> Iterator[str]:
    for one in planned:
        if one.signed and one.must_sign:
            by = f" (by {one.key})" if one.key else ""
            yield f"the {one.name} is already signed, which signing replaces{by}"


def _notes(planned: Sequence[PlannedContainer], regions: Sequence[Region]) -> Iterator[str]:
    for one in planned:
        for image in one.images:
            if image.entry.kind not in KINDS:
                yield f"{image.name} of the {one.name} is of a type that is unknown here"
        if one.container.srk_set == SrkSet.NXP:
            for image in one.images:
                if image.entry.kind in _OEM_KINDS and image.size:
                    yield (
                        f"the {one.name} has {image.name} beside firmware: no container of NXP is known to have that."
                        " If it is yours, sign it with Source set = OEM: a board refuses it as it is"
                    )
    for region in regions:
        if region.name == TRAINING_DATA:
            yield (
                f"the DDR training data at {region.offset:#x}, {region.length:#x} bytes, are covered by no signature:"
                " imx-mkimage only reserves their place, and whether the DDR firmware checks them is not known here"
            )


def _layout(planned: Sequence[PlannedContainer]) -> str:
    """Return the name of a file: whose containers it has."""
    nxp = sum(one.owner == "NXP" for one in planned)
    oem = len(planned) - nxp
    parts = ["NXP's firmware"] if nxp else []
    if oem:
        parts.append(f"{oem} OEM container{'s' if oem > 1 else ''}")
    return f"AHAB image (container version {planned[0].container.version}): {' and '.join(parts)}"


def _regions(data: Buffer, planned: Sequence[PlannedContainer]) -> tuple[list[Region], list[str]]:
    """Return the regions of the file in order, and what is wrong with bytes that belong to nothing known.

    Overlapping parts are cut off where the next one begins; `wrong` says that they overlap.
    """
    size = len(data)
    known = [Region(one.offset, one.end - one.offset, one.name) for one in planned]
    known += [
        Region(image.offset, image.size, f"{image.name} of the {one.name}")
        for one in planned
        for image in one.images
        if image.size
    ]
    start = planned[0].offset
    if start >= _BEHIND_FLASH and any(data[place : place + 4] == _FLASH_TAG for place in _FLASH_TAGS):
        known.append(Region(0, _BEHIND_FLASH, "FlexSPI configuration"))
    tag = find_tag(data)
    if tag is not None:
        known.append(Region(tag.offset, tag.end - tag.offset, "tag for UUU"))
    headers = _header_zones(planned)
    reserved = {image.offset for one in planned for image in one.images if image.entry.kind == _DDR_DATA}
    found: list[Region] = []
    stray: list[str] = []
    place = 0
    for region in [*sorted(known, key=lambda one: (one.offset, one.length)), Region(size, 0, "")]:
        offset = min(max(region.offset, place), size)
        if offset > place:
            used = used_byte(data, place, offset)
            zone = next((last for first, last in headers if used is not None and first <= used < last), None)
            behind = used_byte(data, zone, offset) if zone is not None else used
            name = PADDING if used is None else "leftovers behind a container" if behind is None else "unknown"
            if behind is not None and place in reserved:
                name, behind = TRAINING_DATA, None
            found.append(Region(place, offset - place, name))
            if behind is not None:
                stray.append(
                    f"unknown data at {behind:#x}: {data[behind : behind + 8].hex(' ')}. No container covers them, so"
                    " no signature does"
                )
        end = min(region.end, size)
        if end > offset:
            found.append(Region(offset, end - offset, region.name))
        place = max(place, end, offset)
    return found, stray[:_MOST_FAULTS]


def _header_zones(planned: Sequence[PlannedContainer]) -> list[tuple[int, int]]:
    """Return where headers can be: an older, longer signature block leaves bytes there that no board reads."""
    return [
        (one.end, one.block + min(one.room, _LONGEST_BLOCKS.get(one.container.version, one.room))) for one in planned
    ]


def used_byte(data: Buffer, start: int, end: int) -> int | None:
    """Return the offset of the first byte from `start` to before `end` that fills no gap (00, ff or ca), or None."""
    for place in range(start, end, _CHUNK):
        part = data[place : min(place + _CHUNK, end)]
        rest = part.lstrip(_FILLERS)
        if rest:
            return place + len(part) - len(rest)
    return None
