"""AHAB containers as values.

All integers of a container are little-endian; keys and signatures are big-endian. Sources of the fields: NXP cst,
ahab_types.h; imx-mkimage, src/imx8qxb0.c and include/mkimage_common.h; SPSDK, spsdk/image/ahab; uboot-imx,
doc/imx/ahab.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from digsigd.ahab.srk import SrkArray, SrkData, SrkRecord, SrkTable

HEADER_SIZE = 0x10
IMAGE_SIZE = 0x80
BLOCK_TAG = 0x90
CERTIFICATE_TAG = 0xAF
SIGNATURE_TAG = 0xD8
BLOB_TAG = 0x81
# Bits of the header's flags that a signer writes: the SRK set and index, the revoke mask; version 2: how many
# signatures the board checks, and fast boot. ahab_types.h; SPSDK, ahab_container.py.
SET_MASK, INDEX_MASK, REVOKE_MASK, CHECK_ALL, FAST_BOOT_MASK = 0x3, 0x30, 0xF00, 0x8000, 0x70000

# imx-mkimage, mkimage_common.h, and SPSDK, database.yaml of the devices: types of images and their cores. The two
# disagree on 9 and D: IMG_TYPE_RECOVERY and IMG_TYPE_DDR_DUMMY of imx-mkimage since i.MX 95 B0.
KINDS = {
    3: "code", 4: "data", 5: "DCD or OEI", 6: "SECO or ELE firmware", 7: "provisioning image", 8: "DEK or FCB",
    9: "recovery image or provisioning data", 0xA: "fast boot code", 0xB: "V2X primary firmware",
    0xC: "V2X secondary firmware", 0xD: "V2X ROM patch or DDR data", 0xE: "V2X dummy",
}  # fmt: skip
# SPSDK, ahab_data.py, AHABSignHashAlgorithm: for images and for signatures.
HASHES = {
    0: "sha256", 1: "sha384", 2: "sha512", 3: "sm3", 4: "sha3-256", 5: "sha3-384", 6: "sha3-512", 8: "shake128-256",
    9: "shake256-512",
}  # fmt: skip
HASH_SIZES = {
    "sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32, "sha3-256": 32, "sha3-384": 48, "sha3-512": 64,
    "shake128-256": 32, "shake256-512": 64,
}  # fmt: skip


class Buffer(Protocol):
    """Bytes or a mapped file: slices are bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class SrkSet(IntEnum):
    """Whose SRKs a container is signed with (bits 0 and 1 of the header's flags)."""

    NONE = 0
    NXP = 1
    OEM = 2


class Tag(IntEnum):
    """The tags of headers that have a container's form."""

    CONTAINER = 0x87
    V2X = 0x82
    MESSAGE = 0x89


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image of a container, `number` from 0.

    `offset` and `size` are in bytes; the offset counts from the container's header. `load` and `entry` are addresses.
    `hash` are the field's 64 bytes, `iv` its 32. `version` is the container's, which decides what the flags mean.
    """

    number: int
    offset: int
    size: int
    load: int
    entry: int
    flags: int
    meta: int
    hash: bytes = field(repr=False)
    iv: bytes = field(repr=False)
    version: int

    @property
    def kind(self) -> int:
        """The type of the image: bits 0 to 3 of its flags."""
        return self.flags & 0xF

    @property
    def kind_name(self) -> str:
        """The type for people."""
        return KINDS.get(self.kind, f"type {self.kind:#x}")

    @property
    def core(self) -> int:
        """The core that it is for: bits 4 to 7."""
        return self.flags >> 4 & 0xF

    @property
    def hash_code(self) -> int:
        """The number of its hash: bits 8 to 10, in version 2 bits 8 to 11."""
        return self.flags >> 8 & (0xF if self.version == 2 else 0x7)

    @property
    def hash_name(self) -> str:
        """The name of its hash, as hashlib has it where hashlib has it."""
        return HASHES.get(self.hash_code, f"hash {self.hash_code}")

    @property
    def digest(self) -> bytes:
        """The hash without its padding."""
        return self.hash[: HASH_SIZES.get(self.hash_name, len(self.hash))]

    @property
    def encrypted(self) -> bool:
        """Whether the image is encrypted: bit 11, in version 2 bit 12."""
        return bool(self.flags & (1 << 12 if self.version == 2 else 1 << 11))


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, which makes a key of its own (SGK) the signer of the container.

    `offset` is its place from the container's header, `version` 0 or 2. `records` are the keys, one for each table;
    `signed` are the bytes that the SRKs sign, `signatures` theirs. `inverted` is the complement of `permissions` as it
    stands. `permission_data` (12 bytes) with their extension (1 byte), `uuid` (16 bytes) and `fuse_version` are of
    version 2, and empty or 0 else.
    """

    offset: int
    version: int
    permissions: int
    inverted: int
    records: tuple[SrkRecord, ...]
    data: tuple[SrkData, ...]
    signed: bytes = field(repr=False)
    signatures: tuple[bytes, ...] = field(repr=False)
    raw: bytes = field(repr=False)
    permission_data: bytes
    permission_data_extension: int
    fuse_version: int
    uuid: bytes

    @property
    def may_sign(self) -> bool:
        """Whether its key may sign containers: bit 0 of the permissions."""
        return bool(self.permissions & 1)

    @property
    def record(self) -> SrkRecord:
        """The key, of two the first."""
        return self.records[0]


@dataclass(frozen=True, slots=True)
class Blob:
    """The wrapped key of encrypted images, at `offset` from the container's header. `size` of the key is in bytes."""

    offset: int
    flags: int
    size: int
    algorithm: int
    mode: int
    wrapped: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def is_placeholder(self) -> bool:
        """Whether cst's filler is still there (0xCA), and the board's blob has to be put in."""
        return set(self.raw) == {0xCA}


@dataclass(frozen=True, slots=True)
class SignatureBlock:
    """What follows the images' entries. All offsets count from the container's header.

    `signature_offset` is where the first signature begins, with its 8 bytes of header, and where the signed bytes end;
    0 without signatures. `signatures` are the raw ones. `padding` are the bytes between its parts and behind them:
    (offset, bytes).
    """

    offset: int
    version: int
    length: int
    certificate: Certificate | None
    srk: SrkTable | SrkArray | None
    signatures: tuple[bytes, ...] = field(repr=False)
    signature_offset: int
    blob: Blob | None
    key_id: int
    padding: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container, whose header is at `offset` of the file. `length` is in bytes from there to the end of the block.

    `tag` is one of `Tag`. `block_offset` counts from the header. `block` is None if only the header was read.
    """

    offset: int
    version: int
    length: int
    tag: int
    flags: int
    sw_version: int
    fuse_version: int
    images: tuple[ImageEntry, ...]
    block_offset: int
    block: SignatureBlock | None

    @property
    def srk_set(self) -> int:
        """Whose keys sign it: `SrkSet`, or 3, which has no meaning."""
        return self.flags & SET_MASK

    @property
    def srk_index(self) -> int:
        """The SRK that signs it, from 0."""
        return (self.flags & INDEX_MASK) >> 4

    @property
    def revoke_mask(self) -> int:
        """The SRKs that `ahab_commit` revokes, bit 0 the first one."""
        return (self.flags & REVOKE_MASK) >> 8

    @property
    def check_all(self) -> bool:
        """Version 2: whether all signatures are checked, whatever the fuses say."""
        return self.version == 2 and bool(self.flags & CHECK_ALL)

    @property
    def fast_boot(self) -> int:
        """Version 2: the bits for fast boot."""
        return (self.flags & FAST_BOOT_MASK) >> 16 if self.version == 2 else 0

    @property
    def is_signed(self) -> bool:
        """Whether the header says that it is signed."""
        return self.srk_set != SrkSet.NONE

    @property
    def header_length(self) -> int:
        """The number of bytes of header and images' entries."""
        return HEADER_SIZE + IMAGE_SIZE * len(self.images)

    @property
    def signed_length(self) -> int:
        """The number of signed bytes from the header on. 0 without a signature."""
        return self.block.signature_offset if self.block is not None else 0

    @property
    def end(self) -> int:
        """The file offset just after it."""
        return self.offset + self.length

    @property
    def step(self) -> int:
        """The distance of headers that follow each other, in bytes (imx-mkimage, CONTAINER_ALIGNMENT)."""
        return 0x4000 if self.version == 2 else 0x400
