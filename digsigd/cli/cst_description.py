"""The CSF description that `cst` is given: which file its blocks are of, and whether a server can sign it at all."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from digsigd import csf
from digsigd.cli.console import Trouble, shown
from digsigd.csf.errors import quoted
from digsigd.csf.grammar import AHAB_ONLY
from digsigd.csf.lexer import logical_lines
from digsigd.csf.model import AuthenticateData, Header, InstallSrk, Place, Refusable
from digsigd.csf.values import fold

# What a server takes.
MAX_BYTES = 1 << 20
_ENCRYPTION = {"Install Secret Key", "Decrypt Data"}


@dataclass(frozen=True, slots=True)
class Job:
    """A description as it is sent, and the one file that it is about.

    `name` is the last part of the file's name as the blocks have it: what the server compares with the upload's.
    `blocks` are those of each [Authenticate Data], in order; `source_index` is the SRK's, from 0.
    """

    text: bytes
    path: Path
    name: str
    blocks: tuple[tuple[csf.Block, ...], ...]
    source_index: int


def read_job(path: str) -> Job:
    """Read a description, its file names taken from the working directory as cst does.

    What only the server can judge (its policy, its keys) is left to it; whatever has to be seen from here is checked
    here. Raises `Trouble` with the line.
    """
    text = _read(path)
    try:
        return _job(text)
    except csf.CsfError as error:
        place = f"line {error.line}: " if error.column is None else f"line {error.line}, column {error.column}: "
        where = f"{shown(path)}: {place if error.line is not None else ''}"
        raise Trouble(where + error.what, hint=error.hint) from None


def _read(path: str) -> bytes:
    try:
        # A pipe is a description as well: cst -i <(sed ... csf.template).
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Trouble(f'unable to open "{shown(path)}": {error.strerror}') from None
    if len(text) > MAX_BYTES:
        raise Trouble(f"{shown(path)}: a CSF description has at most {MAX_BYTES} bytes; is it the image?")
    return text


def _job(text: bytes) -> Job:
    try:
        description = csf.parse(text, max_bytes=MAX_BYTES)
    except csf.CsfSyntaxError:
        # AHAB's descriptions differ from their first line on; that they are AHAB's says more than what is wrong there.
        place = _ahab(text)
        if place is None:
            raise
        raise csf.CsfPolicyError(
            "this is a description for AHAB (i.MX 8, 8X, 8ULP, 9); digsign and its servers sign for HAB4",
            *place,
            hint="NXP's own cst signs it",
        ) from None
    _refuse(description)
    commands = [one for one in description.commands if isinstance(one, AuthenticateData)]
    if not commands:
        raise csf.CsfPolicyError("there is no [Authenticate Data], so there is nothing to sign")
    path, name = _the_file([block for command in commands for block in command.blocks])
    index = next((one.source_index for one in description.commands if isinstance(one, InstallSrk)), 0)
    return Job(text, path, name, tuple(command.blocks for command in commands), index)


def _refuse(description: csf.Description) -> None:
    """What no server can do from afar."""
    for command in description.commands:
        if isinstance(command, Refusable) and command.name in _ENCRYPTION:
            raise csf.CsfPolicyError(
                f"[{command.name}]: encrypted boot is not done by a server, which would have to send the image's key",
                *command.place,
                hint="sign without it, or use NXP's own cst for this image",
            )
        if isinstance(command, Header) and command.mode is not None:
            raise csf.CsfPolicyError(
                "Mode = HSM makes placeholders instead of signatures",
                *command.mode_place,
                hint="leave it out; keys in an HSM are the server's: -b pkcs11, or DIGSIGN_BACKEND=pkcs11",
            )


def _the_file(blocks: list[csf.Block]) -> tuple[Path, str]:
    """The file of all blocks, whatever they call it, and the last part of its name."""
    seen: dict[str, tuple[int, int]] = {}
    first = blocks[0]
    for block in blocks:
        if block.file not in seen:
            seen[block.file] = _identity(block)
        if seen[block.file] != seen[first.file]:
            raise csf.CsfPolicyError(
                f"the blocks are of several files, {quoted(first.file)} and {quoted(block.file)};"
                " a server signs one at a time",
                *block.place,
                hint="join them to one file and give each block its offset in that, or sign each by a CSF of its own",
            )
        if _base(block.file) != _base(first.file):
            raise csf.CsfPolicyError(
                f"{quoted(first.file)} and {quoted(block.file)} are one file under two names",
                *block.place,
                hint="use one of them for all blocks",
            )
    return _local(first.file), _base(first.file)


def _identity(block: csf.Block) -> tuple[int, int]:
    try:
        status = _local(block.file).stat()
    except OSError as error:
        raise csf.CsfNameError(
            f"file not present: {quoted(block.file)}: {error.strerror}",
            *block.place,
            hint=f"names without / are taken from the working directory, {shown(str(Path.cwd()))}",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise csf.CsfNameError(f"{quoted(block.file)} is no regular file", *block.place)
    return status.st_dev, status.st_ino


def _local(name: str) -> Path:
    # The bytes that stand in the description are the file's name, whatever the locale.
    return Path(os.fsdecode(name.encode()))


def _base(name: str) -> str:
    """As servers have it (docs/api.md): both slashes end a folder's name."""
    return re.split(r"[/\\]", name)[-1]


def _ahab(text: bytes) -> Place | None:
    """Where a text says that it is for AHAB."""
    try:
        for tokens in logical_lines(text, MAX_BYTES):
            line = fold("".join(token.text for token in tokens))
            if line == "target=ahab" or line.strip("[]") in AHAB_ONLY:
                return tokens[0].place
    except csf.CsfSyntaxError:
        return None
    return None
