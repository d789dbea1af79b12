"""Whether a board would boot a whole image: each CSF as the boot ROM, SPL and U-Boot judge it, and what none covers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from digsigd import hab
from digsigd.hab import csf
from digsigd.hab.cms import HASHES
from digsigd.image.plan import Buffer, Plan, Signing

_CHUNK = 1 << 20
# Engines and features of Unlock: HABv4 API Reference Manual, "Engine plugin tags" and "Unlock", as cst writes them.
_CAAM = 0x1D
_ENGINES = {_CAAM: "CAAM", 0x1E: "SNVS", 0x21: "OCOTP", 0x0C: "SRTC"}
_CAAM_FEATURES = {1: "MID", 2: "RNG", 4: "MFG"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that holds or does not; None where it could not be tried, since one before it did not hold."""

    what: str
    holds: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CsfReport:
    """What was found where a CSF belongs. `blocks` are what its signatures go over, where in the file that is.

    `length` is 0 where there is no CSF, `proven` None unless all of it holds. `srk_table` is the table in it.
    """

    signing: Signing
    length: int
    checks: tuple[Check, ...]
    blocks: tuple[hab.Block, ...]
    proven: hab.Verified | None
    srk_table: bytes | None = None

    @property
    def holds(self) -> bool:
        """Whether the board accepts it."""
        return self.proven is not None and all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes at `offset` that are alike: under a signature, a CSF itself, or neither ("open").

    `must` says that the board uses them, so that "open" is wrong.
    """

    offset: int
    length: int
    state: str
    must: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is to be known of an image. `fuse_value` is what its boards must have, None if no CSF says."""

    plan: Plan
    csfs: tuple[CsfReport, ...]
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]
    fuse_value: bytes | None

    @property
    def holds(self) -> bool:
        """Whether everything does: only then does a closed board boot the image."""
        return all(check.holds for check in self.checks) and all(one.holds for one in self.csfs)


def verify(
    data: Buffer,
    plan: Plan,
    *,
    fuse_value: bytes | None = None,
    srk_table: bytes | None = None,
    now: datetime | None = None,
) -> Report:
    """Verify a signed image that `plan` is of. `fuse_value` and `srk_table` are what the boards have, where known.

    What does not hold is in the report; nothing is raised for an image's contents.
    """
    csfs = tuple(_one(data, signing, fuse_value, srk_table, now) for signing in plan.signings)
    tables = {one.srk_table for one in csfs if one.srk_table is not None}
    fuses = {hab.SrkTable.parse(table).fuse_value for table in tables}
    signed = _union((block.offset, block.end) for one in csfs if one.holds for block in one.blocks)
    stored = _union((one.signing.csf_offset, one.signing.csf_offset + one.length) for one in csfs)
    must = _union((offset, offset + length) for offset, length in plan.must)
    spans = _spans(plan, len(data), signed, stored, must)
    checks = [] if plan.signings else [Check("something to verify", False, "nothing in it is signed")]
    if plan.patches:
        checks.append(Check("complete", False, "; ".join(f"{one.why} at {one.offset:#x}" for one in plan.patches)))
    if len(fuses) > 1:
        checks.append(Check("one SRK table", False, "the CSFs have different ones; a board has fuses for one"))
    elif fuses:
        checks.append(Check("one SRK table", True, f"fuse value {next(iter(fuses)).hex()}"))
    bare = [span for span in spans if span.must and span.state == "open"]
    detail = ", ".join(f"{_named(plan, span)} {span.offset:#x}+{span.length:#x}" for span in bare[:8])
    checks.append(Check("all that the board runs is signed", not bare, f"not covered: {detail}" if bare else ""))
    return Report(plan, csfs, tuple(checks), spans, next(iter(fuses)) if len(fuses) == 1 else None)


class _Memory:
    """Where in the file the bytes are that stand at an address when a board checks one CSF.

    Of other parts of the image nothing is known then: the boot ROM checks the SPL's when only that is loaded.
    """

    def __init__(self, data: Buffer, signing: Signing) -> None:
        self._data = data
        ivt = signing.ivt
        end = min(signing.csf_offset + signing.csf_room, len(data))
        # (address, offset, length): blocks first, then what lies between the IVT and the end of its CSF.
        self._pieces = [(block.address, block.offset, block.length) for block in signing.blocks]
        self._pieces.append((ivt.self_address, ivt.offset, end - ivt.offset))

    def find(self, address: int, length: int) -> list[hab.Block] | None:
        """The file's parts that these bytes are, in order; None where some are of no known place."""
        found: list[hab.Block] = []
        while length > 0:
            piece = next((one for one in self._pieces if one[0] <= address < one[0] + one[2]), None)
            if piece is None:
                return None
            start, offset, size = piece
            count = min(length, start + size - address)
            block = hab.Block(address, offset + address - start, count)
            if found and found[-1].end == block.offset:
                # One block of the CSF may go over several parts of the image.
                block = hab.Block(found[-1].address, found[-1].offset, found[-1].length + count)
                found.pop()
            found.append(block)
            address += count
            length -= count
        return found

    def digest(self, algorithm: str, blocks: Iterable[hab.Block]) -> bytes:
        """The digest over the contents of blocks, one after the other."""
        digest = hashlib.new(algorithm)
        for block in blocks:
            for start in range(block.offset, block.end, _CHUNK):
                digest.update(self._data[start : min(start + _CHUNK, block.end)])
        return digest.digest()


def _one(
    data: Buffer,
    signing: Signing,
    fuse_value: bytes | None,
    srk_table: bytes | None,
    now: datetime | None,
) -> CsfReport:
    room = data[signing.csf_offset : signing.csf_offset + signing.csf_room]
    if not any(room):
        return CsfReport(signing, 0, (Check("CSF", False, "there is none: the image is not signed"),), (), None)
    try:
        blob = room[: hab.blob_length(room)]
        parsed = hab.CsfBlob.parse(blob)
    except hab.FormatError as error:
        return CsfReport(signing, 0, (Check("CSF", False, str(error)),), (), None)
    checks = [Check("CSF", True, f"{len(blob)} bytes at {signing.csf_offset:#x}, room for {signing.csf_room:#x}")]
    table, pieces, failed, proven = None, [], None, None
    memory = _Memory(data, signing)
    try:
        table, source = _table(parsed)
        digests, expected = [], []
        for wanted in hab.wanted(blob):
            found = []
            for address, length in wanted.blocks:
                part = memory.find(address, length)
                if part is None:
                    raise hab.VerificationError(
                        "blocks", f"{address:#x}+{length:#x} is signed, which is no place of this image in memory"
                    )
                found += part
            if wanted.algorithm not in HASHES:
                raise hab.VerificationError("data-signature", f"it uses {wanted.algorithm}")
            pieces += found
            digests.append(memory.digest(wanted.algorithm, found))
            expected.append([hab.Block(address, 0, length) for address, length in wanted.blocks])
        if srk_table is not None and table != srk_table:
            raise hab.VerificationError("srk-table", "its SRK table is not the one that was given")
        proven = hab.verify(
            blob,
            srk_table=table,
            expected_blocks=expected,
            source_index=source,
            digests=digests,
            fuse_value=fuse_value,
            now=now,
        )
    except hab.HabError as error:
        failed = error
    checks += _commands(parsed, failed)
    if failed is None:
        checks += [_whole(signing, pieces), _layout(data, pieces)]
    return CsfReport(signing, len(blob), tuple(checks), tuple(pieces), proven, table)


def _table(parsed: hab.CsfBlob) -> tuple[bytes, int]:
    """The SRK table in a blob, and the index of the SRK that it takes."""
    for command in parsed.commands:
        if isinstance(command, csf.InstallKey) and command.protocol == csf.SRK_TABLE:
            table = parsed.object_at(command)
            hab.SrkTable.parse(table)
            return table, command.source
    raise hab.VerificationError("srk-table", "it installs no SRK")


def _whole(signing: Signing, pieces: Sequence[hab.Block]) -> Check:
    """Whether it covers all that is under this CSF: what another one covers, nobody checks when this part is run."""
    signed = _union((piece.offset, piece.end) for piece in pieces)
    bare = [
        block
        for block in signing.blocks
        if not any(start <= block.offset and block.end <= end for start, end in signed)
    ]
    detail = ", ".join(f"{block.offset:#x}+{block.length:#x}" for block in bare[:8])
    return Check("all of this part is signed", not bare, f"not covered: {detail}" if bare else "")


def _layout(data: Buffer, pieces: Sequence[hab.Block]) -> Check:
    """What the ROM needs besides signatures: that they cover the IVT, and what it points at."""
    try:
        found = hab.check_layout([pieces], [hab.File.of(data)])
    except hab.HabError as error:
        return Check("what the IVT points at is signed", False, str(error))
    places = ", ".join(f"{ivt.offset:#x}" for ivt in found.ivts)
    return Check("what the IVT points at is signed", True, f"IVT at {places}")


def _commands(parsed: hab.CsfBlob, failed: hab.HabError | None) -> list[Check]:
    """A check for each command, and one for what shows only in all of them."""
    stop = len(parsed.commands) if failed is None or failed.command is None else failed.command
    checks = []
    for number, command in enumerate(parsed.commands):
        what, detail = describe(parsed, command)
        if failed is not None and number == stop:
            checks.append(Check(what, False, str(failed)))
        else:
            holds = None if number > stop or (failed is not None and failed.command is None) else True
            checks.append(Check(what, holds, detail))
    if failed is not None and failed.command is None:
        checks.append(Check("the CSF as a whole", False, str(failed)))
    return checks


def describe(parsed: hab.CsfBlob, command: csf.Command) -> tuple[str, str]:
    """A command's name as CSF descriptions have it, and what it does."""
    if isinstance(command, csf.OtherCommand):
        return csf.NAMES[command.tag], _engine(command)
    if isinstance(command, csf.Authenticate):
        if not command.blocks:
            return "Authenticate CSF", f"{parsed.header_length} bytes of commands"
        size = sum(length for _, length in command.blocks)
        return "Authenticate Data", f"{size} bytes in {len(command.blocks)} blocks by key {command.key}"
    if command.protocol == csf.SRK_TABLE:
        return "Install SRK", f"SRK {command.source + 1} of the table"
    name = "Install CSFK" if command.flags == csf.INSTALL_CSFK_FLAG else f"Install Key {command.target}"
    return name, hab.subject_of(parsed.object_at(command)[4:])


def _engine(command: csf.OtherCommand) -> str:
    """What an Unlock is for."""
    if command.tag != csf.UNLOCK or len(command.body) < 4:
        return ""
    engine = _ENGINES.get(command.parameter, f"engine {command.parameter:#x}")
    bits = int.from_bytes(command.body[:4])
    if command.parameter != _CAAM:
        return f"{engine} {bits:#x}"
    return " ".join([engine, *(name for bit, name in _CAAM_FEATURES.items() if bits & bit)])


def _named(plan: Plan, span: Span) -> str:
    for region in plan.regions:
        if region.offset <= span.offset < region.end:
            return region.name
    return "bytes"


def _union(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) pairs in order, without overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(one for one in parts if one[0] < one[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _within(parts: Sequence[tuple[int, int]], offset: int) -> bool:
    return any(start <= offset < end for start, end in parts)


def _spans(
    plan: Plan,
    size: int,
    signed: Sequence[tuple[int, int]],
    stored: Sequence[tuple[int, int]],
    must: Sequence[tuple[int, int]],
) -> tuple[Span, ...]:
    edges = {0, size}
    for start, end in (*signed, *stored, *must, *((one.offset, one.end) for one in plan.regions)):
        edges |= {min(start, size), min(end, size)}
    spans = []
    ordered = sorted(edges)
    for start, end in pairwise(ordered):
        state = "signed" if _within(signed, start) else "csf" if _within(stored, start) else "open"
        spans.append(Span(start, end - start, state, _within(must, start)))
    return tuple(spans)
