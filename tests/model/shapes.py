"""Random CSFs with real signatures: right ones of many shapes, and such that are wrong in one respect."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.model.keys import Owner, Pki, pki

KINDS = ("rsa2048", "p256", "p256", "p384")
BASE = 0x91FFC0
SIZE = 0x1800
ROOM = 0x2000
ENTRY = 0x40


@dataclass
class Install:
    """Install Key: `what` is a key's certificate, None for the SRK table."""

    what: Owner | None
    source: int
    target: int
    flags: int = 0
    protocol: int = 9
    algorithm: int = 0
    more: bytes = b""


@dataclass
class Authenticate:
    """Authenticate Data, or the CSF where there are no blocks and `index` is 1."""

    index: int
    by: Owner
    blocks: list[tuple[int, int]] = field(default_factory=list)
    engine: int = 0
    configuration: int = 0
    algorithm: str = "sha256"
    protocol: int = 0xC5
    flags: int = 0
    over: bytes | None = None


@dataclass
class Other:
    """Any other command."""

    tag: int
    parameter: int = 0
    body: bytes = b""


Command = Install | Authenticate | Other


@dataclass
class Case:
    """One CSF in the making, the image that it is for, and what was done to it."""

    keys: Pki
    source: int
    version: int
    commands: list[Command]
    image: bytearray
    fault: str = "none"
    fuses: bytes = b""
    table: bytes = b""
    boot_length: int = SIZE + ROOM
    spoil: Callable[[bytearray], None] | None = None

    def blob(self) -> bytes:
        """Commands, then what they point at, each on a multiple of four."""
        objects: dict[int, bytes] = {}
        for number, command in enumerate(self.commands):
            if isinstance(command, Install):
                content = self.table
                if command.what is not None:
                    content = _headed(0xD7, command.what.der, self.version)
                objects[number] = content
            elif isinstance(command, Authenticate) and command.blocks:
                data = command.over
                if data is None:
                    data = b"".join(self.memory(*block) or b"" for block in command.blocks)
                objects[number] = _headed(0xD8, command.by.cms(data, command.algorithm), self.version)
            elif isinstance(command, Authenticate):
                # The sizes of ECDSA signatures differ by some bytes, and offsets stand under this one.
                objects[number] = b""
        order = self._order(objects)
        area = self._area(objects)
        for number, command in enumerate(self.commands):
            if not objects.get(number, b"x"):
                assert isinstance(command, Authenticate)
                covered = area[: int.from_bytes(area[1:3], "big")] if command.over is None else command.over
                objects[number] = _headed(0xD8, command.by.cms(covered, command.algorithm), self.version)
        return area + b"".join(_padded(objects[number]) for number in order)

    @staticmethod
    def _order(objects: dict[int, bytes]) -> list[int]:
        """Signatures over the commands come last: their sizes are not known before."""
        return sorted(objects, key=lambda number: (not objects[number], number))

    def _area(self, objects: dict[int, bytes]) -> bytes:
        bodies = [_body(command) for command in self.commands]
        length = 4 + sum(len(start) + len(end) + 4 * (number in objects)
                         for number, (start, end) in enumerate(bodies))  # fmt: skip
        offsets, position = {}, length + -length % 4
        for number in self._order(objects):
            offsets[number] = position
            position += len(_padded(objects[number]))
        area = struct.pack(">BHB", 0xD4, length, self.version)
        for number, (start, end) in enumerate(bodies):
            area += start + (struct.pack(">I", offsets[number]) if number in objects else b"") + end
        return _padded(area) if length % 4 else area

    def memory(self, address: int, length: int) -> bytes | None:
        """What the ROM has loaded, before the CSF."""
        start = address - BASE
        if start < 0 or start + length > len(self.image):
            return None
        return bytes(self.image[start : start + length])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _headed(tag: int, content: bytes, version: int) -> bytes:
    return struct.pack(">BHB", tag, 4 + len(content), version) + content


def _body(command: Command) -> tuple[bytes, bytes]:
    """What stands before and behind the offset in a command."""
    if isinstance(command, Other):
        return struct.pack(">BHB", command.tag, 4 + len(command.body), command.parameter) + command.body, b""
    if isinstance(command, Install):
        fields = (command.flags, command.protocol, command.algorithm, command.source, command.target)
        return struct.pack(">BHBBBBB", 0xBE, 12 + len(command.more), *fields), command.more
    end = b"".join(struct.pack(">II", *block) for block in command.blocks)
    fields = (command.flags, command.index, command.protocol, command.engine, command.configuration)
    return struct.pack(">BHBBBBB", 0xCA, 12 + len(end), *fields), end


def image_of(chance: random.Random, boot_length: int = SIZE + ROOM) -> bytearray:
    """IVT, boot data, code."""
    head = b"\xd1\0\x20" + bytes([0x40 + chance.randrange(4)])
    head += struct.pack("<7I", BASE + ENTRY, 0, 0, BASE + 0x20, BASE, BASE + SIZE, 0)
    head += struct.pack("<3I", BASE, boot_length, 0)
    return bytearray(head.ljust(ENTRY, b"\0") + chance.randbytes(SIZE - ENTRY))


def right(chance: random.Random, keys: Pki | None = None, source: int | None = None) -> Case:
    """A CSF that keeps all rules, by these keys if they are given."""
    if keys is None:
        keys = pki(chance.choice(KINDS), fast=chance.random() < 0.25, number_of=chance.choice((1, 4)))
    fast = keys.fast
    if source is None:
        source = chance.randrange(len(keys.srks))
    if keys.hashed is None and chance.random() < 0.2 and len(keys.srks) > 1:
        keys = replace(keys, hashed=(source + 1) % len(keys.srks))
    case = Case(keys, source, chance.choice((0x40, 0x41, 0x43)), [], image_of(chance))
    case.fuses, case.table = keys.fuses, keys.table
    commands: list[Command] = [Install(None, source, 0, protocol=3, algorithm=0x17)]
    signer, slots = keys.srks[source], {0: keys.srks[source]}
    if not fast:
        commands.append(Install(keys.csfks[source], 0, 1, flags=2))
        signer = keys.csfks[source]
    if chance.random() < 0.2:
        commands.insert(chance.randrange(1, len(commands) + 1), Other(0xB1, 3, bytes([0, 0x17, 0x1D, 0])))
    commands.append(Authenticate(1, signer, engine=chance.choice((0, 0, 0x1D, 0xFF))))
    if chance.random() < 0.5:
        commands.append(chance.choice((Other(0xB2, 0x1D, b"\0\0\0\1"), Other(0xB4, 0x1D, b"\0\0\0\2"),
                                       Other(0xB2, 0x1E, b"\0\0\0\1"), Other(0xB2, 0x0C))))  # fmt: skip
    if not fast:
        commands += _image_keys(chance, keys, source, slots)
    usable = [(slot, owner) for slot, owner in slots.items() if fast or (slot and owner not in keys.middle)]
    commands += _data(chance, usable)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        commands.insert(chance.randrange(1, len(commands) + 1), Other(0xC0, chance.randrange(256)))
    case.commands = commands
    return case


def _image_keys(chance: random.Random, keys: Pki, source: int, slots: dict[int, Owner]) -> list[Command]:
    found: list[Command] = []
    free = chance.sample((2, 3, 4), 3)
    for number in range(chance.choice((1, 1, 1, 2))):
        slot, owner = free.pop(), keys.images[source][number]
        found.append(Install(owner, 0, slot))
        slots[slot] = owner
    if len(free) == 2 and chance.random() < 0.3:
        middle, low = free
        found += [Install(keys.middle[source], 0, middle), Install(keys.below[source], middle, low)]
        slots |= {middle: keys.middle[source], low: keys.below[source]}
    return found


def _data(chance: random.Random, usable: list[tuple[int, Owner]]) -> list[Command]:
    """The whole image in pieces, in any order, by one or more commands."""
    engine = chance.choice((0, 0, 0x1D, 0x1D, 0x1B, 0x06, 0xFF))
    most = {0x1D: 8, 0x1B: 6, 0x06: 12}.get(engine, 10)
    commands = chance.choice((1, 1, 1, 2, 3))
    cuts = sorted({ENTRY + 0x40 * chance.randrange(1, 0x50) for _ in range(chance.randrange(most))})
    ends = [0, *cuts, SIZE]
    pieces = [(BASE + start, end - start) for start, end in pairwise(ends)]
    chance.shuffle(pieces)
    count = min(commands, len(pieces))
    parts = [pieces[number::count] for number in range(count)]
    found: list[Command] = []
    for part in parts:
        slot, owner = chance.choice(usable)
        found.append(Authenticate(slot, owner, part, engine))
    return found
