"""From the names in a client's description to the machine's files and the artifact, and to names of our own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from digsigd.csf.errors import CsfNameError, CsfPolicyError, quoted
from digsigd.csf.lexer import MAX_STRING
from digsigd.csf.model import (
    AuthenticateData,
    Block,
    Command,
    Description,
    Header,
    InstallCsfk,
    InstallKey,
    InstallNocak,
    InstallSrk,
    Place,
)
from digsigd.csf.uri import KeyUri, is_uri

# Names in the directory that cst runs in. cst replaces the first "crts" of a path by "keys", so none of ours has it;
# a certificate's directory holds its key and the pass phrase that goes with that key.
SRK_TABLE = "srk_table.bin"
ARTIFACT = "artifact"
KEY_PASS = "key_pass.txt"  # noqa: S105 - a file name
_CERTIFICATE = re.compile(r".*_crt\.(pem|der)", re.DOTALL)
_LISTED = 8


@dataclass(frozen=True, slots=True)
class FileNeeded:
    """A file of the tarball (`member`) that cst needs, and its `name` in cst's directory."""

    member: str
    name: str
    kind: Literal["srk-table", "certificate", "key", "key-pass"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A description in our own names, and what has to stand under them.

    `blocks` are those of each [Authenticate Data], in order; `blocks_line` is where the first of them stands, and
    `srk_table_line` where the SRK table is named.
    `client_names` gives the client's name for each of ours. `token` is the name of the one token that all keys are on,
    and `uris` are those of the certificates; None and () with keys from the tarball.
    """

    description: Description
    files: tuple[FileNeeded, ...]
    srk_table: str
    srk_table_line: int | None
    source_index: int
    hash_algorithm: str
    blocks: tuple[tuple[Block, ...], ...]
    blocks_line: int | None
    client_names: dict[str, str]
    token: str | None = None
    uris: tuple[KeyUri, ...] = ()


def resolve(
    description: Description,
    *,
    members: Collection[str],
    artifact_name: str,
    artifact_size: int,
    from_token: bool = False,
) -> Resolved:
    """Find every file that a checked description names.

    With `from_token` every certificate is a PKCS #11 URI, else a file of the tarball; the SRK table is a file always.
    Raises `CsfNameError`, `CsfPolicyError`, or `CsfSyntaxError` for a URI that is none.
    """
    return _Resolution(members, artifact_name, artifact_size, from_token=from_token).run(description)


class _Resolution:
    def __init__(self, members: Collection[str], artifact_name: str, artifact_size: int, *, from_token: bool) -> None:
        self._members = members
        self._by_base: dict[str, list[str]] = {}
        for member in members:
            self._by_base.setdefault(_base(member), []).append(member)
        self._artifact_name = artifact_name
        self._artifact_size = artifact_size
        self._from_token = from_token
        self._token: str | None = None
        self._uris: list[KeyUri] = []
        self._files: list[FileNeeded] = []
        self._client_names: dict[str, str] = {}
        self._certificates: dict[str, str] = {}

    def run(self, description: Description) -> Resolved:
        commands: list[Command] = []
        table, source_index, algorithm = "", 0, "sha256"
        table_line: int | None = None
        blocks: list[tuple[Block, ...]] = []
        for command in description.commands:
            match command:
                case Header():
                    algorithm = command.hash_algorithm
                    commands.append(command)
                case InstallSrk():
                    table, source_index = self._table(command), command.source_index
                    table_line = command.file_place[0]
                    commands.append(dataclasses.replace(command, file=SRK_TABLE))
                case InstallCsfk() | InstallNocak() | InstallKey():
                    ours = self._certificate(command.file, command.file_place)
                    commands.append(dataclasses.replace(command, file=ours))
                case AuthenticateData():
                    ours_blocks = tuple(self._block(block) for block in command.blocks)
                    blocks.append(ours_blocks)
                    commands.append(dataclasses.replace(command, blocks=ours_blocks))
                case _:
                    commands.append(command)
        return Resolved(
            description=Description(tuple(commands)),
            files=tuple(self._files),
            srk_table=table,
            srk_table_line=table_line,
            source_index=source_index,
            hash_algorithm=algorithm,
            blocks=tuple(blocks),
            blocks_line=blocks[0][0].place[0] if blocks else None,
            client_names=self._client_names,
            token=self._token,
            uris=tuple(self._uris),
        )

    def _member(self, name: str, place: Place, what: str, candidates: list[str]) -> str:
        """The member that a client's name means: that very one, else the only one with its base name."""
        if is_uri(name):
            what = "the SRK table is a file" if self._from_token else "backend=ssl takes keys from the tarball"
            raise CsfPolicyError(f"{what}, not from a token", *place)
        plain = re.sub(r"^(\./)+", "", name)
        if plain in self._members:
            return plain
        matching = self._by_base.get(_base(name), [])
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise CsfNameError(
                f"{quoted(name)} may be any of {len(matching)} files of the key tarball with that name",
                *place,
                hint="name it by its whole path in the tarball",
            )
        names = sorted({_base(one) for one in candidates})
        listed = ", ".join(names[:_LISTED]) or "none"
        if len(names) > _LISTED:
            listed += f" and {len(names) - _LISTED} more"
        raise CsfNameError(
            f"{quoted(name)} is not in the machine's key tarball", *place, hint=f"{what} in it: {listed}"
        )

    def _table(self, command: InstallSrk) -> str:
        candidates = [one for one in self._members if one.endswith(".bin")]
        member = self._member(command.file, command.file_place, "tables", candidates)
        if _is_key(member) or _CERTIFICATE.fullmatch(member):
            raise CsfPolicyError(f"{quoted(command.file)} is no SRK table", *command.file_place)
        self._need(member, SRK_TABLE, "srk-table", command.file)
        return member

    def _on_token(self, name: str, place: Place) -> str:
        """The URI of a certificate, written anew."""
        if not is_uri(name):
            raise CsfPolicyError(
                f"{quoted(name)} is a file; backend=pkcs11 takes certificates and keys from a token",
                *place,
                hint='File = "pkcs11:token=NAME;object=LABEL"',
            )
        uri = KeyUri.parse(name, place)
        if self._token not in {None, uri.token}:
            raise CsfPolicyError(f"the keys are on two tokens, {quoted(self._token or '')} and another", *place)
        self._token = uri.token
        ours = str(uri)
        if len(ours) > MAX_STRING:
            raise CsfPolicyError(f"a PKCS #11 URI of {len(ours)} bytes; cst takes at most {MAX_STRING}", *place)
        self._client_names[ours] = name
        self._uris.append(uri)
        return ours

    def _certificate(self, name: str, place: Place) -> str:
        if self._from_token:
            return self._on_token(name, place)
        candidates = [one for one in self._members if _CERTIFICATE.fullmatch(one)]
        base = _base(name)
        if not is_uri(name) and not _CERTIFICATE.fullmatch(base):
            raise CsfPolicyError(
                f"{quoted(name)} is no certificate: its name must end with _crt.pem or _crt.der", *place
            )
        member = self._member(name, place, "certificates", candidates)
        if member in self._certificates:
            return self._certificates[member]
        ending = member[-3:]
        folder = f"k{len(self._certificates) + 1}"
        ours = f"{folder}/a_crt.{ending}"
        key = _key_of(member)
        if key not in self._members:
            raise CsfNameError(f"the key tarball has no private key for {quoted(name)}", *place)
        self._need(member, ours, "certificate", name)
        self._need(key, f"{folder}/a_key.{ending}", "key", f"the key of {base}")
        key_pass = key[: len(key) - len(_base(key))] + KEY_PASS
        if key_pass in self._members:
            self._need(key_pass, f"{folder}/{KEY_PASS}", "key-pass", f"the pass phrase of {base}")
        self._certificates[member] = ours
        return ours

    def _need(
        self, member: str, name: str, kind: Literal["srk-table", "certificate", "key", "key-pass"], client: str
    ) -> None:
        self._files.append(FileNeeded(member, name, kind))
        self._client_names[name] = client

    def _block(self, block: Block) -> Block:
        if _base(block.file) != self._artifact_name:
            raise CsfNameError(
                f"the block names {quoted(block.file)}, but the uploaded artifact is {quoted(self._artifact_name)}",
                *block.place,
                hint="upload it under that name (curl: -F 'artifact=@PATH;filename=NAME')",
            )
        if block.offset + block.length > self._artifact_size:
            raise CsfNameError(
                f"the block ends at {block.offset + block.length:#x}, the artifact at {self._artifact_size:#x}",
                *block.place,
            )
        self._client_names[ARTIFACT] = block.file
        return dataclasses.replace(block, file=ARTIFACT)


def _base(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


def _is_key(member: str) -> bool:
    base = _base(member)
    return base == KEY_PASS or re.search(r"_key\.[^.]*$", base) is not None


def _key_of(member: str) -> str:
    """Where cst looks for the key of a certificate: "crt" becomes "key", the first "crts" of the path "keys"."""
    return (member[:-7] + "key" + member[-4:]).replace("crts", "keys", 1)
