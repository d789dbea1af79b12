"""The mark in a daemon's own directory, by which a later daemon knows that it may remove what a crash left.

A name proves nothing: anybody may make a folder that begins with `digsigd-`. So each directory of a daemon holds a file
with a random name, which says again that name, the directory's name and its inode: a copy of a directory, and one that
was renamed to be kept, are not what the mark speaks of. Nothing else in this program writes such a file.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat

PREFIX = "digsigd-"
# What tempfile.mkdtemp puts behind it.
_NAME = re.compile(r"digsigd-[a-z0-9_]{8}")
_MARK = re.compile(r"\.mark-([0-9a-f]{32})")


def is_name_of_ours(name: str) -> bool:
    """Whether it is exactly what directories of daemons are named."""
    return _NAME.fullmatch(name) is not None


def is_mark(name: str) -> bool:
    """Whether it is a mark's name."""
    return _MARK.fullmatch(name) is not None


def write_mark(folder: int, name: str) -> None:
    """Mark an open directory that has this name, which is ours and locked. Raises `OSError`; then there is none."""
    token = secrets.token_hex(16)
    mark = f".mark-{token}"
    descriptor = os.open(
        mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        os.fchmod(descriptor, 0o600)
        text = _text(folder, name, token)
        if os.write(descriptor, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        os.unlink(mark, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)


def mark_of(folder: int, name: str) -> str | None:
    """The name of the mark in an open directory that has this name; None where there is none that speaks of it.

    A mark is one alone: a regular file of this user, mode 0600, with one name and exactly our text.
    """
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if is_mark(entry.name)]
    if len(found) != 1:
        return None
    (mark,) = found
    text = _text(folder, name, mark.removeprefix(".mark-"))
    try:
        # Looked at before it is opened: opening a device may do something.
        if not _is_ours(os.stat(mark, dir_fd=folder, follow_symlinks=False), len(text)):
            return None
        descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        same = _is_ours(os.fstat(descriptor), len(text)) and os.read(descriptor, len(text) + 1) == text
    finally:
        os.close(descriptor)
    return mark if same else None


def _is_ours(status: os.stat_result, size: int) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and stat.S_IMODE(status.st_mode) == 0o600
        and status.st_uid == os.geteuid()
        and status.st_nlink == 1
        and status.st_size == size
    )


def _text(folder: int, name: str, token: str) -> bytes:
    return f"digsigd work directory {name} {os.fstat(folder).st_ino} {token}\n".encode("ascii", "backslashreplace")
