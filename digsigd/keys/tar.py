"""Read the headers of a tar file, more strictly than `tarfile` does.

`tarfile` tries to read as much as possible from any input. It takes a damaged header for the end of the archive, and
follows sparse maps and extended headers without limits: a hostile file can keep it busy for hours. Keys need
stricter reading, so only the parser of a single header is used from `tarfile`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from digsigd.errors import BadTarball

BLOCK = tarfile.BLOCKSIZE
# Names, times and attributes of one member. Tools write less than 1 KiB.
_LONGEST_EXTENSION = 64 << 10
_EXTENSIONS = {b"x": "extended header", b"g": "global header", b"L": "long name", b"K": "long link"}
# Records of extended headers that change the content or the meaning of a member.
_CHANGES_CONTENT = ("size", "linkpath", "hdrcharset", "GNU.sparse.")


class CutTarball(BadTarball):
    """The tarball is truncated, for instance because it is still being written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a tar. Its content is `tar[start:end]`."""

    info: tarfile.TarInfo
    name: str
    start: int
    end: int


def entries(tar: bytes) -> Iterator[Entry]:
    """Yield the members of a POSIX, GNU or older tar, in time linear in its length.

    Format: POSIX.1-2017, pax, 'pax Header Block' and 'ustar Interchange Format'. Raises `CutTarball` for a truncated
    tar, and `BadTarball` for a damaged one or one with data after its end.
    """
    if len(tar) < BLOCK:
        raise BadTarball("the key tarball is not a tarball, or is damaged")
    position = 0
    extensions: dict[bytes, bytes] = {}
    while True:
        block = tar[position : position + BLOCK]
        if not block.strip(b"\0"):
            break
        info = _header(block, position)
        start, position = position + BLOCK, position + BLOCK + -(-info.size // BLOCK) * BLOCK
        end = start + info.size
        if end > len(tar):
            raise CutTarball(f"the key tarball ends in the middle of {shown(info.name)}")
        if info.type in _EXTENSIONS:
            if info.size > _LONGEST_EXTENSION or info.type in extensions:
                raise BadTarball(f"the key tarball has a {_EXTENSIONS[info.type]} that is too large or repeated")
            extensions[info.type] = tar[start:end]
            continue
        yield Entry(info, _name(info, extensions), start, end)
        extensions.clear()
    if len(tar) < position + BLOCK or extensions:
        raise CutTarball("the key tarball ends in the middle")
    if tar[position:].strip(b"\0"):
        raise BadTarball("the key tarball has data after its end")


def shown(name: str) -> str:
    """Return a name for a message: quoted, in ASCII, shortened to 80 characters before escaping."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


def _header(block: bytes, position: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        if not position:
            raise BadTarball("the key tarball is not a tarball, or is damaged") from None
        raise BadTarball(f"the key tarball is damaged at byte {position} of its decompressed content") from None
    if info.size < 0 or (info.size and info.isdir()):
        raise BadTarball(f"the key tarball's member {shown(info.name)} cannot have a size of {info.size}")
    return info


def _name(info: tarfile.TarInfo, extensions: dict[bytes, bytes]) -> str:
    name = info.name
    if b"L" in extensions:
        name = extensions[b"L"].rstrip(b"\0").decode("utf-8", "surrogateescape")
    for kind in (b"g", b"x"):
        for key, value in _records(extensions.get(kind, b"")):
            # A global header must not rename all members. Tools that write one write a comment.
            if key.startswith(_CHANGES_CONTENT) or (key == "path" and kind == b"g"):
                raise BadTarball(f"the key tarball's member {shown(name)} has an extended header {shown(key)}")
            if key == "path":
                name = value
    return name


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    r"""Yield the records `LENGTH KEY=VALUE\n` of an extended header. LENGTH is decimal and counts the whole record."""
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not position < space < end <= len(data) or data[end - 1] != ord("\n") or not equals:
            raise BadTarball("the key tarball has a damaged extended header")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        position = end
