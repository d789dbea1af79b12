"""The mark file in a daemon's directory. It shows a later daemon that it may remove the directory after a crash.

The directory's name proves nothing: any user can make a folder that begins with `digsigd-`. So each directory of a
daemon contains a mark: a file with a random name, whose content is that name, the directory's name and its inode. The
mark is therefore not valid in a copy of the directory, or after the directory was renamed to keep it. Nothing else in
this program writes mark files.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat

PREFIX = "digsigd-"
# The prefix, and the random part that tempfile.mkdtemp appends.
_NAME = re.compile(r"digsigd-[a-z0-9_]{8}")
_MARK = re.compile(r"\.mark-([0-9a-f]{32})")


def is_name_of_ours(name: str) -> bool:
    """Return whether `name` has exactly the form of the names of daemons' directories."""
    return _NAME.fullmatch(name) is not None


def is_mark(name: str) -> bool:
    """Return whether `name` has the form of a mark's name."""
    return _MARK.fullmatch(name) is not None


def write_mark(folder: int, name: str) -> None:
    """Write a mark into an open directory with this name, which must be locked. Raises `OSError`, leaving no mark."""
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
    """Return the file name of the valid mark in an open directory with this name, or None.

    A mark is valid if it is the only one and a regular file of this user, with mode 0600, one link and the right text.
    Raises `OSError` if the directory cannot be read.
    """
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if is_mark(entry.name)]
    if len(found) != 1:
        return None
    (mark,) = found
    text = _text(folder, name, mark.removeprefix(".mark-"))
    try:
        # Check it before opening it: opening a device can have effects.
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
