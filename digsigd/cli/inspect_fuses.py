"""Fuse values: those that a file stands for, and those that people or U-Boot write down."""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digsigd.hab import SrkTable

# The i.MX 8M's SRK_HASH: uboot-imx, doc/imx/habv4/guides/mx8m_secure_boot.txt, 1.7.
BANKS = (6, 7)
WORDS_OF_BANK = 4
_LONGEST_TEXT = 64 << 10
_WORD = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,8})")
# U-Boot, cmd/fuse.c, do_fuse: `fuse read 6 0 4` and `fuse sense 6 0 4`.
_BANK = re.compile(r"(?:Reading|Sensing) bank ([0-9]{1,3}):")
_LINE = re.compile(r"Word 0x([0-9a-f]{8}):((?: [0-9a-f]{8})+)")


class NoFuseValueError(Exception):
    """There is none in it: why."""


@dataclass(frozen=True, slots=True)
class FuseValue:
    """32 bytes, in the order of the fuse file, and what they are of. `table` is None where only they are known."""

    of: str
    value: bytes
    table: SrkTable | None = None

    @property
    def words(self) -> tuple[int, ...]:
        """Eight words as U-Boot's `fuse prog` takes them, for bank 6 words 0 to 3, then bank 7 words 0 to 3."""
        return struct.unpack("<8I", self.value)


def place(number: int) -> tuple[int, int]:
    """Bank and word of the word `number`, from 0."""
    return BANKS[number // WORDS_OF_BANK], number % WORDS_OF_BANK


def fuse_values(data: mmap.mmap | bytes) -> list[FuseValue]:
    """Those of an SRK table, a fuse file, a key tarball, a CSF blob or a signed image: one for each table.

    Raises `NoFuseValueError`.
    """
    from digsigd.hab import FormatError, SrkTable
    from digsigd.hab.ivt import IVT_SIZE, looks_like_ivt

    head = data[:512]
    if looks_like_ivt(head[:IVT_SIZE]):
        return _of_image(data)
    if len(data) == 32:
        return [FuseValue("fuse file", data[:])]
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


def _of_tarball(data: mmap.mmap | bytes) -> list[FuseValue]:
    from digsigd.cli.inspect_tarball import MOST_UNPACKED, tables_in
    from digsigd.errors import BadTarball
    from digsigd.keys.tarball import read_tarball

    if len(data) > MOST_UNPACKED:
        raise NoFuseValueError("it is a tarball, and larger than any with keys")
    try:
        tables = tables_in(read_tarball(data[:], max_bytes=MOST_UNPACKED).members)
    except BadTarball as error:
        raise NoFuseValueError(error.for_client()) from None
    if not tables:
        raise NoFuseValueError("the tarball has no SRK table that can be read")
    return [FuseValue(name, table.fuse_value, table) for name, table in tables.items()]


def _of_blob(blob: bytes, of: str) -> FuseValue:
    from digsigd.hab import CsfBlob, SrkTable
    from digsigd.hab.csf import SRK_TABLE, InstallKey

    parsed = CsfBlob.parse(blob)
    for command in parsed.commands:
        if isinstance(command, InstallKey) and command.protocol == SRK_TABLE:
            table = SrkTable.parse(parsed.object_at(command))
            return FuseValue(of, table.fuse_value, table)
    raise NoFuseValueError(f"the {of} has no SRK table in it")


def _of_image(data: mmap.mmap | bytes) -> list[FuseValue]:
    from digsigd.cli.inspect_image import csf_at, find_ivts
    from digsigd.hab import FormatError

    ivts = find_ivts(data)
    if not ivts:
        raise NoFuseValueError("it is no SRK table, fuse file, key tarball, CSF blob or signed image")
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


def written_value(text: str) -> bytes:
    """A fuse value as people write it: 64 digits as the fuse file has them, eight words, or what U-Boot showed.

    Raises `NoFuseValueError`.
    """
    if len(text) > _LONGEST_TEXT:
        raise NoFuseValueError("it is too long a text")
    if _LINE.search(text):
        return struct.pack("<8I", *_read_by_u_boot(text))
    digits = text.strip().removeprefix("0x")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        return bytes.fromhex(digits)
    words = [_WORD.fullmatch(word) for word in re.split(r"[\s,]+", text.strip())]
    if len(words) == len(BANKS) * WORDS_OF_BANK and all(words):
        return struct.pack("<8I", *(int(word[1], 16) for word in words if word))
    raise NoFuseValueError(
        "it is neither 64 hexadecimal digits, nor eight words of up to 8, nor what U-Boot's `fuse read` shows"
    )


def _read_by_u_boot(text: str) -> list[int]:
    """The words that `fuse read 6 0 4` and `fuse read 7 0 4` showed, in whatever order, amid whatever else."""
    found: dict[tuple[int, int], int] = {}
    bank = None
    for line in text.splitlines():
        if match := _BANK.search(line):
            bank = int(match[1])
        elif match := _LINE.search(line):
            if bank is None:
                raise NoFuseValueError("it has words as U-Boot shows them, and does not say of which bank")
            for number, word in enumerate(match[2].split(), int(match[1], 16)):
                if found.setdefault((bank, number), int(word, 16)) != int(word, 16):
                    raise NoFuseValueError(f"it has two different words {number} of bank {bank}")
    wanted = [place(number) for number in range(len(BANKS) * WORDS_OF_BANK)]
    missing = [f"bank {bank} word {word}" for bank, word in wanted if (bank, word) not in found]
    if missing:
        raise NoFuseValueError(
            f"it lacks {', '.join(missing)}: U-Boot shows them by `fuse read 6 0 4; fuse read 7 0 4`"
        )
    return [found[one] for one in wanted]
