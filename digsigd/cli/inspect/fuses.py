"""Find the fuse values of a file, and the chip that it is for."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digsigd import Error
from digsigd.cli.fuse_words import NoFuseValueError

if TYPE_CHECKING:
    from digsigd.hab import SrkTable
    from digsigd.image.chips import Chip

_BYTES = 32
# srktool --fuse_format 0: each byte of the fuse value in a separate big-endian word.
_SPREAD = 4 * _BYTES
# srktool -d sha1 makes tables that HAB4 cannot use; SHA-512 is for AHAB.
_OTHER_DIGESTS = {20: "SHA-1", 80: "SHA-1", 64: "SHA-512", 256: "SHA-512"}


@dataclass(frozen=True, slots=True)
class FuseValue:
    """A fuse value: 32 bytes in the order of the fuse file, what they are `of`, and the table if it is known."""

    of: str
    value: bytes
    table: SrkTable | None = None

    @property
    def identity(self) -> bytes:
        """What is different for different fuses."""
        return self.value

    @property
    def words(self) -> tuple[int, ...]:
        """The eight 32-bit words for U-Boot's `fuse prog` and blhost, in the order of the chip's fuses."""
        return struct.unpack("<8I", self.value)


def fuse_values(data: mmap.mmap | bytes) -> list[FuseValue]:
    """Return the fuse values of an SRK table, fuse file, key tarball, CSF blob or signed image: one for each table.

    Raises `NoFuseValueError`.
    """
    from digsigd.hab import FormatError, SrkTable
    from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt

    head = data[:512]
    _refuse_ahab(data)
    if looks_like_ivt(head[:IVT_SIZE]):
        return _of_image(data)
    if len(data) in {_BYTES, _SPREAD} and (value := fuse_file(data[:])) is not None:
        return [FuseValue("fuse file", value)]
    if is_tarball(data):
        return _of_tarball(data)
    try:
        if head[:1] == b"\xd7":
            table = SrkTable.parse(data[: 1 << 16])
            return [FuseValue("SRK table", table.fuse_value, table)]
        if head[:1] == b"\xd4":
            return [_of_blob(data[: 1 << 20], "CSF blob")]
    except FormatError as error:
        raise NoFuseValueError(str(error)) from None
    return _of_image(data)


def is_tarball(data: mmap.mmap | bytes) -> bool:
    """Return whether a file is a tarball, packed or not."""
    head = data[:512]
    return head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar"


def _refuse_ahab(data: mmap.mmap | bytes) -> None:
    from digsigd.image.ahab_detect import CHIPS, is_ahab, is_srk_table

    what = "an SRK table" if is_srk_table(data[: 1 << 16]) else "an image" if is_ahab(data) else None
    if what is not None:
        raise NoFuseValueError(f"it is {what} of AHAB ({CHIPS}), whose fuses differ from those of HAB")


def _of_tarball(data: mmap.mmap | bytes) -> list[FuseValue]:
    from digsigd.cli.inspect.tarball import MOST_UNPACKED, tables_in
    from digsigd.errors import BadTarball
    from digsigd.keys.tarball import read_tarball

    if len(data) > MOST_UNPACKED:
        raise NoFuseValueError(f"it is a tarball of {len(data)} bytes; a key tarball has at most {MOST_UNPACKED}")
    try:
        members = read_tarball(data[:], max_bytes=MOST_UNPACKED).members
    except BadTarball as error:
        raise NoFuseValueError(error.for_client()) from None
    tables = tables_in(members)
    if not tables:
        for one in members.values():
            _refuse_ahab(one)
        raise NoFuseValueError("the tarball has no SRK table that can be read")
    return [FuseValue(name, table.fuse_value, table) for name, table in tables.items()]


def _of_blob(blob: bytes, of: str) -> FuseValue:
    from digsigd.hab import CsfBlob

    table = CsfBlob.parse(blob).srk_table()
    if table is None:
        raise NoFuseValueError(f"the {of} has no SRK table in it")
    return FuseValue(of, table.fuse_value, table)


def _of_image(data: mmap.mmap | bytes) -> list[FuseValue]:
    from digsigd.cli.inspect.image import csf_at, find_ivts
    from digsigd.hab import FormatError

    ivts = find_ivts(data)
    if not ivts:
        digest = _OTHER_DIGESTS.get(len(data))
        size = f" (a fuse file with {digest} has {len(data)} bytes; HAB4 needs one with SHA-256)" if digest else ""
        raise NoFuseValueError(f"it is not an SRK table, fuse file, key tarball, CSF blob or signed image{size}")
    found: list[FuseValue] = []
    for ivt in ivts:
        of = f"CSF at {ivt.offset_of(ivt.csf):#x}"
        try:
            blob = csf_at(data, ivt)
            if blob is not None:
                found.append(_of_blob(blob, of))
        except FormatError as error:
            raise NoFuseValueError(f"the {of} is damaged: {error}") from None
    if not found:
        raise NoFuseValueError("the image is not signed: it has no CSF")
    return found


def fuse_file(data: bytes) -> bytes | None:
    """Return the fuse value in a fuse file of srktool, in either of its formats; None if it is not a fuse file."""
    if len(data) == _BYTES:
        return data
    if len(data) == _SPREAD and not any(data[0::4] + data[1::4] + data[2::4]):
        return data[3::4]
    return None


class OtherChipError(Error):
    """The image is for another chip; the text says why."""


def chip_of(data: mmap.mmap | bytes, said: Chip | None = None) -> Chip | None:
    """Return the chip that an image is certainly for; None if the file does not show it.

    Burning fuses cannot be undone, so only the load addresses of i.MX 8M count: they let an image boot on that chip
    only. Raises `OtherChipError` if other facts, such as the registers in the DCD, contradict the chip `said`.
    """
    from digsigd.image.chips import find
    from digsigd.image.errors import ImageError
    from digsigd.image.plan import plan

    try:
        found = plan(data)
    except ImageError:
        return None
    if said is not None:
        try:
            plan(data, chip=said)
        except ImageError as error:
            raise OtherChipError(error.what) from None
    return find(found.soc) if found.soc is not None else None
