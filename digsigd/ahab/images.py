"""Checks the images of a container: where they are, their hashes, whether they are encrypted.

Sources: U-Boot, arch/arm/mach-imx/ele_ahab.c and image-container.c; imx-mkimage, src/imx8qxb0.c: hashes are over the
padded images, those of encrypted ones over the cipher text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from digsigd.ahab import digests
from digsigd.ahab.errors import VerificationError
from digsigd.ahab.model import HASH_SIZES, Buffer, Container, ImageEntry

# Called with the name of a hash, a file offset and a length in bytes.
Digest: TypeAlias = Callable[[str, int, int], bytes]
_CHUNK = 1 << 20
# In version 0, the field of the hash has two bits of use.
_HASHES_V0 = ("sha256", "sha384", "sha512", "sm3")


def check_images(
    container: Container, size: int, containers: Sequence[Container], digest: Digest, *, has_blob: bool
) -> tuple[tuple[int, ...], int]:
    """Check the images of a container in a file of `size` bytes, which has these `containers`.

    `has_blob` says that encrypted images need a blob with their key; those of NXP's containers have none, because the
    chip has the key. Returns the numbers of encrypted images and the number of bytes of all. Nothing is hashed before
    all places are good: no byte is hashed twice. Raises `VerificationError`.
    """
    _check_places(container, size, containers)
    encrypted = tuple(image.number for image in container.images if image.encrypted)
    if encrypted and has_blob and (container.block is None or container.block.blob is None):
        raise VerificationError(
            "blob", f"image {encrypted[0]} of {_named(container)} is encrypted, but the container has no blob"
        )
    for image in container.images:
        _check_hash(container, image, digest)
    return encrypted, sum(image.size for image in container.images)


def running_hash(name: str, offset: int) -> digests.Running:
    """Return the hash for an image at `offset` of a file. Raises `VerificationError` for one that Python lacks."""
    try:
        return digests.new(name)
    except ValueError:
        raise VerificationError(
            "image-hash", f"the {name} of the image at {offset:#x} cannot be checked here"
        ) from None


def hashing(data: Buffer) -> Digest:
    """Return the function that hashes parts of `data` for `check_images`."""

    def digest(name: str, offset: int, length: int) -> bytes:
        running, end = running_hash(name, offset), offset + length
        for place in range(offset, end, _CHUNK):
            running.update(data[place : min(place + _CHUNK, end)])
        return running.digest()

    return digest


def _check_places(container: Container, size: int, containers: Sequence[Container]) -> None:
    taken = [(container.offset, container.end, _named(container))]
    for one in containers:
        if one.offset == container.offset:
            continue
        if one.offset < container.end and container.offset < one.end:
            raise VerificationError("room", f"{_named(container)} overlaps the one at {one.offset:#x}")
        taken.append((one.offset, one.end, _named(one)))
    for image in container.images:
        if not image.size:
            continue
        start = container.offset + image.offset
        end = start + image.size
        if end > size:
            raise VerificationError(
                "image-place",
                f"image {image.number} of {_named(container)} is {start:#x} to {end:#x}, but the file has {size:#x}"
                " bytes",
            )
        for first, last, name in taken:
            if start < last and first < end:
                raise VerificationError(
                    "image-place",
                    f"image {image.number} of {_named(container)}, {start:#x} to {end:#x}, overlaps {name},"
                    f" {first:#x} to {last:#x}",
                )
        taken.append((start, end, f"image {image.number}"))


def _check_hash(container: Container, image: ImageEntry, digest: Digest) -> None:
    name = image.hash_name
    if name not in HASH_SIZES or (container.version == 0 and name not in _HASHES_V0):
        raise VerificationError("image-hash", f"image {image.number} of {_named(container)} has the unknown {name}")
    if any(image.hash[HASH_SIZES[name] :]):
        raise VerificationError(
            "image-hash", f"the hash of image {image.number} of {_named(container)} is longer than one of {name}"
        )
    found = digest(name, container.offset + image.offset, image.size)
    if found != image.digest:
        raise VerificationError(
            "image-hash",
            f"image {image.number} of {_named(container)} has the {name} {found.hex()}, but the container has"
            f" {image.digest.hex()}",
            hint="The image or its hash was changed after imx-mkimage made the container: run imx-mkimage again.",
        )


def _named(container: Container) -> str:
    return f"the container at {container.offset:#x}"
