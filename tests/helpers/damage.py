"""Golden images that were damaged, for the tests and the fuzzer: small ones, and where in them it hurts."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

from tests.helpers import golden


@dataclass(frozen=True)
class Seed:
    """A good image, how it is planned, and the parts of it that are read: (offset, length)."""

    name: str
    data: bytes
    load_address: int | None
    read: tuple[tuple[int, int], ...]


@functools.cache
def seeds() -> tuple[Seed, ...]:
    """One of each layout."""
    found = []
    for soc, layout, boot, hdmi in (
        ("mm", "nxp-new", "sd", False),
        ("mm", "nxp-old", "sd", False),
        ("mp", "nxp-hash", "flexspi", False),
        ("mq", "nxp-new", "sd", True),
        ("mn", "u-boot", "sd", False),
        ("mm", "binman", "sd", False),
    ):
        data = golden.flash(soc, layout, boot=boot, hdmi=hdmi)
        at = golden.fit_offset(soc, boot) if layout != "binman" else 0x57C00
        spl = 0x1A000 if hdmi else 0x1000 if boot == "flexspi" else 0
        size = golden.tree_size(data[at:])
        ivt = at + golden.aligned(size, 0x1000)
        csf = struct.unpack_from("<I", data, spl + 0x18)[0] - struct.unpack_from("<I", data, spl + 0x14)[0] + spl
        tree = (at, min(size, 0x500))
        read = ((spl, 0x30), tree, (ivt, 0x28), (ivt + 0x2000, 0x28), (csf - 0x60, 0x68), (0, 0x30))
        found.append(Seed(f"{soc}-{layout}-{boot}", data, None, read))
    found.append(Seed("spl", golden.spl("mp"), None, ((0, 0x30),)))
    fit = golden.fit_ivt("mm")
    found.append(Seed("fit", fit, None, ((0, golden.tree_size(fit)), (0x1000, 0x28), (0x3000, 0x28))))
    bare = golden.itb("mm", external=0x3000)
    found.append(Seed("fit without an IVT", bare, 0x401FCDC0, ((0, golden.tree_size(bare)), (0x1000, 0x28))))
    found.append(Seed("kernel", golden.kernel(), 0x40480000, ((0, 0x40),)))
    found.append(Seed("kernel with an IVT", golden.kernel_with_ivt(), None, ((0, 0x40), (0x210000, 0x20))))
    return tuple(found)


def damaged(seed: Seed, edits: list[tuple[int, int, bytes]], end: int | None) -> bytes:
    """The image with bytes written into the parts that are read: (part, offset in it, bytes); then cut."""
    data = bytearray(seed.data)
    for part, offset, change in edits:
        start, length = seed.read[part % len(seed.read)]
        place = start + offset % length
        data[place : place + len(change)] = change
    return bytes(data[:end]) if end is not None else bytes(data)
