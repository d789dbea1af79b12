"""Describe a CSF blob: its commands, certificates, SRK table and signatures; of a damaged one, what can be read.

Names and numbers: HABv4 API Reference Manual, "Command Sequence File" and "Constants" (HAB_ALG_*, HAB_PCL_*); those of
engines are in `digsigd.hab.engines`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digsigd.cli.inspect.facts import Fact, Hex, Part, Table

if TYPE_CHECKING:
    from digsigd.cli.inspect.certificate import Seen
    from digsigd.hab import SrkTable
    from digsigd.hab.csf_blob import Authenticate, Command, InstallKey, OtherCommand

_HASHES = {0x00: "no hash", 0x11: "SHA-1", 0x17: "SHA-256", 0x1B: "SHA-512"}
_PROTOCOLS = {0x03: "SRK table", 0x09: "X.509", 0xBB: "secret key blob", 0xC5: "CMS", 0xA3: "AEAD"}
_ITEMS = {0x01: "MID", 0x03: "engine"}
_SIGNING_TIME = bytes.fromhex("2a864886f70d010905")  # RFC 5652, 11.3
_UTC_TIME = 0x17
# More than any blob has: a header of 768 bytes, and objects whose lengths have 16 bits.
LARGEST = 512 << 10
# Takes an address, returns its offset in the file, or None if that is not known.
Where = Callable[[int], int | None]


def describe_csf(data: bytes, *, title: str = "CSF blob", where: Where | None = None) -> Part:
    """Return a description of the blob in `data`; `where` finds the signed blocks in the file around it."""
    from digsigd.hab import CsfBlob, FormatError
    from digsigd.hab.csf_blob import MAX_HEADER_LENGTH

    loose: tuple[bytes, ...] = ()
    part = Part("csf", f"{title}, {len(data)} bytes")
    end = min(struct.unpack_from(">H", data, 1)[0], len(data), MAX_HEADER_LENGTH)
    try:
        blob = CsfBlob.parse(data)
        commands, loose = list(blob.commands), blob.loose
    except FormatError as error:
        part.damage.append(str(error))
        commands = _readable(data, part)
    part.facts = {"version": f"{data[3] >> 4}.{data[3] & 0xF}", "commands_length": Hex(end)}
    _Reading(data, commands, end, loose, part, where).describe()
    return part


def _readable(data: bytes, part: Part) -> list[Command]:
    """Return the commands before the first with an invalid length, which is added to the part's damage."""
    from digsigd.hab.csf_blob import OtherCommand, walk

    commands: list[Command] = []
    for command in walk(data, strict=False):
        if isinstance(command, OtherCommand) and not command.whole:
            why = f"{command.damage} (at offset {command.offset:#x})"
            part.damage += [why] if why not in part.damage else []
            break
        commands.append(command)
    return commands


@dataclass(slots=True)
class _Reading:
    """One pass over the commands, which collects the rows of all tables."""

    data: bytes
    commands: list[Command]
    end: int
    loose: tuple[bytes, ...]
    part: Part
    where: Where | None

    def describe(self) -> None:
        """Fill in the part."""
        from digsigd.hab.csf_blob import AEAD, SRK_TABLE, Authenticate, InstallKey

        table, source = None, 0
        rows: list[tuple[Fact, ...]] = []
        certificates: list[tuple[Fact, ...]] = []
        signatures: list[tuple[Fact, ...]] = []
        blocks: list[tuple[Fact, ...]] = []
        tables: list[Part] = []
        for command in self.commands:
            name, meaning = self._meaning(command)
            rows.append((Hex(command.offset), name, meaning))
            if isinstance(command, InstallKey) and command.protocol == SRK_TABLE:
                found = self._table(command)
                tables.append(found[0])
                table, source = found[1], command.source
            elif isinstance(command, InstallKey):
                certificates += self._certificate(command, table, source)
            elif isinstance(command, Authenticate):
                signatures += self._signature(command)
                blocks += [(Hex(command.offset), *self._block(*block)) for block in command.blocks]
        if any(isinstance(command, Authenticate) and command.protocol == AEAD for command in self.commands):
            self.part.notes.append("what Decrypt Data covers is encrypted: only the board has the key to it")
        for der in self.loose:
            certificates += self._row("SRK", der[4:], self.data.find(der), table, None)
        if table is not None:
            self.part.facts = {**self.part.facts, "srk": source + 1, "fuse_value": table.fuse_value.hex()}
        columns = ("key", "at", "subject", "kind", "serial", "not after", "in the chain")
        self.part.tables = [
            Table("commands", ("at", "command", "meaning"), rows),
            Table("blocks", ("command", "address", "length", "in the file"), blocks),
            Table("certificates", columns, certificates),
            Table("signatures", ("over", "at", "by", "kind", "digest", "signed"), signatures),
        ]
        self.part.parts += tables

    def _meaning(self, command: Command) -> tuple[str, str]:
        from digsigd.hab import csf_blob

        if isinstance(command, csf_blob.InstallKey):
            return csf_blob.NAMES[csf_blob.INSTALL_KEY], self._installed(command)
        if isinstance(command, csf_blob.Authenticate):
            if command.protocol == csf_blob.AEAD:
                return "Decrypt Data", f"{_blocks(command)}, decrypted with secret key {command.key}"
            who = "the SRK" if not command.key else f"key {command.key}"
            if command.key == 1 and not any(self._is_csf_key(one) for one in self.commands):
                who = "the SRK (fast authentication)"
            if not command.blocks:
                return "Authenticate CSF", f"these commands are signed by {who}"
            return csf_blob.NAMES[csf_blob.AUTHENTICATE], f"{_blocks(command)}, signed by {who}"
        return csf_blob.NAMES.get(command.tag, "unknown"), _other(command)

    @staticmethod
    def _is_csf_key(command: Command) -> bool:
        from digsigd.hab import csf_blob

        return isinstance(command, csf_blob.InstallKey) and command.target == 1

    def _installed(self, command: InstallKey) -> str:
        from digsigd.hab import csf_blob, subject_of

        where = f"at {command.data_offset:#x}"
        if command.protocol == csf_blob.SRK_TABLE:
            name = _HASHES.get(command.hash_algorithm, f"{command.hash_algorithm:#x}")
            return f"SRK {command.source + 1} of the table {where} ({name}) becomes key {command.target}"
        if command.protocol == csf_blob.X509:
            role = ", the CSF key" if command.flags & csf_blob.INSTALL_CSFK_FLAG else ""
            der = self._object(command.data_offset)
            subject = subject_of(der) if der else "a certificate that cannot be read"
            return f"{subject} {where}, if signed by key {command.source}, becomes key {command.target}{role}"
        if command.outside:
            place = self.where(command.data_offset) if self.where is not None else None
            in_file = f", {place:#x} in the file," if place is not None else ""
            return (
                f"the wrapped key at {command.data_offset:#x} in memory{in_file} becomes secret key {command.target},"
                f" unwrapped with master key {command.source}"
            )
        kind = _PROTOCOLS.get(command.protocol, f"an object with the protocol {command.protocol:#x}")
        return f"{kind} {where} becomes key {command.target}, verified with key {command.source}"

    def _object(self, offset: int) -> bytes | None:
        """Return the object at an offset, without its header; None if it does not fit."""
        if offset + 4 > len(self.data):
            return None
        length = struct.unpack_from(">H", self.data, offset + 1)[0]
        return self.data[offset + 4 : offset + length] if 4 <= length <= len(self.data) - offset else None

    def _table(self, command: InstallKey) -> tuple[Part, SrkTable | None]:
        from digsigd.cli.inspect.keys import describe_table
        from digsigd.hab import FormatError, SrkTable

        start = command.data_offset
        end = start + (struct.unpack_from(">H", self.data, start + 1)[0] if start + 4 <= len(self.data) else 0)
        data = self.data[start:end]
        part = describe_table(data, f"SRK table at {start:#x}")
        try:
            return part, SrkTable.parse(data)
        except FormatError:
            return part, None

    def _certificate(self, command: InstallKey, table: SrkTable | None, source: int) -> list[tuple[Fact, ...]]:
        from digsigd.hab.csf_blob import X509

        if command.protocol != X509:
            return []
        der = self._object(command.data_offset)
        if der is None:
            return [(command.target, Hex(command.data_offset), "damaged", None, None, None, None)]
        return self._row(command.target, der, command.data_offset, table, source if not command.source else None)

    def _row(
        self, key: Fact, der: bytes, offset: int, table: SrkTable | None, source: int | None
    ) -> list[tuple[Fact, ...]]:
        from digsigd.cli.inspect.certificate import read_certificate
        from digsigd.hab import FormatError

        try:
            one = read_certificate(der)
        except FormatError as error:
            self.part.damage.append(f"the certificate at {offset:#x} cannot be read: {str(error)[:200]}")
            return [(key, Hex(offset), "damaged", None, None, None, None)]
        self.part.notes += one.outdated(f"the certificate at {offset:#x}")
        place = self._place(one, table, source)
        return [(key, Hex(offset), one.subject, one.kind, Hex(one.serial), one.not_after, place)]

    def _place(self, certificate: Seen, table: SrkTable | None, source: int | None) -> str:
        if table is None:
            return "not known"
        itself, number = certificate.place(table)
        if itself:
            return f"SRK {itself}"
        if source is not None and number != source + 1:
            who = f"signed by SRK {number}" if number else "not signed by an SRK of the table"
            self.part.notes.append(f"a certificate must be signed by SRK {source + 1}, but it is {who}")
        return f"signed by SRK {number}" if number else "not signed by an SRK of the table"

    def _signature(self, command: Authenticate) -> list[tuple[Fact, ...]]:
        from digsigd.hab import FormatError
        from digsigd.hab.cms import CmsSignature
        from digsigd.hab.csf_blob import AEAD

        over = f"the blocks of {command.offset:#x}" if command.blocks else "the commands"
        offset = Hex(command.data_offset)
        if command.protocol == AEAD:
            return [(over, offset, f"secret key {command.key}", "MAC", None, None)]
        der = self._object(command.data_offset)
        if der is None:
            return [(over, offset, "damaged", None, None, None)]
        try:
            cms = CmsSignature.parse(_unpadded(der))
        except FormatError as error:
            self.part.damage.append(f"at {command.data_offset:#x}: {error}")
            return [(over, offset, "damaged", None, None, None)]
        if not command.blocks and cms.digest != hashlib.new(cms.digest_algorithm, self.data[: self.end]).digest():
            self.part.damage.append("the commands are not those that were signed: their digest differs")
        kind = f"{cms.kind.upper()} with {cms.digest_algorithm}"
        return [(over, offset, f"serial {cms.serial:#x}", kind, cms.digest.hex(), signing_time(cms.signed))]

    def _block(self, address: int, length: int) -> tuple[Fact, Fact, Fact]:
        offset = self.where(address) if self.where is not None else None
        return Hex(address), Hex(length), None if offset is None else Hex(offset)


def _unpadded(der: bytes) -> bytes:
    """Return a signature without the zeros that NXP's older tools append, as in HDMI firmware."""
    if der[:2] != b"\x30\x82" or len(der) < 4:
        return der
    end = 4 + struct.unpack_from(">H", der, 2)[0]
    return der[:end] if len(der) - end <= 3 and not any(der[end:]) else der


def _blocks(command: Authenticate) -> str:
    size = sum(length for _, length in command.blocks)
    return f"{len(command.blocks)} block{'s' if len(command.blocks) > 1 else ''}, {size:#x} bytes"


def _other(command: OtherCommand) -> str:
    """Return what a command without separate data does."""
    from digsigd.hab import csf_blob, engines

    if command.tag in {csf_blob.UNLOCK, csf_blob.INIT}:
        engine = _engine(command.parameter)
        verb = "unlocked" if command.tag == csf_blob.UNLOCK else "initialised"
        if len(command.body) < 4:
            return f"{engine} is {verb}"
        known = engines.features(command.parameter, int.from_bytes(command.body[:4], "big"))
        uid = f", for the chip {command.body[4:].hex()}" if len(command.body) > 4 else ""
        return f"{engine} {', '.join(known) or 'nothing'} is {verb}{uid}"
    if command.tag == csf_blob.SET:
        if command.parameter == csf_blob.SET_ENGINE and len(command.body) == 4:
            _, algorithm, by, configuration = command.body
            name = _HASHES.get(algorithm, f"{algorithm:#x}")
            return f"{name} is computed by {_engine(by)}, configuration {configuration:#x}"
        item = _ITEMS.get(command.parameter, f"item {command.parameter:#x}")
        return f"{item} is set to {command.body.hex()}; U-Boot refuses images that set MID"
    if command.tag == csf_blob.NOP:
        return "nothing"
    if command.tag in {csf_blob.WRITE_DATA, csf_blob.CHECK_DATA}:
        return f"{command.body[:64].hex()}; U-Boot refuses images with this command"
    return f"a command {command.tag:#x}, unknown in HAB4: {command.body[:64].hex()}"


def _engine(number: int) -> str:
    """Return the name of an engine."""
    from digsigd.hab import engines

    return {engines.ANY: "any engine", engines.SW: "software"}.get(number) or engines.name(number)


def signing_time(attributes: bytes) -> datetime | None:
    """Return the signing time in signed attributes (their DER, as a SET), set by the signer; None if it is missing."""
    from digsigd.hab import FormatError
    from digsigd.hab.der import OID, SET, elements, take

    try:
        (whole,) = elements(attributes)
        for attribute in elements(whole.content):
            name, values = take(attribute.content, OID, SET)
            if name.content == _SIGNING_TIME:
                (value,) = elements(values.content)
                text = value.content.decode("ascii")
                # X.690: the year has two digits in a UTCTime, four in a GeneralizedTime.
                form = "%y%m%d%H%M%SZ" if value.tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
                return datetime.strptime(text, form).replace(tzinfo=UTC)
    except (FormatError, ValueError):
        return None
    return None
