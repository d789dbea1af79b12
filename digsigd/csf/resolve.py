"""Finds the machine's files and the artifacts that a client's CSF description names, and gives them new names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from digsigd.csf import cst_files
from digsigd.csf.errors import CsfKeyError, CsfNameError, CsfPolicyError, quoted
from digsigd.csf.lexer import MAX_STRING
from digsigd.csf.members import CERTIFICATE, KEY_PASS, Members, base_of, is_key
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

_LISTED = 8


@dataclass(frozen=True, slots=True)
class FileNeeded:
    """A file of the key tarball (`member`) that cst needs, and its `name` in the work directory.

    A certificate is written in the format of the ending of `name`, which is that of its key.
    """

    member: str
    name: str
    kind: Literal["srk-table", "certificate", "key", "key-pass"]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A CSF description with the names of the work directory, and the files that belong to these names.

    `blocks` are those of each [Authenticate Data], in order, and `artifacts` the numbers of the artifacts that they
    name, from 0. `blocks_line` is the line of the first block, `srk_table_line` that of the SRK table's name.
    `client_names` are the client's names by the new names. `token` is the name of the token with all keys, and `uris`
    are those of the certificates; None and () for keys from the tarball.
    """

    description: Description
    files: tuple[FileNeeded, ...]
    srk_table: str
    srk_table_line: int | None
    source_index: int
    hash_algorithm: str
    blocks: tuple[tuple[Block, ...], ...]
    artifacts: tuple[int, ...]
    blocks_line: int | None
    client_names: dict[str, str]
    token: str | None = None
    uris: tuple[KeyUri, ...] = ()


def resolve(
    description: Description,
    *,
    members: Collection[str],
    artifacts: Mapping[str, int],
    repeated: Collection[str] = (),
    from_token: bool = False,
    identity: Callable[[str], object] | None = None,
    decrypts: Callable[[str, str, str | None], bool] | None = None,
) -> Resolved:
    """Find every file that a checked CSF description names.

    `members` are the names of the key tarball's files. `artifacts` are the names of the uploaded files, in order, and
    their sizes in bytes; the description need not name all of them. Several files were uploaded with each of the names
    in `repeated`, of which `artifacts` has the first. `identity` returns equal values for members with the same
    content; without it all differ. With `from_token` every certificate is a PKCS #11 URI, else a file of the tarball;
    the SRK table is always a file. `decrypts` is called with the members of a certificate, its key and the pass phrase,
    and returns whether cst gets the key as PEM without a pass phrase, whatever form it has in the tarball. Raises
    `CsfNameError`, `CsfKeyError` for a missing private key, `CsfPolicyError`, or `CsfSyntaxError` for an invalid URI.
    """
    found = Members(members, identity)
    return _Resolution(members, found, artifacts, repeated, decrypts, from_token=from_token).run(description)


class _Resolution:
    def __init__(
        self,
        names: Collection[str],
        members: Members,
        artifacts: Mapping[str, int],
        repeated: Collection[str],
        decrypts: Callable[[str, str, str | None], bool] | None,
        *,
        from_token: bool,
    ) -> None:
        self._names = names
        self._decrypts = decrypts
        self._members = members
        self._artifacts = artifacts
        # The blocks' names for artifacts that were uploaded several times.
        self._called = dict.fromkeys(repeated, "")
        self._ours = {name: cst_files.artifact(number) for number, name in enumerate(artifacts)}
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
                    commands.append(dataclasses.replace(command, file=cst_files.SRK_TABLE))
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
            artifacts=tuple(number for number, one in enumerate(self._ours.values()) if one in self._client_names),
            blocks_line=blocks[0][0].place[0] if blocks else None,
            client_names=self._client_names,
            token=self._token,
            uris=tuple(self._uris),
        )

    def _member(self, name: str, place: Place, what: str, matching: list[str], candidates: list[str]) -> str:
        """Return the only member in `matching`. Raises `CsfNameError` if there is none, or more than one."""
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise CsfNameError(
                f"{quoted(name)} matches {len(matching)} files of the key tarball",
                *place,
                hint="use its whole path in the tarball",
            )
        names = sorted({base_of(one) for one in candidates})
        listed = ", ".join(names[:_LISTED]) or "none"
        if len(names) > _LISTED:
            listed += f" and {len(names) - _LISTED} more"
        raise CsfNameError(
            f"{quoted(name)} is not in the machine's key tarball", *place, hint=f"{what} in it: {listed}"
        )

    def _no_uri(self, name: str, place: Place) -> None:
        if is_uri(name):
            what = "the SRK table is a file" if self._from_token else "with backend=ssl keys are in the key tarball"
            raise CsfPolicyError(f"{what}, not on a token", *place)

    def _table(self, command: InstallSrk) -> str:
        name, place = command.file, command.file_place
        self._no_uri(name, place)
        candidates = [one for one in self._names if one.endswith(".bin")]
        member = self._member(name, place, "tables", self._members.named(name), candidates)
        if is_key(member) or CERTIFICATE.fullmatch(member):
            raise CsfPolicyError(f"{quoted(name)} is not an SRK table", *place)
        self._need(member, cst_files.SRK_TABLE, "srk-table", name)
        return member

    def _on_token(self, name: str, place: Place) -> str:
        """Return the normalized URI of a certificate."""
        if not is_uri(name):
            raise CsfPolicyError(
                f"{quoted(name)} is a file; with backend=pkcs11 certificates and keys are on a token",
                *place,
                hint='write File = "pkcs11:token=NAME;object=LABEL"',
            )
        uri = KeyUri.parse(name, place)
        if self._token not in {None, uri.token}:
            raise CsfPolicyError(f"the keys are on different tokens, {quoted(self._token or '')} and another", *place)
        self._token = uri.token
        ours = str(uri)
        if len(ours) > MAX_STRING:
            raise CsfPolicyError(f"the PKCS #11 URI has {len(ours)} bytes; cst accepts at most {MAX_STRING}", *place)
        self._client_names[ours] = name
        self._uris.append(uri)
        return ours

    def _certificate(self, name: str, place: Place) -> str:
        if self._from_token:
            return self._on_token(name, place)
        self._no_uri(name, place)
        base = base_of(name)
        if not CERTIFICATE.fullmatch(base):
            raise CsfPolicyError(
                f"{quoted(name)} is not a certificate: its name must end with _crt.pem or _crt.der", *place
            )
        candidates = [one for one in self._names if CERTIFICATE.fullmatch(one)]
        member = self._member(name, place, "certificates", self._members.certificate(name), candidates)
        if member in self._certificates:
            return self._certificates[member]
        key = self._members.key_of(member)
        if key is None:
            raise CsfKeyError(f"the key tarball has no private key for {quoted(name)}", *place, member=member)
        key_pass = self._members.beside(key, KEY_PASS)
        plain = self._decrypts is not None and self._decrypts(member, key, key_pass)
        ending, folder = "pem" if plain else key[-3:], cst_files.key_folder(len(self._certificates))
        ours = cst_files.certificate(folder, ending)
        self._need(member, ours, "certificate", name)
        self._need(key, cst_files.key(folder, ending), "key", f"the key of {base}")
        if key_pass is not None and not plain:
            self._need(key_pass, cst_files.key_pass(folder), "key-pass", f"the pass phrase of {base}")
        self._certificates[member] = ours
        return ours

    def _need(
        self, member: str, name: str, kind: Literal["srk-table", "certificate", "key", "key-pass"], client: str
    ) -> None:
        self._files.append(FileNeeded(member, name, kind))
        self._client_names[name] = client

    def _block(self, block: Block) -> Block:
        name = base_of(block.file)
        ours = self._ours.get(name)
        if ours is None:
            there = " and ".join(quoted(one) for one in self._artifacts)
            what = f"the uploaded artifact is {there}" if len(self._ours) == 1 else f"the artifacts are {there}"
            raise CsfNameError(
                f"the block names {quoted(block.file)}, but {what}",
                *block.place,
                hint="upload it with that name (curl: -F 'artifact=@PATH;filename=NAME')",
            )
        if name in self._called:
            called = self._called[name] = self._called[name] or _plain(block.file)
            if called != _plain(block.file):
                raise CsfNameError(
                    f"the blocks name {quoted(called)} and {quoted(block.file)}, but several artifacts are called"
                    f" {quoted(name)}",
                    *block.place,
                    hint="upload each under a different name (curl: -F 'artifact=@PATH;filename=NAME')",
                )
        if block.offset + block.length > self._artifacts[name]:
            raise CsfNameError(
                f"the block ends at {block.offset + block.length:#x}, but the artifact at {self._artifacts[name]:#x}",
                *block.place,
            )
        self._client_names[ours] = block.file
        return dataclasses.replace(block, file=ours)


def _plain(name: str) -> str:
    return re.sub(r"^(\./)+", "", name)
