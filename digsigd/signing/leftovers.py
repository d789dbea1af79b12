"""Remove the directories of crashed daemons, recognised by their mark. Everything else is left alone."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from contextlib import suppress

from digsigd.signing import removal
from digsigd.signing.marks import PREFIX, is_name_of_ours, mark_of
from digsigd.signing.removal import Mount

# Bounds of the report: number of names, characters of a name, characters of a reason.
_MOST_NAMED = 8
_LONGEST_NAME = 60
_LONGEST_REASON = 120
_UNMARKED = "it has no mark of a daemon"
# A daemon that starts at the same time has a directory without a mark for less than _STARTING seconds. A directory is
# not of such a daemon if it is older than _NEW seconds.
_STARTING = 0.25
_NEW = 2.0


class StrandedError(OSError):
    """A directory that was moved aside by mistake cannot be moved back."""


class Stays(Exception):
    """An entry is not removed; the text is the reason."""


def remove_leftovers(parent: int, own: int) -> str:
    """Remove the directories of this user's crashed daemons in the open directory `parent`.

    `own` is this daemon's directory in it, open and locked. Directories are moved there before they are removed.
    Return what was left alone, as a text of bounded length without control characters; empty if there is nothing.
    Directories of running daemons are not mentioned. Raises `OSError`, and its subclass `StrandedError`.
    """
    with os.scandir(parent) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(PREFIX))
    stays = _remove_each(names, parent, own)
    if new := [name for name, reason in stays.items() if reason == _UNMARKED and _is_new(name, parent)]:
        time.sleep(_STARTING)
        for name in new:
            del stays[name]
        stays |= _remove_each(new, parent, own)
    return _in_words(stays)


def _remove_each(names: list[str], parent: int, own: int) -> dict[str, str]:
    """Remove each of `names` if it is a leftover. Return the names that stay, with the reason."""
    stays: dict[str, str] = {}
    mine = os.fstat(own)
    for name in names:
        try:
            if not os.path.samestat(os.stat(name, dir_fd=parent, follow_symlinks=False), mine):
                _remove_if_left(name, parent, own)
        except FileNotFoundError:
            continue
        except Stays as reason:
            stays[name] = str(reason)
        except OSError as error:
            if isinstance(error, StrandedError):
                raise
            stays[name] = error.strerror or str(error)
    return stays


def _remove_if_left(name: str, parent: int, own: int) -> None:
    """Remove a directory, unless its daemon is running. Raises `Stays` and `OSError`."""
    if not is_name_of_ours(name):
        raise Stays("its name is not that of a daemon's directory")
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise Stays("it is not a directory")
    if status.st_uid != os.geteuid():
        raise Stays("it belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o777 != 0o700:
        raise Stays(f"its mode is {stat.S_IMODE(status.st_mode):04o}")
    folder = os.open(name, removal.DIRECTORY, dir_fd=parent)
    try:
        if not os.path.samestat(os.fstat(folder), status):
            raise Stays("it was replaced during the check")
        if Mount.of(folder) != Mount.of(parent):
            raise Stays("it is a mount point")
        mark = mark_of(folder, name)
        if mark is None:
            raise Stays(_UNMARKED)
        if not locked(folder):
            return  # its daemon is running
        removal.check_tree(folder)
        _move_and_remove(name, mark, folder, parent, own)
    finally:
        os.close(folder)


def _move_and_remove(name: str, mark: str, folder: int, parent: int, own: int) -> None:
    """Move an open and locked directory into our own, check that it is the same one, and remove it."""
    aside = f".left-{name}"
    os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=own)
    try:
        if not os.path.samestat(os.stat(aside, dir_fd=own, follow_symlinks=False), os.fstat(folder)):
            raise Stays("it was replaced during the check")
        # Remove the mark last: it identifies the rest after an error or a crash of this daemon.
        removal.remove_open(folder, aside, parent=own, last=mark)
    except BaseException:
        _put_back(aside, name, own, parent)
        raise


def _put_back(aside: str, name: str, own: int, parent: int) -> None:
    """Move a directory or file back to its name, or to a similar name if that is taken now."""
    is_directory = stat.S_ISDIR(os.stat(aside, dir_fd=own, follow_symlinks=False).st_mode)
    for to in (name, f"{name}.{secrets.token_hex(4)}"):
        with suppress(OSError):
            if is_directory:
                # rename(2) replaces an empty directory, so make one to be replaced.
                os.mkdir(to, 0o700, dir_fd=parent)
                os.rename(aside, to, src_dir_fd=own, dst_dir_fd=parent)
            else:
                os.link(aside, to, src_dir_fd=own, dst_dir_fd=parent, follow_symlinks=False)
                os.unlink(aside, dir_fd=own)
            return
    raise StrandedError(f"{name} was moved to {aside} in the daemon's own directory and cannot be moved back")


def locked(descriptor: int) -> bool:
    """Try to lock an open directory, and return whether that succeeded. The lock lasts until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_new(name: str, parent: int) -> bool:
    """Return whether it may belong to a daemon that is about to mark it."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return is_name_of_ours(name) and stat.S_ISDIR(status.st_mode) and abs(time.time() - status.st_ctime) < _NEW


def _in_words(stays: dict[str, str]) -> str:
    """Return the first few names with their reasons, and the number of the others."""
    named = [f"{_shown(name)} ({stays[name][:_LONGEST_REASON]})" for name in list(stays)[:_MOST_NAMED]]
    if len(stays) > _MOST_NAMED:
        named.append(f"and {len(stays) - _MOST_NAMED} more")
    return ", ".join(named)


def _shown(name: str) -> str:
    """Return a name for a message. Any user can have made it, so escape and shorten it."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}..."
