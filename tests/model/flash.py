"""SPL and FIT in one image: the ROM keeps the keys of the SPL's CSF, and the FIT's meets them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.model import fits, shapes
from tests.model.fits import Fit
from tests.model.rom import Refused, Rom
from tests.model.shapes import BASE, ROOM, SIZE, Authenticate, Case, Install

# imx-mkimage, i.MX8M Mini on SD or eMMC: where the FIT is in flash.bin.
PLACE = 0x57C00


@dataclass
class Flash:
    """Both parts."""

    spl: Case
    fit: Fit
    fault: str = "none"

    def file(self) -> bytes:
        head = bytes(self.spl.image) + self.spl.blob().ljust(ROOM, b"\0")
        return head.ljust(PLACE, b"\0") + self.fit.file()


def right(chance: random.Random) -> Flash:
    """One table, one SRK, and one key for each slot."""
    spl = shapes.right(chance)
    fit = fits.right(chance)
    case = shapes.right(chance, spl.keys, spl.source)
    installed = {one.target: one for one in spl.commands if isinstance(one, Install)}
    for one in case.commands:
        if isinstance(one, Install) and one.target in installed:
            _exchange(case, one, installed[one.target])
    fit.case = case
    return Flash(spl, fit)


def _exchange(case: Case, one: Install, other: Install) -> None:
    """The FIT's CSF has in this slot what the SPL's has."""
    one.what, one.source = other.what, other.source
    if one.what is None:
        return
    for command in case.commands:
        if isinstance(command, Authenticate) and command.index == one.target:
            command.by = one.what
    if one.what in case.keys.middle or one.what in case.keys.below:
        # As the SPL's: the key that verified it is there already. A CA signs no data.
        usable = next(owner for owner in case.keys.images[case.source])
        for command in case.commands:
            if isinstance(command, Authenticate) and command.index == one.target:
                command.by = usable if one.what in case.keys.middle else one.what


def another_key(chance: random.Random, flash: Flash) -> None:
    """In a slot that the SPL's CSF has filled, or in a free one."""
    case = flash.fit.case
    found = [one for one in case.commands if isinstance(one, Install) and one.target > 1]
    if not found:
        return
    one = chance.choice(found)
    one.what, one.source = case.keys.images[case.source][2], 0
    for command in case.commands:
        if isinstance(command, Authenticate) and command.index == one.target:
            command.by = one.what


def another_srk(chance: random.Random, flash: Flash) -> None:
    """Of the same table: SRK 1 for the SPL and SRK 2 for the FIT."""
    keys = replace(flash.spl.keys, hashed=None)
    if len(keys.srks) > 1:
        flash.fit.case = shapes.right(chance, keys, (flash.spl.source + 1) % len(keys.srks))
        flash.spl.keys, flash.spl.table = keys, keys.table


def other_keys(chance: random.Random, flash: Flash) -> None:
    """Of another table, each right alone."""
    flash.fit.case = shapes.right(chance)


def changed_spl(chance: random.Random, flash: Flash) -> None:
    """A byte of it is another one than the one that was signed."""
    for one in flash.spl.commands:
        if isinstance(one, Authenticate) and one.blocks:
            one.over = b"".join(flash.spl.memory(*block) or b"" for block in one.blocks)
    flash.spl.image[chance.randrange(0x40, SIZE)] ^= 1


def fit_alone(chance: random.Random, flash: Flash) -> None:
    """The FIT is wrong, in any way that one may be."""
    fits.FAULTS[chance.choice(sorted(set(fits.FAULTS) - {"other_keys"}))](chance, flash.fit)


FAULTS: dict[str, Callable[[random.Random, Flash], None]] = {
    one.__name__: one for one in (another_key, another_srk, other_keys, changed_spl, fit_alone)
}


def board(flash: Flash, file: bytes) -> tuple[str | None, list[str]]:
    """Why a board refuses it: the ROM the SPL, or SPL the FIT."""
    rom = Rom(flash.spl.fuses, flash.spl.memory)
    try:
        start, length = (int.from_bytes(flash.spl.image[at : at + 4], "little") for at in (0x20, 0x24))
        blob = file[SIZE : SIZE + ROOM]
        rom.authenticate_image(BASE, start, length, BASE + SIZE, blob)
    except Refused as error:
        return f"SPL: {error}", rom.unsaid
    why, unsaid = fits.board(flash.fit, file[PLACE:], rom)
    return why, rom.unsaid + unsaid
