"""A key tarball taken apart in memory. Nothing of it is written to disk here, so no name in it can lead anywhere."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from dataclasses import dataclass, field

from digsigd.errors import BadTarball
from digsigd.keys.tar import CutTarball, entries, shown

_GZIP = b"\x1f\x8b"
_LONGEST_NAME = 255
# Tools that compress in parallel write several members into one file; each is looked at with all that follows it.
_GZIP_MEMBERS = 64


@dataclass(frozen=True, slots=True)
class KeyTarball:
    """The regular files of a tarball by name, without `./` before it; `sha256` is the tarball's own, in hex."""

    members: dict[str, bytes] = field(repr=False)
    sha256: str


def read_tarball(data: bytes, *, max_bytes: int, max_members: int = 4096) -> KeyTarball:
    """Read a gzip-compressed tarball, or a plain one: some web servers unpack gzip on the way.

    `max_bytes` bounds what it unpacks to, `max_members` how many entries of any kind it has. It blocks: a usual
    tarball takes 2 ms. Raises `BadTarball` for whatever is no tarball of regular files with plain names, and of it
    `CutTarball` for what ends too early.
    """
    if len(data) < len(_GZIP):
        raise CutTarball("the key tarball is no tarball, or ends in the middle")
    tar = _unpacked(data, max_bytes) if data.startswith(_GZIP) else data
    if len(tar) > max_bytes:
        raise _too_large(max_bytes)
    members = _members(tar, max_members)
    if not members:
        raise BadTarball("the key tarball has no file in it")
    return KeyTarball(members, hashlib.sha256(data).hexdigest())


def _too_large(max_bytes: int) -> BadTarball:
    return BadTarball(f"the key tarball unpacks to more than {max_bytes} bytes")


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    """The content of one or more gzip members; zeros after them are padding (gzip(1) ignores them as well)."""
    unpacked = b""
    rest = data
    for _ in range(_GZIP_MEMBERS):
        stream = zlib.decompressobj(wbits=31)
        try:
            # Never more than is allowed, however far a bomb would go.
            unpacked += stream.decompress(rest, max_bytes - len(unpacked) + 1)
        except zlib.error:
            raise BadTarball("the key tarball is no gzip file, or a damaged one") from None
        if len(unpacked) > max_bytes:
            raise _too_large(max_bytes)
        if not stream.eof:
            raise CutTarball("the key tarball ends in the middle")
        rest = stream.unused_data
        if not rest.startswith(_GZIP):
            break
    if rest.strip(b"\0"):
        raise BadTarball("the key tarball has something after its end")
    return unpacked


def _members(tar: bytes, max_members: int) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for count, entry in enumerate(entries(tar), 1):
        if count > max_members:
            raise BadTarball(f"the key tarball has more than {max_members} members")
        if entry.info.isdir():
            _plain(entry.name.rstrip("/") or ".", directory=True)
            continue
        name = _plain(entry.name, directory=False)
        if entry.info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}:
            raise BadTarball(f"the key tarball's member {shown(name)} is {_kind(entry.info)}, not a regular file")
        if name in members:
            raise BadTarball(f"the key tarball has two members {shown(name)}")
        members[name] = tar[entry.start : entry.end]
    return members


def _plain(name: str, *, directory: bool) -> str:
    """The name without `./` before it. Raises `BadTarball` unless it stays where the tarball is."""
    parts = name.split("/")
    while parts and parts[0] == ".":
        parts.pop(0)
    if not parts and directory:
        return "."
    if (
        not parts
        or any(part in {"", ".", ".."} for part in parts)
        or len(name) > _LONGEST_NAME
        or not name.isprintable()
        or "\\" in name
    ):
        raise BadTarball(f"the key tarball's member {shown(name)} has a name that leads elsewhere or is no plain name")
    return "/".join(parts)


def _kind(info: tarfile.TarInfo) -> str:
    kinds = {
        "a symbolic link": info.issym(),
        "a hard link": info.islnk(),
        "a device": info.ischr() or info.isblk(),
        "a FIFO": info.isfifo(),
        "a sparse file": info.type == tarfile.GNUTYPE_SPARSE,
    }
    return next((kind for kind, so in kinds.items() if so), "something else")
