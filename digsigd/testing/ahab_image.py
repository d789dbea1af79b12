"""A boot file in the shape of an i.MX 93 `flash.bin` for an SD card: three AHAB containers, and their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from digsigd.ahab import ContainerImage, SrkSet, build_container, build_file, srk_key
from digsigd.ahab.build import write_table
from digsigd.ahab.write import write_block, write_block_head

# imx-mkimage lf-6.6.3, iMX93/soc.mak: what of the file goes where, and to which addresses.
SPL_ADDRESS = 0x2049A000
UBOOT_ADDRESS = 0x80200000
ATF_ADDRESS = 0x204E0000
FIRMWARE, SPL_HEADER, IMAGES = 0x0, 0x400, 0x2000
_KIB = 0x400
_FIRMWARE_SIZE = 0x800
_ELE = 6  # the type of an image that the secure enclave runs
_HEADER, _ENTRY = 0x10, 0x80


@dataclass(frozen=True, slots=True)
class TrialAhabImage:
    """A file with a container in place of NXP's firmware, one with SPL, and one with ATF and U-Boot.

    `containers` are those of the owner, as imx-mkimage prints them: the places in the file of header and signature
    block. NXP's is signed with keys that were thrown away: a chip would not run it.
    """

    data: bytes = field(repr=False)
    containers: tuple[tuple[int, int], ...]

    @classmethod
    def make(cls, spl: bytes, atf: bytes, uboot: bytes) -> TrialAhabImage:
        """Make a file from the code of three programs. Each is padded to a multiple of 1 KiB, as imx-mkimage does."""
        firmware = ContainerImage(_padded(b"no firmware", _FIRMWARE_SIZE), IMAGES, kind=_ELE, core=1)
        # Offsets of images count from the header of their own container.
        first = ContainerImage(_padded(spl), IMAGES + _FIRMWARE_SIZE - SPL_HEADER, SPL_ADDRESS, SPL_ADDRESS)
        end = SPL_HEADER + first.offset + len(first.data)
        atf, uboot = _padded(atf), _padded(uboot)
        place = end + IMAGES - SPL_HEADER
        second = [
            ContainerImage(atf, place - end, ATF_ADDRESS, ATF_ADDRESS),
            ContainerImage(uboot, place - end + len(atf), UBOOT_ADDRESS, UBOOT_ADDRESS),
        ]
        data = build_file(
            (
                (FIRMWARE, _signed_by_nobody(firmware), [firmware]),
                (SPL_HEADER, build_container([first]), [first]),
                (end, build_container(second), second),
            )
        )
        return cls(data, ((SPL_HEADER, _block(SPL_HEADER, [first])), (end, _block(end, second))))

    @classmethod
    def of_size(cls, size: int) -> TrialAhabImage:
        """Make a file of exactly `size` bytes with a fixed pattern as code.

        Raises `ValueError` unless `size` is a multiple of 1 KiB, and at least 64 KiB.
        """
        if size % _KIB or size < 64 * _KIB:
            raise ValueError(f"the size of a file must be a multiple of 1 KiB and at least 64 KiB, not {size:#x}")
        pattern = bytes(range(251))
        spl, atf = 16 * _KIB, 8 * _KIB
        empty = len(cls.make(bytes(spl), bytes(atf), b"").data)
        code = (pattern * (size // len(pattern) + 1))[: size - empty]
        return cls.make(code[:spl], code[:atf], code)


def _padded(data: bytes, size: int = 0) -> bytes:
    return data.ljust(max(size, len(data) + -len(data) % _KIB), b"\0")


def _block(header: int, images: Sequence[ContainerImage]) -> int:
    """Return the place in the file of the signature block of the container at `header`."""
    return header + _HEADER + _ENTRY * len(images)


def _signed_by_nobody(image: ContainerImage) -> bytes:
    """Return a container with NXP's SRK set, signed with a key that is not kept."""
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(4)]
    table = write_table([srk_key(key.public_key(), "sha384") for key in keys])
    head = write_block_head(table, (96,))
    size = _block(0, [image])
    length = size + len(write_block(head, (bytes(96),)))
    unsigned = bytearray(build_container([image], flags=SrkSet.NXP))[:size]
    unsigned[1:3] = length.to_bytes(2, "little")
    r, s = decode_dss_signature(keys[0].sign(bytes(unsigned) + head, ec.ECDSA(hashes.SHA384())))
    return bytes(unsigned) + write_block(head, (r.to_bytes(48, "big") + s.to_bytes(48, "big"),))
