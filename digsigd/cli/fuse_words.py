"""The words of a fuse value on one chip: the commands that burn them, and the output of tools that read them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from digsigd import Error

if TYPE_CHECKING:
    from digsigd.image.chips import Chip, FuseWord

# The places of a fuse value's words; called only for text that needs them, because a chip's can be unconfirmed.
Places: TypeAlias = "Callable[[], Sequence[FuseWord]]"
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
# SPSDK, ele_message.py, EleMessageReadCommonFuse.response_info: the number of a word in all banks, 8 to a bank.
_NXPELE = re.compile(r"Fuse ID_([0-9]{1,4}): 0x([0-9A-Fa-f]{8})")
WORDS_PER_BANK = 8
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


def reading(places: Sequence[FuseWord]) -> str:
    """Return the commands that show all words."""
    if places[0].bank is None:
        return f"blhost {_PORT} -- efuse-read-once {places[0].word:#x}` to `{places[-1].word:#x}"
    banks = [list(words) for _, words in groupby(places, lambda place: place.bank)]
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
    return value_in(text, None if chip is None else lambda: chip.srk)


def value_in(text: str, places: Places | None, counts: Collection[int] = (WORDS,)) -> bytes:
    """Return the fuse value in a text, as `written_value`; it has one of these `counts` of words.

    Output of tools needs `places`. Raises `NoFuseValueError`.
    """
    if len(text) > LONGEST_TEXT:
        raise NoFuseValueError(f"the text has {len(text)} characters, at most {LONGEST_TEXT} are read")
    if _LINE.search(text):
        return _packed(_shown(places, _read_by_u_boot(text), "U-Boot"))
    if _NXPELE.search(text):
        return _packed(_shown(places, _read_by_nxpele(text), "nxpele"))
    if _ANSWER.search(text):
        return _packed(_read_by_blhost(text, places))
    digits = text.strip().removeprefix("0x")
    if len(digits) in {8 * count for count in counts} and re.fullmatch(r"[0-9A-Fa-f]+", digits):
        return bytes.fromhex(digits)
    words = [_WORD.fullmatch(word) for word in re.split(r"[\s,]+", text.strip())]
    if len(words) in counts and all(words):
        return _packed([int(word[1], 16) for word in words if word])
    digit_counts = " or ".join(str(8 * count) for count in counts)
    word_counts = " or ".join({8: "eight", 16: "sixteen"}.get(count, str(count)) for count in counts)
    raise NoFuseValueError(
        f"it is neither {digit_counts} hexadecimal digits, nor {word_counts} words of up to 8 digits, nor output of"
        " U-Boot's `fuse read` or blhost's `efuse-read-once`"
    )


def _packed(words: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def _shown(places: Places | None, found: dict[tuple[int | None, int], int], tool: str) -> list[int]:
    """Return the words at the chip's places. Raises `NoFuseValueError`."""
    if places is None:
        raise NoFuseValueError(f"it is output of {tool}: set --soc to the chip that it is from")
    where = places()
    missing = [str(place) for place in where if (place.bank, place.word) not in found]
    if missing:
        raise NoFuseValueError(f"it lacks {', '.join(missing)}: {tool} shows them with `{reading(where)}`")
    return [found[place.bank, place.word] for place in where]


def _read_by_nxpele(text: str) -> dict[tuple[int | None, int], int]:
    """Return all words in the output of `nxpele read-common-fuse`."""
    found: dict[tuple[int | None, int], int] = {}
    for match in _NXPELE.finditer(text):
        index = int(match[1])
        place = (index // WORDS_PER_BANK, index % WORDS_PER_BANK)
        _keep(found, place, int(match[2], 16), f"words of index {index}")
    return found


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


def _read_by_blhost(text: str, places: Places | None) -> list[int]:
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
    return _shown(places, found, "blhost")


def _keep(found: dict[tuple[int | None, int], int], place: tuple[int | None, int], word: int, what: str) -> None:
    if found.setdefault(place, word) != word:
        raise NoFuseValueError(f"it has two different {what}")
