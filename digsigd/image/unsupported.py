"""Errors for unsupported files, which name the kind of file by its first bytes."""

from __future__ import annotations

from digsigd.ahab import Container
from digsigd.image import ahab_detect
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer

_OTHER_BOOT = "AHAB is a different secure boot than HAB: its images and keys are for other chips."
_LARGEST_TABLE = 1 << 16
_UIMAGE = b"\x27\x05\x19\x56"
_UNPACK = "Decompress it: HAB checks what is in memory."
_SEEN = (
    (
        0,
        b"\x1f\x8b",
        "gzip data",
        "HAB checks an image as it is in memory. Decompress it first (a kernel: use Image, not Image.gz).",
    ),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", _UNPACK),
    (0, b"\xfd7zXZ\x00", "xz data", _UNPACK),
    (0, b"BZh", "bzip2 data", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "LZ4 data", _UNPACK),
    (0, b"\x7fELF", "an ELF file", "Use the binary that is written to the board, such as flash.bin."),
    (0, b"ANDROID!", "an Android boot image", "Android Verified Boot checks it, not HAB."),
    (0, b"\xd4", "a CSF or the start of one", "Sign the image that it belongs to."),
    (0, b"\xd7", "an SRK table or a certificate of HAB", "Sign the image that it belongs to."),
    (510, b"\x55\xaa", "the image of a disk", "Sign flash.bin (imx-boot) before it is written to the disk."),
)


def refuse_ahab(data: Buffer) -> None:
    """Raise `ImageError` for an image of a chip with AHAB."""
    if found := ahab_detect.containers(data):
        raise _of_ahab(found)


def _of_ahab(found: tuple[Container, ...]) -> ImageError:
    where = ", ".join(f"{one.offset:#x}" for one in found)
    return ImageError(f"AHAB containers ({ahab_detect.CHIPS}) at {where}: not an image for HAB", hint=_OTHER_BOOT)


def stranger(data: Buffer, place: int) -> ImageError:
    """Build the error for a file with unsupported data at `place`."""
    if (one := ahab_detect.container_at(data, place)) is not None:
        return _of_ahab((one,))
    if ahab_detect.is_srk_table(data[place : place + _LARGEST_TABLE]):
        return ImageError(f"at {place:#x} is an SRK table for AHAB ({ahab_detect.CHIPS})", hint=_OTHER_BOOT)
    if data[place : place + 4] == _UIMAGE:
        return ImageError(
            f"at {place:#x} is a legacy uImage, but SPLs of i.MX 8M with HAB load a FIT",
            hint="Build the image with CONFIG_SPL_LOAD_FIT, or imx-mkimage's option -fit.",
        )
    for offset, magic, name, hint in _SEEN:
        if data[place + offset : place + offset + len(magic)] == magic:
            return ImageError(f"at {place:#x} is {name}, which cannot be signed for HAB", hint=hint)
    return ImageError(
        f"the data at {place:#x} are unknown: {data[place : place + 16].hex(' ')}",
        hint="Supported are flash.bin from imx-mkimage and from U-Boot's binman, SPL, u-boot.imx, u-boot-ivt.img,"
        " barebox, images for i.MX RT, a FIT (u-boot.itb), and a kernel as Image, zImage or uImage.",
    )
