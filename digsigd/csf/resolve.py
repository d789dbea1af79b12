"""Finds the machine's files and the artifacts that a client's CSF description names, and gives them new names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from digsigd.csf import cst_files
from digsigd.csf.errors import CsfNameError
from digsigd.csf.finding import FileNeeded, Finder
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
)
from digsigd.csf.uri import KeyUri


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
    finder = Finder(members, artifacts, repeated=repeated, from_token=from_token, identity=identity, decrypts=decrypts)
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
                table, source_index = finder.table(command.file, command.file_place), command.source_index
                table_line = command.file_place[0]
                commands.append(dataclasses.replace(command, file=cst_files.SRK_TABLE))
            case InstallCsfk() | InstallNocak() | InstallKey():
                ours = finder.certificate(command.file, command.file_place)
                commands.append(dataclasses.replace(command, file=ours))
            case AuthenticateData():
                ours_blocks = tuple(_block(finder, block) for block in command.blocks)
                blocks.append(ours_blocks)
                commands.append(dataclasses.replace(command, blocks=ours_blocks))
            case _:
                commands.append(command)
    return Resolved(
        description=Description(tuple(commands)),
        files=tuple(finder.files),
        srk_table=table,
        srk_table_line=table_line,
        source_index=source_index,
        hash_algorithm=algorithm,
        blocks=tuple(blocks),
        artifacts=finder.artifacts_named(),
        blocks_line=blocks[0][0].place[0] if blocks else None,
        client_names=finder.client_names,
        token=finder.token,
        uris=tuple(finder.uris),
    )


def _block(finder: Finder, block: Block) -> Block:
    ours, size = finder.artifact(block.file, block.place, "the block names", "the blocks name")
    if block.offset + block.length > size:
        raise CsfNameError(
            f"the block ends at {block.offset + block.length:#x}, but the artifact at {size:#x}", *block.place
        )
    return dataclasses.replace(block, file=ours)
