"""The output of `digsign fuses`: what to do before, the commands that burn, and what to do after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, shown
from digsigd.cli.fuse_words import command, ranges, reading

if TYPE_CHECKING:
    from digsigd.cli.inspect.fuses import FuseValue
    from digsigd.image.chips import Chip, FuseBits, FuseWord

WARNING = """\
Burning fuses cannot be undone. A board with wrong SRK fuses never boots again once it is closed.
"""
_ONCE = """\
These words have ECC: each can be burnt only once, with all its bits, and cannot be completed or corrected later.
"""
# mx6_mx7_secure_boot.txt, 1.6 and 1.7; mx8m_secure_boot.txt, 1.8 and 1.9. That a ROM may not look at the fuses of an
# open board: NXP AN4581, "SRK HASH and HAB events".
_BEFORE = """\
Before:
  Check that the boards have an {title}.
  Boot an image signed with these keys on an open board: {status} must show no HAB events.
  Compare the same image with these words: digsign fuses {again} --compare IMAGE
"""
_THEN = "Then, in U-Boot, which asks before it burns each word:"
_THEN_BLHOST = "Then, with the chip's flashloader running, with NXP's blhost, which burns immediately and does not ask:"
_AFTER = """\
After:
  Save the output of {tool} for `{reading}`, and compare: digsign fuses {again} --compare SAVED
  Boot the signed image again: there must still be no HAB events. (On an open board some ROMs ignore these fuses, so
  this is not enough: compare the words.)
"""
_CLOSING = """\
Closing the board is a separate step, the last one: fuse SEC_CONFIG[1], {close}. After that the board
boots signed images only. No command for it is shown here: see {guide}, when everything above is correct.
"""
_GUIDES = {
    "i.MX 6": "NXP's mx6_mx7_secure_boot.txt, 1.7",
    "i.MX 7": "NXP's mx6_mx7_secure_boot.txt, 1.7",
    "i.MX 7ULP": "NXP's mx6_mx7_secure_boot.txt, 1.7",
    "i.MX 8M": "NXP's mx8m_secure_boot.txt, 1.9",
}
_MANUAL = "the chip's security reference manual"


def show(value: FuseValue, chip: Chip, source: str, again: str, console: Console) -> None:
    """Print everything as text; `again` are the arguments for the same keys and chip.

    Raises `NotConfirmedError` for a chip whose SRK fuses are not known for certain.
    """
    from digsigd.cli.inspect.keys import key_kind, weaknesses

    places, by_u_boot = chip.srk, chip.srk[0].bank is not None
    console.say(f"{shown(value.of)} of {shown(source)}")
    if value.table is not None:
        for number, record in enumerate(value.table.records, 1):
            kind = "only a hash" if record.key is None else key_kind(record.key)
            flag = "" if record.key is None else ", CA flag" if record.ca else ", no CA flag"
            console.say(f"  SRK {number}  {kind}{flag}")
        for text in weaknesses(value.table):
            console.say(console.coloured(f"  {shown(text)}", "bad"))
    console.say(f"fuse value {value.value.hex()}")
    console.say(f"{chip.title}: {ranges(places)}")
    console.say()
    console.say(console.coloured(WARNING.rstrip(), "bad"))
    if chip.written_once:
        console.say(console.coloured(_ONCE.rstrip(), "bad"))
    console.say()
    status = "`hab_status`" if by_u_boot else "HAB's log"
    say(console, _BEFORE.format(again=shown(again), title=chip.title, status=status))
    console.say(_THEN if by_u_boot else _THEN_BLHOST)
    for place, word in zip(places, value.words, strict=True):
        console.say(f"  {command(place, word)}")
    tool = "U-Boot" if by_u_boot else "blhost"
    say(console, _AFTER.format(again=shown(again), tool=tool, reading=reading(places)))
    close = shown_cell(lambda: chip.close)
    say(console, _CLOSING.format(close=close, guide=_GUIDES.get(chip.family, _MANUAL)))
    console.say("For information:")
    console.say(f"  SRK_LOCK locks the SRK words: {shown_cell(lambda: chip.lock)}")
    console.say(f"  SRK_REVOKE revokes SRKs, the lowest bit SRK 1: {shown_cell(lambda: chip.revoke)}")
    if chip.second_core_cell is not None:
        console.say(f"  SRK words of the second core: {shown_cell(lambda: chip.second_core or ())}")


def shown_cell(cell: Callable[[], FuseBits | Sequence[FuseWord]]) -> str:
    """Return where fuses are, or why that is not confirmed."""
    from digsigd.image.chips import FuseBits, NotConfirmedError

    try:
        found = cell()
    except NotConfirmedError as error:
        return f"not confirmed: {error.what.partition(' is not confirmed: ')[2]}"
    return str(found) if isinstance(found, FuseBits) else ranges(found)


def say(console: Console, text: str) -> None:
    """Print a text line by line."""
    for line in text.splitlines():
        console.say(line)


def place_values(number: int, places: Sequence[FuseWord] | None) -> dict[str, int]:
    """Return the place of the word `number`, counted from 0: values for JSON, and columns of a table."""
    if places is None:
        return {"number": number}
    place = places[number]
    return {"index": place.word} if place.bank is None else {"bank": place.bank, "word": place.word}


def as_values(value: FuseValue, chip: Chip, places: Sequence[FuseWord], source: str) -> dict[str, object]:
    """Return everything as values for JSON."""
    warnings = WARNING + (_ONCE if chip.written_once else "")
    return {
        "source": source,
        "of": value.of,
        "chip": chip.name,
        "fuse_value": value.value.hex(),
        "words": [{**place_values(number, places), "value": f"0x{word:X}"} for number, word in enumerate(value.words)],
        "commands": [command(place, word) for place, word in zip(places, value.words, strict=True)],
        "warning": " ".join(warnings.split()),
    }
