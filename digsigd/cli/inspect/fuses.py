"""Fuse values: those that a file stands for, and those that people or U-Boot write down."""

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
# srktool --fuse_format 0: each byte of the fuse value in a big-endian word of its own.
_SPREAD = 4 * _BYTES
# srktool -d sha1 makes tables of no use to HAB4; SHA-512 is what it makes for AHAB.
_OTHER_DIGESTS = {20: "SHA-1", 80: "SHA-1", 64: "SHA-512", 256: "SHA-512"}


@dataclass(frozen=True, slots=True)
class FuseValue:
    """32 bytes, in the order of the fuse file, and what they are of. `table` is None where only they are known."""

    of: str
    value: bytes
    table: SrkTable | None = None

    @property
    def words(self) -> tuple[int, ...]:
        """Eight words as U-Boot's `fuse prog` and blhost take them, in the order of the chip's places for them."""
        return struct.unpack("<8I", self.value)


def fuse_values(data: mmap.mmap | bytes) -> list[FuseValue]:
    """Those of an SRK table, a fuse file, a key tarball, a CSF blob or a signed image: one for each table.

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
    if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
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


def _refuse_ahab(data: mmap.mmap | bytes) -> None:
    from digsigd.image.ahab import CHIPS, containers, srk_table

    what = "an SRK table" if srk_table(data[: 1 << 16]) is not None else "an image" if containers(data) else None
    if what is not None:
        raise NoFuseValueError(f"it is {what} of AHAB ({CHIPS}), whose fuses are others than HAB's")


def _of_tarball(data: mmap.mmap | bytes) -> list[FuseValue]:
    from digsigd.cli.inspect.tarball import MOST_UNPACKED, tables_in
    from digsigd.errors import BadTarball
    from digsigd.keys.tarball import read_tarball

    if len(data) > MOST_UNPACKED:
        raise NoFuseValueError("it is a tarball, and larger than any with keys")
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
        size = f" (a fuse file of {digest} has {len(data)} bytes; that of HAB4 is SHA-256's)" if digest else ""
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
        raise NoFuseValueError("the image is not signed: there is no CSF in it")
    return found


def fuse_file(data: bytes) -> bytes | None:
    """The fuse value that a fuse file of srktool has, in either of its formats; None where it is none."""
    if len(data) == _BYTES:
        return data
    if len(data) == _SPREAD and not any(data[0::4] + data[1::4] + data[2::4]):
        return data[3::4]
    return None


class OtherChipError(Error):
    """The image is for another chip: why."""


def chip_of(data: mmap.mmap | bytes, said: Chip | None = None) -> Chip | None:
    """The chip that an image is certainly for; None where the file does not tell.

    What is burnt is never unburnt, so only i.MX 8M's load addresses count: by them an image boots on that chip alone.
    Whatever else it tells, such as the registers in its DCD, must not contradict what was `said`: `OtherChipError`.
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
