"""Read a key tarball in memory. Nothing is written to disk here, so its member names cannot do harm."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Hashable
from dataclasses import dataclass, field

from digsigd.errors import BadTarball
from digsigd.keys.tar import CutTarball, entries, shown

_GZIP = b"\x1f\x8b"
_LONGEST_NAME = 255
# Tools that compress in parallel write several gzip members into one file. Each costs a copy of the rest of the file.
_GZIP_MEMBERS = 64


@dataclass(frozen=True, slots=True)
class PlainKey:
    """A decrypted private key: PEM, and DER of its public key. None if it cannot be read here."""

    pem: bytes | None = field(repr=False)
    public: bytes | None
    lacks_phrase: bool = False


@dataclass(frozen=True, slots=True)
class KeyTarball:
    """The regular files of a tarball by name, without a leading `./`. `sha256` is the hash of the tarball, in hex.

    `plain_keys` are private keys that were decrypted, by their certificate and key: they are kept as long as the rest.
    `checked` are results of checks of its files that passed, by all that they depend on besides.
    """

    members: dict[str, bytes] = field(repr=False)
    sha256: str
    plain_keys: dict[tuple[str, str], PlainKey] = field(default_factory=dict, repr=False, compare=False)
    checked: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)


def read_tarball(data: bytes, *, max_bytes: int, max_members: int = 4096) -> KeyTarball:
    """Read a tarball, compressed with gzip or not: some web servers decompress it.

    `max_bytes` is the most bytes it may decompress to, `max_members` the most entries of any kind it may have. Blocks:
    a usual tarball takes 2 ms. Raises `CutTarball` for a truncated tarball, and `BadTarball` for anything else that is
    not a tarball of regular files with plain names.
    """
    if len(data) < len(_GZIP):
        raise CutTarball("the key tarball is not a tarball, or ends in the middle")
    tar = _unpacked(data, max_bytes) if data.startswith(_GZIP) else data
    if len(tar) > max_bytes:
        raise _too_large(max_bytes)
    members = _members(tar, max_members)
    if not members:
        raise BadTarball("the key tarball contains no files")
    return KeyTarball(members, hashlib.sha256(data).hexdigest())


def _too_large(max_bytes: int) -> BadTarball:
    return BadTarball(f"the key tarball decompresses to more than {max_bytes} bytes")


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    """Return the content of all gzip members. Zeros after them are padding, which gzip(1) ignores too."""
    unpacked = b""
    rest = data
    for _ in range(_GZIP_MEMBERS):
        stream = zlib.decompressobj(wbits=31)
        try:
            # At most one byte beyond the limit, so that a decompression bomb does no harm.
            unpacked += stream.decompress(rest, max_bytes - len(unpacked) + 1)
        except zlib.error:
            raise BadTarball("the key tarball is not a gzip file, or is damaged") from None
        if len(unpacked) > max_bytes:
            raise _too_large(max_bytes)
        if not stream.eof:
            raise CutTarball("the key tarball ends in the middle")
        rest = stream.unused_data
        if not rest.startswith(_GZIP):
            break
    if rest.strip(b"\0"):
        raise BadTarball("the key tarball has data after its end")
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
    """Return the name without a leading `./`. Raises `BadTarball` unless it is a plain path below the tarball."""
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
        raise BadTarball(f"the key tarball's member {shown(name)} has a name that is not a plain relative path")
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
