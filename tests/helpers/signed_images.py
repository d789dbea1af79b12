"""Whole images with valid CSFs that are made here: as cst makes them, or with what it would not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from digsigd import hab
from digsigd.image.errors import ImageError
from digsigd.image.model import Plan
from digsigd.image.model import Signing as Part
from digsigd.image.plan import plan
from digsigd.image.report import Report
from digsigd.image.verify import verify
from tests.helpers.forge import Named, Piece, authenticate, cms, forge, install, install_srk, named, other

UNLOCK_MID = other(0xB2, 0x1D, bytes([0, 0, 0, 1]))
_MOST_BLOCKS = 8


@dataclass(frozen=True)
class Keys:
    """The keys of a CSF: SRK number `source` + 1 of a table, and CSF and IMG keys below it."""

    table: bytes
    srk: Named
    csf: Named
    img: Named
    source: int = 0


def _keys(count: int = 2) -> list[Keys]:
    srks = [named(f"SRK{n}", ca=True) for n in range(1, count + 1)]
    table = hab.build_srk_table([srk.certificate for srk in srks])
    return [
        Keys(table, srk, named(f"CSF{n}", srk, serial=10 + n), named(f"IMG{n}", srk, serial=20 + n), n - 1)
        for n, srk in enumerate(srks, 1)
    ]


KEYS, OTHER_KEYS = _keys()


@dataclass(frozen=True)
class Maker:
    """How the CSF of a part is made: with which keys, and which commands before and after its Authenticate Data."""

    keys: Keys = KEYS
    before: tuple[Piece, ...] = ()
    after: tuple[Piece, ...] = ()
    blocks: Callable[[Part], Sequence[hab.Block]] | None = field(default=None)

    def blob(self, data: bytes, part: Part) -> bytes:
        """The CSF for this part of the file."""
        keys = self.keys
        blocks = list(part.blocks if self.blocks is None else self.blocks(part))
        pieces = [
            install_srk(keys.table, keys.source),
            install(keys.csf.der, 0, 1, flags=2),
            authenticate(1, lambda area: cms(area, keys.csf)),
            *self.before,
            install(keys.img.der, 0, 2),
        ]
        for start in range(0, len(blocks), _MOST_BLOCKS):
            some = blocks[start : start + _MOST_BLOCKS]
            content = b"".join(data[block.offset : block.end] for block in some)
            pieces.append(
                authenticate(
                    2,
                    lambda _, content=content: cms(content, keys.img),  # type: ignore[misc]
                    *((block.address, block.length) for block in some),
                )
            )
        return forge(*pieces, *self.after)


PLAIN = Maker()


def signed(data: bytes, found: Plan | None = None, makers: Mapping[str, Maker | None] | None = None) -> bytes:
    """The image with a CSF for each part; `makers` are for parts by their names, None to leave one out."""
    found = plan(data) if found is None else found
    whole = bytearray(data if found.tail is None else data[: found.tail.offset])
    for patch in found.patches:
        whole[patch.offset : patch.offset + len(patch.data)] = patch.data
    for part in found.signings:
        maker = (makers or {}).get(part.name, PLAIN)
        blob = b"" if maker is None else maker.blob(bytes(whole), part)
        assert len(blob) <= part.csf_room
        whole[part.csf_offset : part.csf_offset + part.csf_room] = blob.ljust(part.csf_room, b"\0")
    if found.tail is not None:
        whole += found.tail.data
    return bytes(whole)


def judged(data: bytes, *, fdt_signature: bool = False, configuration: str | None = None) -> Report | str:
    """The report on an image, or why it is none."""
    try:
        found = plan(data, fdt_signature=fdt_signature, configuration=configuration)
    except ImageError as error:
        return f"{error.what} | {error.hint}"
    return verify(data, found, srk_table=KEYS.table)


def holds(data: bytes) -> bool:
    """Whether `digsign verify` says so."""
    report = judged(data)
    return isinstance(report, Report) and report.holds


def failing(report: Report | str) -> list[str]:
    """What does not hold, in words."""
    if isinstance(report, str):
        return [report]
    checks = [*report.checks, *(check for one in report.csfs if not one.excuse for check in one.checks)]
    return [f"{check.what}: {check.detail}" for check in checks if not check.holds]
