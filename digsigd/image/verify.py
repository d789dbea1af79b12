"""Verify that a board would boot a whole image: check each CSF as the board does, and find unsigned bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from digsigd import hab
from digsigd.hab import csf_blob
from digsigd.hab.keystore import CSFK_INDEX, SRK_INDEX
from digsigd.image.chip_support import check_chips
from digsigd.image.commands import describe, is_secret, keys_of, refused_by_u_boot
from digsigd.image.model import Buffer, Plan, Signing
from digsigd.image.report import Check, CsfReport, Report, Span, named, spans_of, union
from digsigd.image.sdp import Overlaid, with_pointer

__all__ = ["Check", "CsfReport", "Report", "Span", "verify"]

_CHUNK = 1 << 20
_NONE = "missing: the image is not signed"
_U_BOOT = "U-Boot refuses a CSF with this command"
_OPTIONAL = "only SPLs with CONFIG_IMX_SPL_FIT_FDT_SIGNATURE check it, others compare the hash of the FIT's tree"


def verify(
    data: Buffer,
    plan: Plan,
    *,
    fuse_value: bytes | None = None,
    srk_table: bytes | None = None,
    now: datetime | None = None,
) -> Report:
    """Return the report on a signed image, whose plan is `plan`.

    `fuse_value` (32 bytes) and `srk_table` are those of the boards, if known; with `now`, certificates must be valid at
    that time. Checks that fail are in the report: nothing is raised for an image's contents.
    """
    given = _Given(fuse_value, srk_table, now)
    report = _verified(data, plan, given)
    other = with_pointer(plan) if not report.holds else None
    if other is not None and (unchanged := _verified(data, other, given)).holds:
        return unchanged
    return report


@dataclass(frozen=True, slots=True)
class _Given:
    """What the caller of `verify` passes besides the image."""

    fuse_value: bytes | None
    srk_table: bytes | None
    now: datetime | None


def _verified(data: Buffer, plan: Plan, given: _Given) -> Report:
    if plan.masks:
        data = Overlaid(data, plan.masks)
    csfs: list[CsfReport] = []
    for signing in plan.signings:
        judge = _Judge(data, signing, given, encrypted=bool(plan.encrypted))
        one = judge.report((signing,))
        if signing.optional and not one.holds:
            one = _excused(one, judge.report(plan.signings))
        csfs.append(one)
    tables = {one.srk_table for one in csfs if one.srk_table is not None}
    fuses = {hab.SrkTable.parse(table).fuse_value for table in tables}
    signed = union((block.offset, block.end) for one in csfs if one.accepted for block in one.blocks)
    stored = union((one.signing.csf_offset, one.signing.csf_offset + one.length) for one in csfs)
    foreign = union((offset, offset + length) for offset, length in plan.foreign)
    secret = union((block.offset, block.end) for one in csfs if one.accepted for block in one.secret)
    states = (("secret", secret), ("signed", signed), ("csf", stored), ("foreign", foreign))
    spans = spans_of(plan, len(data), states)
    checks = [] if plan.signings else [Check("something to verify", False, "no part of the image has a signature")]
    if plan.patches:
        checks.append(Check("complete", False, "; ".join(f"{one.why} at {one.offset:#x}" for one in plan.patches)))
    if plan.encrypted:
        checks.append(Check("all of it can be read here", None, "; ".join(plan.encrypted)))
    if len(fuses) > 1:
        checks.append(Check("one SRK table", False, "the CSFs have different tables, but a board has fuses for one"))
    elif fuses:
        checks.append(Check("one SRK table", True, f"fuse value {next(iter(fuses)).hex()}"))
    if len(csfs) > 1:
        checks.append(_one_key_store(csfs))
    if plan.possible:
        for one in (found for found in csfs if found.accepted):
            blob = data[one.signing.csf_offset : one.signing.csf_offset + one.length]
            checks.append(check_chips(one, blob, plan.possible))
    bare = [span for span in spans if span.must and span.state == "open"]
    detail = ", ".join(f"{named(plan, span)} {span.offset:#x}+{span.length:#x}" for span in bare[:8])
    what, why = "all that the board runs is signed", f"not covered: {detail}" if bare else ""
    checks.append(Check(what, not bare, why, meaning="unsigned"))
    return Report(plan, tuple(csfs), tuple(checks), spans, next(iter(fuses)) if len(fuses) == 1 else None)


def _excused(alone: CsfReport, with_images: CsfReport) -> CsfReport:
    """Excuse an optional CSF that is missing, or covers what nxp-cst-signer makes it cover."""
    if alone.checks[0].detail == _NONE:
        return replace(alone, excuse=f"missing; {_OPTIONAL}")
    if with_images.holds:
        # imx_signer.c, create_csf_file_v1: the blocks of the CSF before this one are still in its list.
        return replace(
            with_images,
            excuse=f"it covers images that SPL has not loaded yet when it checks this CSF, so it fails; {_OPTIONAL}",
        )
    return alone


def _one_key_store(csfs: Sequence[CsfReport]) -> Check:
    """Check that no CSF installs a different key in a slot that an earlier CSF has filled: keys stay installed.

    HABv4 API Reference Manual, 3.1 "Entry" and 3.13 "Exit" (the key store is kept between them), 3.8 "Run CSF" (an SRK
    or CSF key is installed unless there is one), 4.3.7 "Install Key" (HAB_INV_INDEX: the target index is unavailable).
    """
    what = "one set of keys"
    slots: dict[int, tuple[bytes, str]] = {}
    for one in csfs:
        if one.proven is None:
            continue
        for slot, key in one.keys:
            held, by = slots.setdefault(slot, (key, one.signing.name))
            if held != key:
                kind = {SRK_INDEX: "SRK", CSFK_INDEX: "CSF key"}.get(slot, f"key {slot}")
                return Check(
                    what,
                    False,
                    f"the {kind} of the {one.signing.name} differs from that of the {by}: HAB keeps the first and"
                    " refuses the second",
                )
    return Check(what, True)


class _Memory:
    """Maps addresses to the file, for the parts that are in memory when a board checks a CSF.

    Other parts of the image are not in memory then: the boot ROM checks the SPL's CSF when only the SPL is loaded.
    """

    def __init__(self, data: Buffer, signings: Sequence[Signing]) -> None:
        self._data = data
        # (address, offset, length): blocks first, then what is loaded with the IVTs.
        self._pieces = [(block.address, block.offset, block.length) for one in signings for block in one.blocks]
        places = [one.ivt.offset_of(one.ivt.dcd) for one in signings if one.ivt.dcd]
        self._dcds = {int.from_bytes(data[place + 1 : place + 3], "big") for place in places if place >= 0}
        for one in signings:
            start, end = one.ivt.offset, min(one.csf_offset + one.csf_room, len(data))
            if one.by_rom:
                # The ROM may also load what is in front: binman signs the FlexSPI configuration with the SPL.
                place = one.ivt.offset_of(one.ivt.boot_data)
                start = max(0, one.ivt.offset_of(int.from_bytes(data[place : place + 4], "little")))
            self._pieces.append((one.ivt.base + start, start, end - start))

    def needed(self, address: int, length: int) -> list[hab.Block]:
        """Return the parts of the file that these bytes are, in order. Raises `VerificationError` if unknown."""
        found: list[hab.Block] = []
        wanted = f"{address:#x}+{length:#x}"
        while length > 0:
            piece = next((one for one in self._pieces if one[0] <= address < one[0] + one[2]), None)
            if piece is None:
                hint = f"; it is as long as the DCD: try --sdp {address:#x}" if length in self._dcds else ""
                raise hab.VerificationError(
                    "blocks", f"{wanted} is signed, but no part of this image is there in memory{hint}"
                )
            start, offset, size = piece
            count = min(length, start + size - address)
            block = hab.Block(address, offset + address - start, count)
            if found and found[-1].end == block.offset:
                # One block of the CSF can cover several parts of the image.
                block = hab.Block(found[-1].address, found[-1].offset, found[-1].length + count)
                found.pop()
            found.append(block)
            address += count
            length -= count
        return found

    def digest(self, algorithm: str, blocks: Iterable[hab.Block]) -> bytes:
        """Return the digest over the contents of the blocks, in their order."""
        digest = hashlib.new(algorithm)
        for block in blocks:
            for start in range(block.offset, block.end, _CHUNK):
                digest.update(self._data[start : min(start + _CHUNK, block.end)])
        return digest.digest()


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges the CSF of one part as the board does."""

    data: Buffer
    signing: Signing
    given: _Given
    encrypted: bool

    def report(self, present: Sequence[Signing]) -> CsfReport:
        """Return what holds when the parts in `present` are in memory."""
        signing = self.signing
        room = self.data[signing.csf_offset : signing.csf_offset + signing.csf_room]
        if not room.strip(b"\0\xff"):
            return CsfReport(signing, 0, (Check("CSF", False, _NONE),), (), None)
        try:
            blob = room[: hab.blob_length(room)]
            parsed = hab.CsfBlob.parse(blob)
        except hab.FormatError as error:
            return CsfReport(signing, 0, (Check("CSF", False, str(error)),), (), None)
        pieces: list[list[hab.Block]] = []
        secret: list[hab.Block] = []
        table, failed, proven = None, None, None
        memory = _Memory(self.data, present)
        try:
            table, source = _table(parsed)
            secret += [block for part in _secret(parsed) for block in memory.needed(*part)]
            digests, expected = [], []
            for wanted in hab.wanted(blob):
                found = [block for part in wanted.blocks for block in memory.needed(*part)]
                pieces.append(found)
                digests.append(memory.digest(wanted.algorithm, found))
                expected.append([hab.Block(address, 0, length) for address, length in wanted.blocks])
            if self.given.srk_table is not None and table != self.given.srk_table:
                raise hab.VerificationError("srk-table", "its SRK table differs from the given one")
            proven = hab.verify(
                blob,
                srk_table=table,
                expected_blocks=expected,
                source_index=source,
                digests=digests,
                fuse_value=self.given.fuse_value,
                now=self.given.now,
                encrypted_ok=self.encrypted,
            )
        except hab.HabError as error:
            failed = error
        checks = [Check("CSF", True, f"{len(blob)} bytes at {signing.csf_offset:#x}, room for {signing.csf_room:#x}")]
        checks += _commands(parsed, failed, by_rom=signing.by_rom)
        blocks = tuple(block for part in pieces for block in part)
        if failed is None:
            layout = [*pieces, secret] if secret else pieces
            checks += [_whole(signing, (*blocks, *secret)), _layout(self.data, layout)]
        return CsfReport(signing, len(blob), tuple(checks), blocks, proven, table, keys_of(parsed), tuple(secret))


def _secret(parsed: hab.CsfBlob) -> list[tuple[int, int]]:
    """Return what is decrypted: (address, length) pairs."""
    commands = [
        one for one in parsed.commands if isinstance(one, csf_blob.Authenticate) and one.protocol == csf_blob.AEAD
    ]
    return [part for one in commands for part in one.blocks]


def _table(parsed: hab.CsfBlob) -> tuple[bytes, int]:
    """Return the SRK table in a blob, and the index (from 0) of the SRK that it installs."""
    table = parsed.srk_table()
    if table is None:
        raise hab.VerificationError("srk-table", "it installs no SRK")
    return table.data, parsed.installs(csf_blob.SRK_TABLE)[0].source


def _whole(signing: Signing, pieces: Sequence[hab.Block]) -> Check:
    """Check that the CSF covers all of its part: what another CSF covers is not checked when this part is run."""
    signed = union((piece.address, piece.address + piece.length) for piece in pieces)
    bare = union(
        (start + block.offset - block.address, end + block.offset - block.address)
        for block in signing.least or signing.blocks
        for start, end in _without(block.address, block.address + block.length, signed)
    )
    detail = ", ".join(f"{start:#x}+{end - start:#x}" for start, end in bare[:8])
    why = f"not covered: {detail}" if bare else ""
    return Check("all of this part is signed", not bare, why, meaning="unsigned")


def _without(start: int, end: int, signed: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges from `start` to before `end` that are not in `signed`, which is in order and without overlap."""
    for first, last in signed:
        if first < end and start < last:
            if start < first:
                yield start, first
            start = last
    if start < end:
        yield start, end


def _layout(data: Buffer, commands: Sequence[Sequence[hab.Block]]) -> Check:
    """Check that signatures cover the IVT and what it points to."""
    try:
        found = hab.check_layout(commands, [hab.File.of(data)])
    except hab.HabError as error:
        return Check("what the IVT points to is signed", False, str(error))
    places = ", ".join(f"{ivt.offset:#x}" for ivt in found.ivts)
    return Check("what the IVT points to is signed", True, f"IVT at {places}")


def _commands(parsed: hab.CsfBlob, failed: hab.HabError | None, *, by_rom: bool) -> list[Check]:
    """Return a check for each command, and one for a failure that belongs to no single command."""
    stop = len(parsed.commands) if failed is None or failed.command is None else failed.command
    checks = []
    for number, command in enumerate(parsed.commands):
        what, detail = describe(parsed, command)
        if number == stop:
            checks.append(Check(what, False, str(failed)))
        elif not by_rom and refused_by_u_boot(command):
            checks.append(Check(what, False, _U_BOOT))
        else:
            holds = None if number > stop or (failed is not None and failed.command is None) else True
            secret = is_secret(command)
            checks.append(Check(what, None if secret else holds, detail, secret))
    if failed is not None and failed.command is None:
        checks.append(Check("the CSF as a whole", False, str(failed)))
    return checks
