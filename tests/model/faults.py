"""What may be wrong with a CSF: each is put into a right one, alone. Some turn out to be none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from tests.model.keys import pki
from tests.model.shapes import BASE, ENTRY, SIZE, Authenticate, Case, Command, Install, Other

Fault = Callable[[random.Random, Case], None]
FAULTS: dict[str, Fault] = {}


def fault(make: Fault) -> Fault:
    FAULTS[make.__name__] = make
    return make


def _data(case: Case) -> list[Authenticate]:
    return [one for one in case.commands if isinstance(one, Authenticate) and one.blocks]


def _csf(case: Case) -> Authenticate:
    return next(one for one in case.commands if isinstance(one, Authenticate) and not one.blocks)


def _installs(case: Case) -> list[Install]:
    return [one for one in case.commands if isinstance(one, Install)]


def _certificates(case: Case) -> list[Install]:
    return [one for one in _installs(case) if one.what is not None]


def _insert(chance: random.Random, case: Case, *commands: Command, before_csf: bool | None = None) -> None:
    """Somewhere, or before or behind Authenticate CSF; never before the SRK."""
    middle = case.commands.index(_csf(case))
    first, last = {True: (1, middle), False: (middle + 1, len(case.commands)), None: (1, len(case.commands))}[
        before_csf
    ]
    at = chance.randint(first, last)
    case.commands[at:at] = commands


def _more_images(case: Case) -> Install | None:
    return next((one for one in _certificates(case) if one.target > 1), None)


@fault
def order(chance: random.Random, case: Case) -> None:
    """Two commands change places."""
    first, second = chance.sample(range(len(case.commands)), 2) if len(case.commands) > 1 else (0, 0)
    case.commands[first], case.commands[second] = case.commands[second], case.commands[first]


@fault
def left_out(chance: random.Random, case: Case) -> None:
    """A command is missing."""
    case.commands.remove(chance.choice(case.commands))


@fault
def twice(chance: random.Random, case: Case) -> None:
    """A command comes again: the same key in its slot is no fault."""
    _insert(chance, case, chance.choice(case.commands))


@fault
def another_key_in_a_slot(chance: random.Random, case: Case) -> None:
    """One that is occupied."""
    one = _more_images(case)
    if one is not None:
        case.commands.append(replace(one, what=case.keys.images[case.source][2]))


@fault
def slot(chance: random.Random, case: Case) -> None:
    """Keys in slots that there are, and in others."""
    one = chance.choice(_installs(case))
    one.target = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 255))


@fault
def source(chance: random.Random, case: Case) -> None:
    """Another verification key, or another SRK of the table."""
    one = chance.choice(_installs(case))
    one.source = chance.choice((0, 1, 2, 3, 4, 5))


@fault
def used_key(chance: random.Random, case: Case) -> None:
    """Data are authenticated by another slot."""
    chance.choice(_data(case)).index = chance.choice((0, 1, 2, 3, 4, 5, 200))


@fault
def csf_by_another_slot(chance: random.Random, case: Case) -> None:
    """Only the CSF key authenticates commands."""
    _csf(case).index = chance.choice((0, 2, 3))


@fault
def signer(chance: random.Random, case: Case) -> None:
    """A signature by another key of the same PKI."""
    keys = case.keys
    one = chance.choice([one for one in case.commands if isinstance(one, Authenticate)])
    one.by = chance.choice([*keys.srks, *keys.csfks, *(key for keys_ in keys.images for key in keys_), *keys.middle])


@fault
def ca_key(chance: random.Random, case: Case) -> None:
    """A CA signs data."""
    one = _more_images(case)
    if one is None:
        return
    one.what, one.source = case.keys.middle[case.source], 0
    for data in _data(case):
        if data.index == one.target:
            data.by = one.what


@fault
def ca_csf_key(chance: random.Random, case: Case) -> None:
    """A CA signs the commands."""
    for one in _certificates(case):
        if one.target == 1:
            one.what = _csf(case).by = case.keys.middle[case.source]


@fault
def strangers_certificate(chance: random.Random, case: Case) -> None:
    """Below an SRK of somebody else."""
    if not _certificates(case):
        return
    other = pki("p256" if case.keys.kind != "p256" else "p384", fast=False, number_of=1)
    one = chance.choice(_certificates(case))
    one.what = other.csfks[0] if one.target == 1 else other.images[0][0]
    for command in case.commands:
        if isinstance(command, Authenticate) and command.index == one.target:
            command.by = one.what


@fault
def another_srks_certificate(chance: random.Random, case: Case) -> None:
    """Of the same table, but not the one that was chosen."""
    if not _certificates(case) or len(case.keys.srks) < 2:
        return
    other = (case.source + 1) % len(case.keys.srks)
    one = chance.choice(_certificates(case))
    one.what = case.keys.csfks[other] if one.target == 1 else case.keys.images[other][0]
    for command in case.commands:
        if isinstance(command, Authenticate) and command.index == one.target:
            command.by = one.what


@fault
def below_a_plain_key(chance: random.Random, case: Case) -> None:
    """A certificate verified by a key that is no CA."""
    one = _more_images(case)
    if one is not None:
        taken = {other.target for other in _installs(case)}
        free = next((slot for slot in (2, 3, 4) if slot not in taken), 4)
        case.commands.append(Install(case.keys.below[case.source], one.target, free))


@fault
def engine(chance: random.Random, case: Case) -> None:
    """Any engine for a signature."""
    one = chance.choice([one for one in case.commands if isinstance(one, Authenticate)])
    one.engine = chance.choice(
        (0x00, 0x03, 0x05, 0x06, 0x0A, 0x0C, 0x1B, 0x1D, 0x1E, 0x21, 0x22, 0x36, 0x24, 0xFF, 0x77)
    )


@fault
def configuration(chance: random.Random, case: Case) -> None:
    """An engine that swaps, or none that has a configuration."""
    one = chance.choice([one for one in case.commands if isinstance(one, Authenticate)])
    one.configuration = chance.choice((1, 2, 3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xFF))


@fault
def many_blocks(chance: random.Random, case: Case) -> None:
    """About as many as an engine takes."""
    one = chance.choice(_data(case))
    one.engine = chance.choice((0, 0x1D, 0x1D, 0x1B, 0x06, 0xFF))
    count = chance.choice((5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 20))
    edges = sorted(chance.sample(range(1, SIZE // 64), count - 1))
    ends = [0, *(64 * edge for edge in edges), SIZE]
    one.blocks = [(BASE + start, end - start) for start, end in pairwise(ends)]


@fault
def odd_blocks(chance: random.Random, case: Case) -> None:
    """Of lengths that are no multiples of 64, which DCP cannot take but at the end."""
    one = chance.choice(_data(case))
    one.engine = chance.choice((0x1B, 0x1B, 0x1D, 0))
    cut = ENTRY + 4 * chance.randrange(1, 0x100)
    one.blocks = [(BASE, cut), (BASE + cut, SIZE - cut)]


@fault
def something_bare(chance: random.Random, case: Case) -> None:
    """A piece of the image without a signature: the IVT, what it points to, or something else."""
    one = chance.choice(_data(case))
    if len(one.blocks) > 1:
        one.blocks.pop(chance.randrange(len(one.blocks)))
    else:
        address, length = one.blocks[0]
        cut = chance.choice((4, 0x20, 0x30, 0x40, 0x44))
        one.blocks = [chance.choice(((address + cut, length - cut), (address, cut)))]


@fault
def overlap(chance: random.Random, case: Case) -> None:
    """Bytes that are signed twice by one command."""
    one = chance.choice(_data(case))
    one.blocks.append((one.blocks[0][0], 4))


@fault
def empty_block(chance: random.Random, case: Case) -> None:
    """Of no bytes."""
    chance.choice(_data(case)).blocks.append((BASE + 0x100, 0))


@fault
def changed_image(chance: random.Random, case: Case) -> None:
    """A byte is another one than the one that was signed."""
    for one in _data(case):
        one.over = b"".join(case.memory(*block) or b"" for block in one.blocks)
    case.image[chance.randrange(ENTRY, SIZE)] ^= 1 << chance.randrange(8)


@fault
def changed_commands(chance: random.Random, case: Case) -> None:
    """The signature over the commands is over others."""
    _csf(case).over = b"something else"


@fault
def other_fuses(chance: random.Random, case: Case) -> None:
    """A table that is not the board's."""
    case.fuses = chance.randbytes(32)


@fault
def other_table(chance: random.Random, case: Case) -> None:
    """A byte of the table is another one; the fuses are the old one's."""
    table = bytearray(case.table)
    table[chance.randrange(8, len(table))] ^= 1 << chance.randrange(8)
    case.table = bytes(table)


@fault
def hashed_srk(chance: random.Random, case: Case) -> None:
    """The table has only a hash of the SRK that is chosen."""
    case.keys = replace(case.keys, hashed=case.source)
    case.table = case.keys.table


@fault
def flags(chance: random.Random, case: Case) -> None:
    """Any flag of a command."""
    one = chance.choice([one for one in case.commands if not isinstance(one, Other)])
    one.flags ^= 1 << chance.randrange(8)


@fault
def hash_algorithm(chance: random.Random, case: Case) -> None:
    """Any hash with a key."""
    chance.choice(_installs(case)).algorithm = chance.choice((0, 0x11, 0x17, 0x1B, 0x2B, 1))


@fault
def protocol(chance: random.Random, case: Case) -> None:
    """Any protocol with a key or a signature."""
    one = chance.choice([one for one in case.commands if not isinstance(one, Other)])
    one.protocol = chance.choice((0, 3, 9, 0xC5, 0xA3, 0xBB, 0x77))


@fault
def longer_install(chance: random.Random, case: Case) -> None:
    """With a hash behind that no flag tells of."""
    chance.choice(_installs(case)).more = bytes(chance.choice((4, 32)))


@fault
def digest(chance: random.Random, case: Case) -> None:
    """Another one than SHA-256."""
    one = chance.choice([one for one in case.commands if isinstance(one, Authenticate)])
    one.algorithm = chance.choice(("sha384", "sha512"))


@fault
def setting(chance: random.Random, case: Case) -> None:
    """Any item."""
    item = chance.choice((0, 1, 2, 3, 3, 3, 4, 5, 255))
    body = bytes([0, chance.choice((0, 0x11, 0x17, 0x1B, 0x2B)), chance.choice((0, 6, 0x1B, 0x1D, 0xFF, 0x1E)), 0])
    _insert(chance, case, Other(0xB1, item, chance.choice((body, body, body + body, b"", b"\1" + body[1:]))))


@fault
def early(chance: random.Random, case: Case) -> None:
    """What is not allowed before the commands are authenticated, or is."""
    command = chance.choice(
        (
            Other(0xB2, 0x1D, b"\0\0\0\1"),
            Other(0xB4, 0x1D, b"\0\0\0\2"),
            Other(0xB2, 0x0C),
            Other(0xB4, 0x0C),
            Other(0xCC, 4, bytes(8)),
            Other(0xCF, 4, bytes(12)),
            Other(0xC0, 0),
            Other(0xB1, 3, b"\0\x17\0\0"),
        )
    )
    _insert(chance, case, command, before_csf=True)


@fault
def late(chance: random.Random, case: Case) -> None:
    """Any command behind Authenticate CSF."""
    tag = chance.choice((0xC0, 0xB1, 0xB2, 0xB4, 0xCC, 0xCF, 0xC1, 0xD4))
    engine_ = chance.choice((0, 3, 4, 0x0C, 0x1B, 0x1D, 0x1E, 0x21, 0xFF))
    body = chance.choice((b"", b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\4", b"\0\0\1\1", bytes(8), bytes(12)))
    _insert(chance, case, Other(tag, engine_, body), before_csf=False)


@fault
def boot_data(chance: random.Random, case: Case) -> None:
    """An image that is loaded in part, or begins elsewhere."""
    length = chance.choice((0, 0x30, SIZE // 2, SIZE, SIZE + 0x20, SIZE + 0x400, SIZE + 0x2000))
    start = BASE + chance.choice((0, 0, 0, 0x40, -0x400, 0x200))
    case.image[0x20:0x28] = start.to_bytes(4, "little", signed=False) + length.to_bytes(4, "little")


@fault
def pointers(chance: random.Random, case: Case) -> None:
    """An IVT that leads elsewhere."""
    at = chance.choice((4, 12, 16, 20, 24))
    value = chance.choice(
        (0, BASE, BASE + 4, BASE + SIZE, BASE + SIZE - 2, BASE + SIZE + 0x2000, BASE - 0x40, 0xFFFFFFFC)
    )
    case.image[at : at + 4] = value.to_bytes(4, "little")


@fault
def version(chance: random.Random, case: Case) -> None:
    """Of the CSF."""
    case.version = chance.choice((0x00, 0x3F, 0x30, 0x42, 0x45, 0x4F, 0x50, 0xFF))


@fault
def damaged(chance: random.Random, case: Case) -> None:
    """A bit of the blob is another one."""
    place, bit = chance.random(), chance.randrange(8)

    def spoil(blob: bytearray) -> None:
        blob[int(place * len(blob))] ^= 1 << bit

    case.spoil = spoil


@fault
def damaged_commands(chance: random.Random, case: Case) -> None:
    """A bit of the commands is another one."""
    place, bit = chance.random(), chance.randrange(8)

    def spoil(blob: bytearray) -> None:
        blob[int(place * int.from_bytes(blob[1:3], "big"))] ^= 1 << bit

    case.spoil = spoil
