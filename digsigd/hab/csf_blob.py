"""The binary CSF blob: its commands, and the certificates, table and signatures that they point to.

Format: HABv4 API Reference Manual, "Command Sequence File" (headers, commands, tags); big-endian throughout. A blob as
cst writes it is a header, commands up to the header's length, then the objects that commands point to, each aligned to
four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from digsigd.hab.errors import FormatError
from digsigd.hab.srk import SrkTable

TAG_CSF = 0xD4
TAG_CERTIFICATE = 0xD7
TAG_SIGNATURE = 0xD8
TAG_MAC = 0xAC
SET, INSTALL_KEY, AUTHENTICATE, WRITE_DATA, CHECK_DATA, NOP, INIT, UNLOCK = (
    0xB1, 0xBE, 0xCA, 0xCC, 0xCF, 0xC0, 0xB4, 0xB2,
)  # fmt: skip
NAMES = {
    SET: "Set",
    INSTALL_KEY: "Install Key",
    AUTHENTICATE: "Authenticate Data",
    WRITE_DATA: "Write Data",
    CHECK_DATA: "Check Data",
    NOP: "NOP",
    INIT: "Init",
    UNLOCK: "Unlock",
}
# Protocols: HAB_PCL_SRK, HAB_PCL_X509, HAB_PCL_CMS, and for encrypted images HAB_PCL_BLOB and HAB_PCL_AEAD.
SRK_TABLE, X509, CMS, BLOB, AEAD = 0x03, 0x09, 0xC5, 0xBB, 0xA3
INSTALL_ABSOLUTE_FLAG, INSTALL_CSFK_FLAG = 0x01, 0x02  # HAB_CMD_INS_KEY_ABS, HAB_CMD_INS_KEY_CSF
# HAB_VAR_CFG_ITM_MID, which the manual leaves out and cst has, and HAB_VAR_CFG_ITM_ENG.
SET_MID, SET_ENGINE = 0x01, 0x03
MAX_HEADER_LENGTH = 768  # HAB_CSF_BYTES_MAX


@dataclass(frozen=True, slots=True)
class InstallKey:
    """A key for slot `target` of the key store, verified with the key in slot `source`.

    For the SRK table, `source` is the index of the SRK in the table. `flags` are the command's parameter. `data_offset`
    is the offset of the key in the blob; for a `BLOB`, the wrapped key of an encrypted image, it can be an address.
    """

    offset: int
    flags: int
    protocol: int
    hash_algorithm: int
    source: int
    target: int
    data_offset: int

    @property
    def outside(self) -> bool:
        """Whether the key is not in the blob, but elsewhere in memory."""
        return self.protocol == BLOB and bool(self.flags & INSTALL_ABSOLUTE_FLAG)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """A signature over blocks of memory, (address, length) each; without blocks, over the commands of the CSF.

    With the protocol `AEAD` it is not a signature: blocks are decrypted in place and checked with a MAC ("Decrypt
    Data").
    """

    offset: int
    flags: int
    key: int
    protocol: int
    engine: int
    configuration: int
    data_offset: int
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class OtherCommand:
    """A command that does not point to data: Set, NOP, Init, Unlock, Write Data, Check Data.

    `damage` says why it is not a command of HAB4, and `whole` whether its length can still be right. Only `walk` with
    `strict=False` sets them to other values than the defaults.
    """

    offset: int
    tag: int
    parameter: int
    body: bytes
    damage: str = ""
    whole: bool = True


Command: TypeAlias = InstallKey | Authenticate | OtherCommand


@dataclass(frozen=True, slots=True)
class CsfBlob:
    """A parsed CSF blob. `header_length` is the length in bytes of the commands, which have a separate signature.

    `loose` are certificates that no command points to: with fast authentication, cst adds the SRK's.
    """

    data: bytes = field(repr=False)
    header_length: int
    version: int
    commands: tuple[Command, ...]
    loose: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, data: bytes) -> CsfBlob:
        """Read a CSF blob that fills `data`. Raises `FormatError`."""
        tag, length, version = _header(data, 0, "the CSF")
        if tag != TAG_CSF:
            raise FormatError(f"a CSF begins with the byte {TAG_CSF:#x}, not {tag:#x}", 0)
        if version & 0xF0 != 0x40:
            raise FormatError(f"a CSF of version {version:#x}; HAB4 has 0x40 to 0x4f", 3)
        if length > MAX_HEADER_LENGTH:
            raise FormatError(f"a CSF whose commands have {length} bytes; HAB4 allows {MAX_HEADER_LENGTH}", 1)
        blob = cls(data, length, version, tuple(walk(data)))
        return replace(blob, loose=blob._check_objects())

    def object_at(self, command: InstallKey | Authenticate) -> bytes:
        """Return the object that a command points to, with its header of four bytes."""
        start = command.data_offset
        return self.data[start : start + struct.unpack_from(">H", self.data, start + 1)[0]]

    def installs(self, protocol: int) -> tuple[InstallKey, ...]:
        """Return the commands that install keys with a protocol, such as `X509`, in their order."""
        return tuple(one for one in self.commands if isinstance(one, InstallKey) and one.protocol == protocol)

    def srk_table(self) -> SrkTable | None:
        """Return the SRK table that the CSF installs, the first of several, or None.

        Raises `FormatError` for a damaged table.
        """
        found = self.installs(SRK_TABLE)
        return SrkTable.parse(self.object_at(found[0])) if found else None

    def certificates(self) -> tuple[bytes, ...]:
        """Return the certificates of the CSF in DER: those that commands install, in order, then those of `loose`."""
        return (*(self.object_at(one)[4:] for one in self.installs(X509)), *(one[4:] for one in self.loose))

    def _check_objects(self) -> tuple[bytes, ...]:
        """Check that objects are after the commands and do not overlap, with only padding between and after them.

        Return the exceptions: certificates that no command points to.
        """
        spans: list[tuple[int, int]] = []
        for command in self.commands:
            if isinstance(command, OtherCommand) or _is_outside(command):
                continue
            start = command.data_offset
            tag, length, _ = _header(self.data, start, "the object that a command points to")
            wanted = TAG_CERTIFICATE
            if isinstance(command, Authenticate):
                wanted = TAG_MAC if command.protocol == AEAD else TAG_SIGNATURE
            if tag != wanted:
                raise FormatError(f"a command points to an object {tag:#x}; it must be {wanted:#x}", start)
            if tag != TAG_CERTIFICATE or command.protocol != SRK_TABLE:
                _check_version(self.data[start + 3], self.version, start + 3)
            if start < self.header_length:
                raise FormatError("a command points into the commands", start)
            spans.append((start, start + length))
        position = self.header_length
        loose: list[bytes] = []
        for start, end in [*sorted(spans), (len(self.data), len(self.data))]:
            if start < position:
                raise FormatError("two commands point to the same bytes", start)
            aligned = position + -position % 4
            if start - aligned > 3 and self.data[aligned] == TAG_CERTIFICATE:
                _, length, version = _header(self.data[:start], aligned, "a certificate that no command points to")
                _check_version(version, self.version, aligned + 3)
                loose.append(self.data[aligned : aligned + length])
                self._check_padding(position, aligned)
                position = aligned + length
            self._check_padding(position, start)
            position = end
        return tuple(loose)

    def _check_padding(self, start: int, end: int) -> None:
        if end - start > 3 or any(self.data[start:end]):
            raise FormatError(f"{end - start} bytes do not belong to a command", start)


def walk(data: bytes, *, strict: bool = True) -> Iterator[Command]:
    """Yield the commands of the CSF that `data` begins with, up to the length in its header or 768 bytes.

    Raises `FormatError` for a command that HAB4 does not have. With `strict=False` nothing is raised for any bytes: a
    damaged command is an `OtherCommand` with its `damage`. If its length is shorter than its header, it has four bytes,
    and if it reaches beyond the end, it is the last one.
    """
    if strict:
        _header(data, 0, "the CSF")
    end = min(int.from_bytes(data[1:3], "big"), len(data), MAX_HEADER_LENGTH)
    read = _command if strict else _any_command
    position = 4
    while position < end:
        command, position = read(data, position, end)
        yield command


def blob_length(data: bytes) -> int:
    """Return the length in bytes of the CSF blob at the start of `data`, calculated from what its commands point to.

    Raises `FormatError` if it is damaged, but leaves most checks to `CsfBlob.parse`.
    """
    if data[:1] != bytes([TAG_CSF]):
        raise FormatError(f"a CSF begins with the byte {TAG_CSF:#x}, not with {data[:4].hex(' ')}", 0)
    _, length, _ = _header(data, 0, "the CSF")
    end = min(length, MAX_HEADER_LENGTH)
    fast = True
    for command in walk(data):
        fast = fast and not (isinstance(command, InstallKey) and command.protocol == X509)
        if not isinstance(command, OtherCommand) and not _is_outside(command):
            end = max(
                end, command.data_offset + _header(data, command.data_offset, "the object that a command points to")[1]
            )
    # The SRK's certificate of fast authentication, which no command points to, may be the last.
    aligned = end + -end % 4
    if fast and data[aligned : aligned + 1] == bytes([TAG_CERTIFICATE]):
        end = aligned + _header(data, aligned, "a certificate that no command points to")[1]
    return end


def _is_outside(command: InstallKey | Authenticate) -> bool:
    return isinstance(command, InstallKey) and command.outside


def _check_version(version: int, wanted: int, offset: int) -> None:
    if version != wanted:
        raise FormatError(f"a part has version {version:#x} in a CSF of version {wanted:#x}", offset)


def _header(data: bytes, offset: int, what: str) -> tuple[int, int, int]:
    """Return tag, length and parameter of the header at `offset`. Raises `FormatError` if it does not fit the data."""
    if offset + 4 > len(data):
        raise FormatError(f"{what} is outside of the {len(data)} bytes", offset)
    tag, length, parameter = struct.unpack_from(">BHB", data, offset)
    if length < 4 or offset + length > len(data):
        limits = f"it must have at least 4, and end within the {len(data)} bytes"
        raise FormatError(f"{what} has {length} bytes according to its header; {limits}", offset)
    return tag, length, parameter


def _command(data: bytes, offset: int, end: int) -> tuple[Command, int]:
    tag, length, parameter = _header(data, offset, "a command")
    if offset + length > end:
        raise FormatError("a command reaches beyond the length in the CSF's header", offset)
    if tag == INSTALL_KEY:
        if length != 12:
            raise FormatError(f"an Install Key command has {length} bytes, not 12", offset)
        fields = struct.unpack_from(">BBBBI", data, offset + 4)
        return InstallKey(offset, parameter, *fields), offset + length
    if tag == AUTHENTICATE:
        if length < 12 or (length - 12) % 8:
            raise FormatError(f"an Authenticate command has {length} bytes, not 12 and 8 for each block", offset)
        key, protocol, engine, configuration, place = struct.unpack_from(">BBBBI", data, offset + 4)
        blocks = tuple(struct.iter_unpack(">II", data[offset + 12 : offset + length]))
        return Authenticate(offset, parameter, key, protocol, engine, configuration, place, blocks), offset + length
    if tag not in NAMES:
        raise FormatError(f"the command {tag:#x} is unknown", offset)
    return OtherCommand(offset, tag, parameter, data[offset + 4 : offset + length]), offset + length


def _any_command(data: bytes, offset: int, end: int) -> tuple[Command, int]:
    """Read a command like `_command`, but return damaged ones instead of raising."""
    try:
        return _command(data, offset, end)
    except FormatError as error:
        damage = error.what
    if offset + 4 > end:
        return OtherCommand(offset, data[offset], 0, b"", damage, whole=False), end
    tag, length, parameter = struct.unpack_from(">BHB", data, offset)
    behind = offset + max(length, 4)
    return OtherCommand(offset, tag, parameter, data[offset + 4 : behind], damage, 4 <= length <= end - offset), behind
