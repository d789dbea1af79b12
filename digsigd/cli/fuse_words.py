"""The words of a fuse value on one chip: the commands that burn them, and the output of tools that read them."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from digsigd import Error

if TYPE_CHECKING:
    from digsigd.image.chips import Chip, FuseWord

WORDS = 8
LONGEST_TEXT = 64 << 10
_WORD = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,8})")
# U-Boot, cmd/fuse.c, do_fuse: `fuse read 6 0 4` and `fuse sense 6 0 4`.
_BANK = re.compile(r"(?:Reading|Sensing) bank ([0-9]{1,3}):")
_LINE = re.compile(r"Word 0x([0-9a-f]{8}):((?: [0-9a-f]{8})+)")
# blhost, NXP's in C and SPSDK's: the command as in a shell's log, and the two forms of its response (-j is JSON).
_ASKED = re.compile(r"efuse-read-once[ \t]+(0[xX][0-9A-Fa-f]{1,8}|[1-9][0-9]{0,8}|0)\b")
_ANSWER = re.compile(
    r"Response word 2 = [0-9]{1,10} \(0x([0-9a-fA-F]{1,8})\)|\"response\"\s*:\s*\[\s*4\s*,\s*([0-9]{1,10})\s*\]"
)
_BLHOST = re.compile(_ASKED.pattern + "|" + _ANSWER.pattern)
# NXP's flashloader for these chips.
_PORT = "-u 0x15A2,0x0073"


class NoFuseValueError(Error):
    """A file or text contains no fuse value; the text says why."""


def command(place: FuseWord, word: int) -> str:
    """Return the command that burns one word: for U-Boot, which asks first without -y, or for blhost, which does not.

    In the form of NXP's guides: hexdump's %X (mx8m_secure_boot.txt, 1.7), and blhost's eight digits without a prefix.
    """
    if place.bank is None:
        return f"blhost {_PORT} -- efuse-program-once {place.word:#x} {word:08x}"
    return f"fuse prog {place.bank} {place.word} 0x{word:X}"


def reading(chip: Chip) -> str:
    """Return the commands that show all words."""
    if chip.srk[0].bank is None:
        return f"blhost {_PORT} -- efuse-read-once {chip.srk[0].word:#x}` to `{chip.srk[-1].word:#x}"
    banks = [list(words) for _, words in groupby(chip.srk, lambda place: place.bank)]
    return "; ".join(f"fuse read {words[0].bank} {words[0].word} {len(words)}" for words in banks)


def ranges(places: Sequence[FuseWord]) -> str:
    """Return the places of words as text: bank 6 words 0 to 3, bank 7 words 0 to 3."""
    banks = [(bank, list(words)) for bank, words in groupby(places, lambda place: place.bank)]
    return ", ".join(
        (f"indexes {words[0].word} to {words[-1].word}" if bank is None else f"bank {bank} words {words[0].word} to"
         f" {words[-1].word}")
        for bank, words in banks
    )  # fmt: skip


def written_value(text: str, chip: Chip | None = None) -> bytes:
    """Return the fuse value in a text: 64 digits in the order of the fuse file, eight words, or tool output.

    Output of U-Boot or blhost needs `chip` for the places of the words. Raises `NoFuseValueError`.
    """
    if len(text) > LONGEST_TEXT:
        raise NoFuseValueError(f"the text has {len(text)} characters, at most {LONGEST_TEXT} are read")
    if _LINE.search(text):
        return struct.pack("<8I", *_shown(chip, _read_by_u_boot(text), "U-Boot"))
    if _ANSWER.search(text):
        return struct.pack("<8I", *_read_by_blhost(text, chip))
    digits = text.strip().removeprefix("0x")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        return bytes.fromhex(digits)
    words = [_WORD.fullmatch(word) for word in re.split(r"[\s,]+", text.strip())]
    if len(words) == WORDS and all(words):
        return struct.pack("<8I", *(int(word[1], 16) for word in words if word))
    raise NoFuseValueError(
        "it is neither 64 hexadecimal digits, nor eight words of up to 8 digits, nor output of U-Boot's `fuse read` or"
        " blhost's `efuse-read-once`"
    )


def _shown(chip: Chip | None, found: dict[tuple[int | None, int], int], tool: str) -> list[int]:
    """Return the words at the chip's places. Raises `NoFuseValueError`."""
    if chip is None:
        raise NoFuseValueError(f"it is output of {tool}: set --soc to the chip that it is from")
    missing = [str(place) for place in chip.srk if (place.bank, place.word) not in found]
    if missing:
        raise NoFuseValueError(f"it lacks {', '.join(missing)}: {tool} shows them with `{reading(chip)}`")
    return [found[place.bank, place.word] for place in chip.srk]


def _read_by_u_boot(text: str) -> dict[tuple[int | None, int], int]:
    """Return all words in the output of `fuse read` or `fuse sense`, in any order, between any other text."""
    found: dict[tuple[int | None, int], int] = {}
    bank = None
    for line in text.splitlines():
        if match := _BANK.search(line):
            bank = int(match[1])
        elif match := _LINE.search(line):
            if bank is None:
                raise NoFuseValueError("it has output of U-Boot without the line that names the bank")
            for number, word in enumerate(match[2].split(), int(match[1], 16)):
                _keep(found, (bank, number), int(word, 16), f"words {number} of bank {bank}")
    return found


def _read_by_blhost(text: str, chip: Chip | None) -> list[int]:
    """Return the words by the indexes in the log; eight responses without an index are the words in order."""
    found: dict[tuple[int | None, int], int] = {}
    loose: list[int] = []
    index = None
    for match in _BLHOST.finditer(text):
        asked, hexadecimal, decimal = match.groups()
        if asked is not None:
            index = int(asked, 0)
            continue
        word = int(hexadecimal, 16) if hexadecimal is not None else int(decimal)
        if word >> 32:
            raise NoFuseValueError(f"it has a response of more than 32 bits: {word}")
        if index is None:
            loose.append(word)
        else:
            _keep(found, (None, index), word, f"words of index {index}")
        index = None
    if not found and len(loose) == WORDS:
        return loose
    if loose:
        raise NoFuseValueError(
            f"it has {len(loose)} responses of blhost without an `efuse-read-once INDEX` before them; without indexes,"
            " exactly eight are needed"
        )
    return _shown(chip, found, "blhost")


def _keep(found: dict[tuple[int | None, int], int], place: tuple[int | None, int], word: int, what: str) -> None:
    if found.setdefault(place, word) != word:
        raise NoFuseValueError(f"it has two different {what}")
