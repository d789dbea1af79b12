"""The local files that a description names for `cst`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from digsigd import csf
from digsigd.cli.console import shown
from digsigd.csf.errors import quoted
from digsigd.csf.model import Place


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file to sign, and its name in the upload."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class NamedKey:
    """The name of an SRK table or a certificate in the description, and its place."""

    name: str
    place: Place


def identity_of(name: str, place: Place) -> tuple[int, int]:
    """Return device and inode of a local file. Raises `CsfNameError` if it is not a regular file."""
    try:
        status = local_path(name).stat()
    except OSError as error:
        raise csf.CsfNameError(
            f"file not present: {quoted(name)}: {error.strerror}",
            *place,
            hint=f"names without / are relative to the working directory, {shown(str(Path.cwd()))}",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise csf.CsfNameError(f"{quoted(name)} is not a regular file", *place)
    return status.st_dev, status.st_ino


def local_path(name: str) -> Path:
    """Return the path of a file that a description names: with the same bytes, in any locale."""
    return Path(os.fsdecode(name.encode()))
