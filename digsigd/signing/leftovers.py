"""What crashed daemons left: recognised by its mark, moved aside, and removed. Whatever else is there is left alone."""

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

# How much is told of what stays: so many names, each so long, with a reason so long.
_MOST_NAMED = 8
_LONGEST_NAME = 60
_LONGEST_REASON = 120
_UNMARKED = "it has no mark of a daemon"
# A daemon that starts beside has a directory without a mark, for less than this. What is older than _NEW is none.
_STARTING = 0.25
_NEW = 2.0


class StrandedError(OSError):
    """What was moved aside by mistake cannot be put back."""


class Stays(Exception):
    """Why something is not removed."""


def remove_leftovers(parent: int, own: int) -> str:
    """Remove what crashed daemons of this user left in the open directory `parent`; what was left alone, in words.

    `own` is the daemon's own directory in it, open and locked, in which nobody else is: what is to be removed is moved
    there first. It is a text of bounded length without control characters; empty where there is nothing to tell.
    Directories in which daemons live are not told of.
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
    """Those that stay, and why."""
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
    """Remove one, unless a daemon lives in it. Raises `Stays` and `OSError`."""
    if not is_name_of_ours(name):
        raise Stays("no daemon names a directory so")
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        raise Stays("it is no directory")
    if status.st_uid != os.geteuid():
        raise Stays("it is another user's")
    if stat.S_IMODE(status.st_mode) & 0o777 != 0o700:
        raise Stays(f"its mode is {stat.S_IMODE(status.st_mode):04o}")
    folder = os.open(name, removal.DIRECTORY, dir_fd=parent)
    try:
        if not os.path.samestat(os.fstat(folder), status):
            raise Stays("it was replaced while it was looked at")
        if Mount.of(folder) != Mount.of(parent):
            raise Stays("it is mounted there")
        mark = mark_of(folder, name)
        if mark is None:
            raise Stays(_UNMARKED)
        if not locked(folder):
            return  # its daemon lives
        removal.check_tree(folder)
        _move_and_remove(name, mark, folder, parent, own)
    finally:
        os.close(folder)


def _move_and_remove(name: str, mark: str, folder: int, parent: int, own: int) -> None:
    """Move an open and locked directory into our own, make sure that it is the one, and remove it."""
    aside = f".left-{name}"
    os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=own)
    try:
        if not os.path.samestat(os.stat(aside, dir_fd=own, follow_symlinks=False), os.fstat(folder)):
            raise Stays("it was replaced while it was looked at")
        # The mark goes last: what stays after an error, or a crash of ours, is known by it.
        removal.remove_open(folder, aside, parent=own, last=mark)
    except BaseException:
        _put_back(aside, name, own, parent)
        raise


def _put_back(aside: str, name: str, own: int, parent: int) -> None:
    """Move what was taken back to its name, or one like it: what has that name by now is not replaced."""
    is_directory = stat.S_ISDIR(os.stat(aside, dir_fd=own, follow_symlinks=False).st_mode)
    for to in (name, f"{name}.{secrets.token_hex(4)}"):
        with suppress(OSError):
            if is_directory:
                # rename(2) takes the place of an empty directory; so that is to be one of ours.
                os.mkdir(to, 0o700, dir_fd=parent)
                os.rename(aside, to, src_dir_fd=own, dst_dir_fd=parent)
            else:
                os.link(aside, to, src_dir_fd=own, dst_dir_fd=parent, follow_symlinks=False)
                os.unlink(aside, dir_fd=own)
            return
    raise StrandedError(f"{name} was moved to {aside} in the daemon's own directory, and cannot be moved back")


def locked(descriptor: int) -> bool:
    """Whether the lock of an open directory could be taken: nobody else has it. It lasts until it is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_new(name: str, parent: int) -> bool:
    """Whether it may be the directory of a daemon that is about to mark it."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return is_name_of_ours(name) and stat.S_ISDIR(status.st_mode) and abs(time.time() - status.st_ctime) < _NEW


def _in_words(stays: dict[str, str]) -> str:
    """Some of them, and how many more."""
    named = [f"{_shown(name)} ({stays[name][:_LONGEST_REASON]})" for name in list(stays)[:_MOST_NAMED]]
    if len(stays) > _MOST_NAMED:
        named.append(f"and {len(stays) - _MOST_NAMED} more")
    return ", ".join(named)


def _shown(name: str) -> str:
    """A name that anybody may have made."""
    shown = ascii(name)[1:-1]
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}..."
