"""The plan for a file with AHAB containers: whose each is, what it loads, and what has to be signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from digsigd.ahab import AhabChip, Container, ImageEntry
from digsigd.image.errors import ImageError
from digsigd.image.model import Region

# NXP signs its firmware (ELE, SECO, V2X) itself; everything else is for the maker of the boards (OEM) to sign.
Owner: TypeAlias = Literal["NXP", "OEM"]
# The region of data that an entry without a size points at: imx-mkimage's -ddr_dummy and -hold.
TRAINING_DATA = "DDR training data"
_AGAIN = "Build the image again."
_BLOCK_HEADER, _SIGNATURE_HEADER, _TABLE_HEADER, _RECORD_HEADER, _RECORDS = 16, 8, 4, 12, 4
_ARRAY_HEADER, _RECORD_V2, _DATA_HEADER = 8, 76, 8
_CERTIFICATE_HEADER, _CERTIFICATE_HEADER_V2 = 8, 40
# Bytes of a key in an SRK record, and of its signature: X and Y, r and s; modulus and the exponent 65537.
_KEYS = {
    "p256": (64, 64), "p384": (96, 96), "p521": (132, 132), "rsa2048": (259, 256), "rsa3072": (387, 384),
    "rsa4096": (515, 512),
}  # fmt: skip


def block_length(key: str, *, version: int = 0, sgk: str | None = None) -> int:
    """Return the bytes of the signature block that cst makes, for one SRK table and no blob.

    `key` is the kind of the SRKs: p256, p384, p521, rsa2048, rsa3072 or rsa4096; `sgk` that of the key of a
    certificate, if one is used; `version` that of the container, 0 or 2. Raises `KeyError` for other kinds. Sources:
    cst, ahab_types.h; measured with cst 3.4.1 and 4.0.1.
    """
    size, signature = _KEYS[key]
    if version:
        table = _ARRAY_HEADER + _TABLE_HEADER + _RECORDS * _RECORD_V2 + _DATA_HEADER + size
    else:
        table = _TABLE_HEADER + _RECORDS * (_RECORD_HEADER + size)
    length = _padded(_BLOCK_HEADER + table) + _SIGNATURE_HEADER + (_KEYS[sgk][1] if sgk else signature)
    if sgk:
        # In version 2 its signature is right behind its key.
        own = _KEYS[sgk][0]
        head = _CERTIFICATE_HEADER_V2 + _RECORD_V2 + _DATA_HEADER if version else _CERTIFICATE_HEADER + _RECORD_HEADER
        body = head + own if version else _padded(head + own)
        length = _padded(length) + body + _SIGNATURE_HEADER + signature
    return _padded(length)


def _padded(length: int) -> int:
    return -(-length // 8) * 8


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of a container: `offset` and `size` are its place in the file, in bytes."""

    entry: ImageEntry
    offset: int

    @property
    def size(self) -> int:
        """Its bytes in the file; 0 for entries that load nothing."""
        return self.entry.size

    @property
    def end(self) -> int:
        """The file offset just after it."""
        return self.offset + self.size

    @property
    def name(self) -> str:
        """What to show: its number, from 0, and its type."""
        return f"image {self.entry.number} ({self.entry.kind_name})"


@dataclass(frozen=True, slots=True)
class PlannedContainer:
    """A container of a file.

    `owner` is who has to sign it. `first` says that the ROM loads it; the containers behind the first set are loaded by
    SPL. `room` is how many bytes its signature block can have. `key` names the key that its block says it is signed
    with, "" if it is not signed. `wrong` says what is wrong with its images or its block; a board refuses it then.
    `refused` says why a right one cannot be signed here.
    """

    container: Container
    owner: Owner
    images: tuple[PlannedImage, ...]
    room: int
    first: bool
    key: str = ""
    wrong: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def offset(self) -> int:
        """The file offset of its header: the first number of cst's `Offsets`."""
        return self.container.offset

    @property
    def block(self) -> int:
        """The file offset of its signature block: the second number of cst's `Offsets`."""
        return self.container.offset + self.container.header_length

    @property
    def end(self) -> int:
        """The file offset just after its signature block."""
        return max(self.container.end, self.block)

    @property
    def name(self) -> str:
        """What to show: whose it is, and where."""
        return f"{'NXP' if self.owner == 'NXP' else 'OEM'} container at {self.offset:#x}"

    @property
    def signed(self) -> bool:
        """Whether its flags say that it is signed."""
        return self.container.is_signed

    @property
    def must_sign(self) -> bool:
        """Whether it is to be signed, again if it already is."""
        return self.owner == "OEM"

    @property
    def encrypted(self) -> tuple[int, ...]:
        """The numbers of its images that are encrypted."""
        return tuple(image.entry.number for image in self.images if image.entry.encrypted)


@dataclass(frozen=True, slots=True)
class AhabPlan:
    """How a file of `size` bytes with AHAB containers is signed.

    `layout` is its name to show. `containers` are in the order of the file, `regions` too, without overlap. `wrong`
    says what is wrong with the file besides its containers. `chip` is the chip of the boards, if known. `replaced`
    describes the signatures that its OEM containers already have.
    """

    layout: str
    size: int
    containers: tuple[PlannedContainer, ...]
    regions: tuple[Region, ...]
    chip: AhabChip | None = None
    wrong: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The version of its containers: 0, or 2 (i.MX 95 B0, 94, 952)."""
        return self.containers[0].container.version

    @property
    def to_sign(self) -> tuple[PlannedContainer, ...]:
        """The containers to sign, in the order of the file."""
        return tuple(one for one in self.containers if one.must_sign)

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that is wrong with the file and its containers: a board would not boot it once signed."""
        return (*self.wrong, *(text for one in self.containers for text in one.wrong))

    def _what_to_do(self) -> str:
        """Return what to do about the faults: another chip than that of the boards is no fault of the build."""
        if self.chip is None or self.version in self.chip.versions:
            return _AGAIN
        other = "".join(f" {note}." for note in self.chip.notes if "version" in note)
        return f"Check --soc against the marking of the chip.{other}"

    def check_signable(self, length: int = 0) -> None:
        """Raise `ImageError` unless all its OEM containers can be signed with blocks of `length` bytes.

        `block_length` gives the length for a kind of keys; 0 leaves the room unchecked.
        """
        faults = self.faults
        if faults:
            raise ImageError(_first(faults), hint=self._what_to_do())
        if not self.to_sign:
            raise ImageError(
                "the file has no OEM container, so there is nothing to sign",
                hint="NXP has signed its firmware. Sign flash.bin, which has it in front of your containers.",
            )
        refused = [text for one in self.to_sign for text in one.refused]
        if refused:
            raise ImageError(_first(refused), hint="Sign the image that it was made from.")
        for one in self.to_sign:
            if one.room < length:
                raise ImageError(
                    f"the {one.name} has room for a signature block of {one.room:#x} bytes, but these keys need"
                    f" {length:#x}",
                    hint="Leave more room behind its header, or sign with smaller keys (P-256 needs the least).",
                )


def _first(texts: tuple[str, ...] | list[str]) -> str:
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return texts[0] + more
