"""AHAB requests with their keys, from tests/samples/ahab."""

from __future__ import annotations

import gzip
import io
import tarfile
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "samples/ahab"
CASES = sorted(path.parent for path in (FOLDER / "cases").glob("*/expect"))


def tarball(keys: str) -> bytes:
    """A key tarball in the layout of ahab_pki_tree.sh."""
    return (FOLDER / "keys" / f"{keys}.tar.gz").read_bytes()


@cache
def members(keys: str) -> dict[str, bytes]:
    """The files of a key tarball."""
    with tarfile.open(fileobj=io.BytesIO(tarball(keys))) as archive:
        return {
            one.name.removeprefix("./"): file.read()
            for one in archive
            if (file := archive.extractfile(one)) is not None
        }


@cache
def image(case: str) -> bytes:
    """The unsigned image of a case."""
    return gzip.decompress((FOLDER / "cases" / case / "flash.bin.gz").read_bytes())


def description(case: str) -> str:
    """The CSF description of a case."""
    return (FOLDER / "cases" / case / "csf.txt").read_text()


def expectation(case: str) -> dict[str, str]:
    """What a case says about its machine and its answer."""
    lines = (FOLDER / "cases" / case / "expect").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def packed(files: dict[str, bytes]) -> bytes:
    """A key tarball of these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def files_of(case: str, keys: str) -> dict[str, bytes]:
    """All that cst reads for a case: keys, description and image."""
    return {**members(keys), "csf.txt": description(case).encode(), "flash.bin": image(case)}


def fuse_value(keys: str, name: str = "fuse_sha256") -> bytes:
    """What srktool wrote beside the table of these keys."""
    return members(keys)[f"crts/SRK_1_2_3_4_{name}.bin"]
