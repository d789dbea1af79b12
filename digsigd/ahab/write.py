"""Writes containers: unsigned ones as imx-mkimage makes them, and the parts of signature blocks, for trial images.

Sources: imx-mkimage lf-6.6.3, src/imx8qxb0.c (headers, hashes, padding); the signature block as cst 4.0.1 lays it out.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from digsigd.ahab.block import ALIGNMENT
from digsigd.ahab.digests import digest
from digsigd.ahab.errors import AhabError
from digsigd.ahab.model import BLOCK_TAG, CERTIFICATE_TAG, HASHES, HEADER_SIZE, IMAGE_SIZE, SIGNATURE_TAG, Tag
from digsigd.ahab.read import BLOCK_HEADER_SIZE

# imx-mkimage leaves these flags: SRK index 1, of no SRK set.
MKIMAGE_FLAGS = 0x10
_PADDING = 0x400
_HASH_CODES = {name: code for code, name in HASHES.items()}


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """An image for a container: its `data`, already padded, at `offset` from the container's header.

    `kind` and `core` are the numbers in the flags. An `encrypted` image has cipher text as `data`, and an `iv`.
    """

    data: bytes = field(repr=False)
    offset: int
    load: int = 0
    entry: int = 0
    kind: int = 3
    core: int = 2
    hash_name: str = "sha384"
    meta: int = 0
    encrypted: bool = False
    iv: bytes = b""


def place_images(images: Sequence[bytes], *, start: int, padding: int = _PADDING) -> tuple[ContainerImage, ...]:
    """Return images one after the other, padded with zeros. `start` counts from the container's header."""
    placed: list[ContainerImage] = []
    for data in images:
        padded = data + bytes(-len(data) % padding)
        placed.append(ContainerImage(padded, start))
        start += len(padded)
    return tuple(placed)


def build_container(
    images: Sequence[ContainerImage],
    *,
    version: int = 0,
    flags: int = MKIMAGE_FLAGS,
    sw_version: int = 0,
    fuse_version: int = 0,
    tag: int = Tag.CONTAINER,
) -> bytes:
    """Return an unsigned container: header, images' entries, and an empty signature block of version 0."""
    block_offset = HEADER_SIZE + IMAGE_SIZE * len(images)
    head = struct.pack(
        "<BHBIHBBHH", version, block_offset + BLOCK_HEADER_SIZE, tag, flags, sw_version, fuse_version, len(images),
        block_offset, 0,
    )  # fmt: skip
    return head + b"".join(_entry(image, version) for image in images) + write_block(None, ())


def build_file(containers: Sequence[tuple[int, bytes, Sequence[ContainerImage]]], size: int = 0) -> bytes:
    """Return a file of at least `size` bytes with these containers: (file offset, its bytes, its images).

    Raises `AhabError` if any of it overlaps.
    """
    parts = sorted(
        (place, data)
        for offset, header, images in containers
        for place, data in ((offset, header), *((offset + image.offset, image.data) for image in images))
        if data
    )
    whole = bytearray()
    for place, data in parts:
        if place < len(whole):
            raise AhabError(f"what is at {place:#x} of the file begins before the end of what is before it")
        whole += bytes(place - len(whole)) + data
    return bytes(whole.ljust(size, b"\0"))


def write_signature(raw: bytes) -> bytes:
    """Return a signature with its header."""
    return struct.pack("<BHB4x", 0, 8 + len(raw), SIGNATURE_TAG) + raw


def write_certificate_head(
    records: Sequence[tuple[bytes, bytes]],
    signature_sizes: Sequence[int],
    *,
    version: int = 0,
    permissions: int = 1,
    permission_data: bytes = bytes(12),
    fuse_version: int = 0,
    uuid: bytes = bytes(16),
) -> bytes:
    """Return the part of a certificate that SRKs sign, for signatures of `signature_sizes` bytes that follow it.

    `records` are pairs of a record and, in version 2, its SRK data.
    """
    body = b"".join(record + data for record, data in records)
    extra = struct.pack("<12sB3x16s", permission_data, fuse_version, uuid) if version == 2 else b""
    signature_at = 8 + len(extra) + len(body)
    padding = -signature_at % ALIGNMENT if version == 0 else 0
    signature_at += padding
    length = signature_at + sum(8 + size for size in signature_sizes)
    head = struct.pack("<BHBHBB", version, length, CERTIFICATE_TAG, signature_at, ~permissions & 0xFF, permissions)
    return head + extra + body + bytes(padding)


def write_block_head(
    srk: bytes, signature_sizes: Sequence[int], *, certificate_size: int = 0, blob: bytes = b"", version: int = 0,
    key_id: int = 0,
) -> bytes:  # fmt: skip
    """Return a signature block up to its signatures, which have `signature_sizes` bytes: what they sign of it.

    The certificate, of `certificate_size` bytes, and the blob follow them: `write_block` adds them.
    """
    srk_at = BLOCK_HEADER_SIZE if srk else 0
    signature_at = _aligned(BLOCK_HEADER_SIZE + len(srk)) if signature_sizes else 0
    end = max(signature_at + sum(8 + size for size in signature_sizes), BLOCK_HEADER_SIZE + len(srk))
    certificate_at = _aligned(end) if certificate_size else 0
    end = certificate_at + certificate_size if certificate_size else end
    blob_at = _aligned(end) if blob else 0
    end = _aligned(blob_at + len(blob) if blob else end)
    head = struct.pack("<BHBHHHHI", version, end, BLOCK_TAG, certificate_at, srk_at, signature_at, blob_at, key_id)
    return (head + srk).ljust(signature_at, b"\0")


def write_block(head: bytes | None, signatures: Sequence[bytes], certificate: bytes = b"", blob: bytes = b"") -> bytes:
    """Return a whole signature block, from what `write_block_head` returned; an empty one for None."""
    if head is None:
        return write_block_head(b"", ())
    block = head + b"".join(write_signature(one) for one in signatures)
    if certificate:
        block = block.ljust(_aligned(len(block)), b"\0") + certificate
    if blob:
        block = block.ljust(_aligned(len(block)), b"\0") + blob
    return block.ljust(_aligned(len(block)), b"\0")


def _aligned(place: int) -> int:
    return place + -place % ALIGNMENT


def _entry(image: ContainerImage, version: int) -> bytes:
    flags = image.kind | image.core << 4 | _HASH_CODES[image.hash_name] << 8
    if image.encrypted:
        flags |= 1 << 12 if version == 2 else 1 << 11
    hashed = digest(image.hash_name, [image.data])
    return struct.pack(
        "<IIQQII64s32s", image.offset, len(image.data), image.load, image.entry, flags, image.meta, hashed, image.iv
    )
