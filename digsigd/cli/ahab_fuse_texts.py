"""The output of `digsign fuses` for chips with AHAB: what to do before, the commands that burn, what to do after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, shown
from digsigd.cli.fuse_texts import WARNING, place_values, say
from digsigd.cli.fuse_words import WORDS_PER_BANK, command, ranges, reading

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip
    from digsigd.cli.inspect.ahab_fuses import FoundTable
    from digsigd.image.chips import FuseWord

# SPSDK, database.yaml of the devices with `fuses: tool: nxpele`, and the revision where it is not the newest.
_NXPELE = {
    "mx8ulp": "mimx8ulp",
    "mx91": "mimx9131",
    "mx93": "mimx9352",
    "mx94": "mimx943",
    "mx95": "mimx9596",
    "mx95-a0": "mimx9596 -r a1",
    "mx952": "mimx95294",
}
# Names of --soc that say enough to burn fuses.
_CERTAIN = {"mx8": "mx8qm", "mx95": "mx95-b0"}
# uboot-imx, doc/imx/ahab; NXP community: the indication FA (bad key hash) before the fuses are burnt, which an open
# board logs and ignores.
_BEFORE = """\
Before:
  Check that the boards have an {title}.
  Boot an image signed with these keys on an open board: `ahab_status` may show only that the hash of the SRK table is
  not the one in the fuses (0x0287FAD6), because they are not burnt yet.
  Compare the same image with these words: digsign fuses {again} --compare IMAGE
"""
_THEN = "Then, in U-Boot, which asks before it burns each word:"
_OR = "Or with SPSDK's nxpele, which does not ask (PORT is that of U-Boot's console or of fastboot):"
_AFTER = """\
After:
  Save the output of U-Boot for `{reading}`, and compare: digsign fuses {again} --compare SAVED
  Boot the signed image again: `ahab_status` must show no events now. (While it showed the wrong hash, it can have
  hidden others.)
"""
_CLOSING = """\
Closing the board is a separate step, the last one, and there is no way back: U-Boot's `ahab_close` moves the life cycle
from {life_cycle}. After that the board boots signed images only. See NXP's guides in uboot-imx, doc/imx/ahab.
"""


def certain_name(chip: AhabChip) -> str:
    """Return the name of a chip for --soc that says enough to burn fuses."""
    return _CERTAIN.get(chip.name, chip.name)


def places_of(chip: AhabChip) -> tuple[FuseWord, ...]:
    """Return the places of the fuse value's words. Raises `NotConfirmed`."""
    return _as_places(chip.fuse_words)


def second_places_of(chip: AhabChip) -> tuple[FuseWord, ...]:
    """Return the places of the second table's words, none for a chip without one. Raises `NotConfirmed`."""
    return _as_places(chip.pqc_fuse_words or ())


def sets_of(one: FoundTable, chip: AhabChip) -> list[tuple[str, bytes, tuple[FuseWord, ...]]]:
    """Return what is burnt: for each table what it is, its value, and its places. Raises `AhabError`.

    Keys that the chip does not accept are refused: closed, its boards would never boot again.
    """
    from digsigd.ahab import AhabError, Refused

    places = places_of(chip)
    for records in one.records:
        rule = chip.allows(records[0].algorithm)
        if isinstance(rule, Refused):
            raise AhabError(
                f"the SRKs are {records[0].name}, which {chip.title} does not accept: {rule.why}",
                hint="make keys of another kind: closed boards with these fuses would never boot",
            )
    values = one.values(chip)
    found = [("SRK table", values[0], places)]
    if len(values) > 1:
        found.append(("second SRK table (ML-DSA)", values[1], second_places_of(chip)))
    return found


def _as_places(words: Sequence[tuple[int, int]]) -> tuple[FuseWord, ...]:
    from digsigd.image.chips import FuseWord

    return tuple(FuseWord(bank, word) for bank, word in words)


def words_of(value: bytes) -> tuple[int, ...]:
    """Return a fuse value as 32-bit words, in the order of the chip's fuses."""
    from digsigd.ahab import fuse_words

    return fuse_words(value)


def nxpele(chip: AhabChip, place: FuseWord, word: int) -> str:
    """Return the command of SPSDK that burns one word, "" for chips without an ELE.

    spsdk/apps/nxpele.py, write-fuse; the index counts the words of all banks (SPSDK, fuses.json).
    """
    family = _NXPELE.get(chip.name)
    index = (place.bank or 0) * WORDS_PER_BANK + place.word
    return f"nxpele -f {family} -p PORT write-fuse --index {index} --data 0x{word:X}" if family else ""


def show_ahab_fuses(one: FoundTable, chip: AhabChip, source: str, again: str, console: Console) -> None:
    """Print everything as text; `again` are the arguments for the same keys and chip. Raises `AhabError`."""
    sets = sets_of(one, chip)
    console.say(f"{shown(one.of)} of {shown(source)}")
    _show_keys(one, console)
    for name, value, places in sets:
        console.say(f"fuse value of the {name}, {chip.fuse_hash} {value.hex()}")
        console.say(f"{chip.title}: {ranges(places)}")
    console.say()
    console.say(console.coloured(WARNING.rstrip(), "bad"))
    console.say()
    say(console, _BEFORE.format(again=shown(again), title=chip.title))
    console.say(_THEN)
    burnt = [(place, word) for _, value, places in sets for place, word in zip(places, words_of(value), strict=True)]
    for place, word in burnt:
        console.say(f"  {command(place, word)}")
    if chip.name in _NXPELE:
        console.say(_OR)
        for place, word in burnt:
            console.say(f"  {nxpele(chip, place, word)}")
    say(console, _AFTER.format(again=shown(again), reading=reading(sets[0][2])))
    say(console, _CLOSING.format(life_cycle=chip.closed_life_cycle))
    for note in (*_unconfirmed(one, chip), *chip.notes):
        console.say(f"note: {shown(note)}")


def _unconfirmed(one: FoundTable, chip: AhabChip) -> list[str]:
    """Return what is not certain about these keys on the chip."""
    from digsigd.ahab import Refused, Unconfirmed

    if one.table is None:
        what = f"a fuse file does not say what keys it is of, so it was not checked whether {chip.title} accepts them"
        return [f"{what}: pass the SRK table"]
    rules = {records[0].name: chip.allows(records[0].algorithm) for records in one.records}
    found = [
        f"whether {chip.title} accepts {name} is not confirmed: {rule.why}"
        for name, rule in rules.items()
        if isinstance(rule, Unconfirmed)
    ]
    if isinstance(chip.sgk, Refused) and one.records[0][0].is_ca:
        what = f"these SRKs have the CA flag, for certificates (SGK), which {chip.title} does not accept"
        found.append(f"{what}: whether it accepts containers that they sign themselves is not confirmed")
    return found


def _show_keys(one: FoundTable, console: Console) -> None:
    for which, records in enumerate(one.records, 1):
        for number, record in enumerate(records, 1):
            flag = "CA flag" if record.is_ca else "no CA flag"
            second = " of the second table" if which > 1 else ""
            console.say(f"  SRK {number}{second}  {record.name} with {record.hash_name}, {flag}")


def ahab_fuse_values(one: FoundTable, chip: AhabChip, source: str) -> dict[str, object]:
    """Return everything as values for JSON. Raises `AhabError`."""
    sets = sets_of(one, chip)
    burnt = [(place, word) for _, value, places in sets for place, word in zip(places, words_of(value), strict=True)]
    return {
        "source": source,
        "of": one.of,
        "chip": certain_name(chip),
        "hash": chip.fuse_hash,
        "fuse_value": sets[0][1].hex(),
        "second_fuse_value": sets[1][1].hex() if len(sets) > 1 else None,
        "words": [
            {**place_values(number, places), "value": f"0x{word:X}"}
            for _, value, places in sets
            for number, word in enumerate(words_of(value))
        ],
        "commands": [command(place, word) for place, word in burnt],
        "nxpele": [nxpele(chip, place, word) for place, word in burnt if chip.name in _NXPELE],
        "warning": " ".join(WARNING.split()),
    }
