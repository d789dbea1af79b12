"""Read the CSF description for `cst`: find the files of its blocks, and refuse what a signing host cannot sign."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from digsigd import csf, hab
from digsigd.cli.console import Trouble, shown
from digsigd.cli.cst_ahab import AhabJob, ahab_job
from digsigd.cli.cst_files import NamedKey, SignedFile, identity_of, local_path
from digsigd.csf.ahab import is_ahab
from digsigd.csf.members import base_of
from digsigd.csf.model import (
    AuthenticateData,
    Header,
    InstallCsfk,
    InstallKey,
    InstallNocak,
    InstallSrk,
    Place,
    Refusable,
)
from digsigd.csf.renaming import renamed
from digsigd.csf.uri import is_uri

# The limits of a server.
MAX_BYTES = 1 << 20
MAX_FILES = 8
_ENCRYPTION = {"Install Secret Key", "Decrypt Data"}


@dataclass(frozen=True, slots=True)
class Job:
    """A description and the files that it refers to.

    `names` are new names by their places, for files whose names in the upload differ from those in the description.
    `blocks` are those of each [Authenticate Data], in order; `source_index` is that of the SRK, from 0; `keys` are the
    SRK table and certificates that the description names.
    """

    text: bytes
    files: tuple[SignedFile, ...]
    blocks: tuple[tuple[hab.Block, ...], ...]
    source_index: int
    keys: tuple[NamedKey, ...]
    names: Mapping[Place, str]

    def sent(self, names: Mapping[Place, str]) -> bytes:
        """Return the text of the description with `self.names` and these names, by place, put in."""
        return renamed(self.text, {**self.names, **names})


def read_job(path: str | None) -> Job | AhabJob:
    """Read a description for HAB or AHAB; its file names are relative to the working directory, as with cst.

    Without a path it is read from standard input. Local files are checked here; the host checks policy and keys.
    Raises `Trouble` with the line.
    """
    text = _read(path)
    if path is None and not text:
        raise Trouble("missing --i argument", hint="pass -i CSF with the CSF description")
    try:
        return ahab_job(text, MAX_BYTES) if is_ahab(text, max_bytes=MAX_BYTES) else _job(text)
    except csf.CsfError as error:
        raise Trouble(f"{shown(path or 'standard input')}: {error.summary()}", hint=error.hint) from None


def _read(path: str | None) -> bytes:
    try:
        # The path can be a pipe: cst -i <(sed ... csf.template).
        with Path(path).open("rb") if path is not None else nullcontext(sys.stdin.buffer) as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Trouble(f'unable to open "{shown(path or "standard input")}": {error.strerror}') from None
    if len(text) > MAX_BYTES:
        raise Trouble(
            f"{shown(path or 'standard input')}: a CSF description has at most {MAX_BYTES} bytes",
            hint="check that -i is the CSF description, not the image",
        )
    return text


def _job(text: bytes) -> Job:
    description = csf.parse(text, max_bytes=MAX_BYTES)
    _refuse(description)
    commands = [one for one in description.commands if isinstance(one, AuthenticateData)]
    if not commands:
        raise csf.CsfPolicyError("the description has no [Authenticate Data], so there is nothing to sign")
    files, number_of = _the_files([block for command in commands for block in command.blocks])
    names = {
        block.file_place: files[number_of[block.file]].name
        for command in commands
        for block in command.blocks
        if base_of(block.file) != files[number_of[block.file]].name
    }
    blocks = tuple(
        tuple(hab.Block(one.address, one.offset, one.length, number_of[one.file]) for one in command.blocks)
        for command in commands
    )
    index = next((one.source_index for one in description.commands if isinstance(one, InstallSrk)), 0)
    keys = tuple(
        NamedKey(one.file, one.file_place)
        for one in description.commands
        if isinstance(one, InstallSrk | InstallCsfk | InstallNocak | InstallKey) and not is_uri(one.file)
    )
    return Job(text, files, blocks, index, keys, names)


def _refuse(description: csf.Description) -> None:
    """Refuse commands that a signing host does not sign. Raises `CsfPolicyError`."""
    for command in description.commands:
        if isinstance(command, Refusable) and command.name in _ENCRYPTION:
            raise csf.CsfPolicyError(
                f"[{command.name}]: signing hosts do not support encrypted boot, which would send the image's key",
                *command.place,
                hint="sign without encryption, or use NXP's cst for this image",
            )
        if isinstance(command, Header) and command.mode is not None:
            raise csf.CsfPolicyError(
                "Mode = HSM makes placeholders instead of signatures",
                *command.mode_place,
                hint="remove it; to use keys in the host's HSM, pass -b pkcs11 or set DIGSIGN_BACKEND=pkcs11",
            )


def _the_files(blocks: list[csf.Block]) -> tuple[tuple[SignedFile, ...], dict[str, int]]:
    """Return the files of all blocks, in order, and for each name in the description the number of its file.

    Each file has one name in the upload, different from all others, even if the description has several names for it.
    """
    files: list[SignedFile] = []
    numbers: dict[tuple[int, int], int] = {}
    number_of: dict[str, int] = {}
    for block in blocks:
        if block.file in number_of:
            continue
        identity = identity_of(block.file, block.place)
        if identity not in numbers:
            if len(files) == MAX_FILES:
                raise csf.CsfPolicyError(
                    f"the blocks refer to more than {MAX_FILES} files, the limit of a signing host",
                    *block.place,
                    hint="join some of them into one file and adapt the offsets of the blocks",
                )
            numbers[identity] = len(files)
            files.append(SignedFile(local_path(block.file), _name_of(block, files, blocks)))
        number_of[block.file] = numbers[identity]
    return tuple(files), number_of


def _name_of(block: csf.Block, files: list[SignedFile], blocks: list[csf.Block]) -> str:
    """Return the name in the upload of a block's file: the last part of its name, made different from other files."""
    name, taken = base_of(block.file), {one.name for one in files}
    if name in taken:
        taken.update(base_of(one.file) for one in blocks)
        name = next(other for n in range(2, len(taken) + 3) if (other := f"{n}-{name}") not in taken)
    return name
