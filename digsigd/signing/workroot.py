"""The private directory of a daemon, in which each request has a work directory."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from digsigd.errors import DigsigError, shutting_down
from digsigd.signing.leftovers import StrandedError, locked, remove_leftovers
from digsigd.signing.marks import PREFIX, mark_of, write_mark
from digsigd.signing.removal import DIRECTORY, Mount, empty, remove_open
from digsigd.signing.workdir import Workdir, failed

# cst makes the path of a key from the path of its certificate by replacing the first "crts" in it with "keys".
_SPOILS = "crts"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
# The descriptor of a root that was never open.
_NEVER = -1
# Far more than the number of daemons that start at the same time.
_TRIES = 100


class WorkRoot:
    """The daemon's directory in `parent`, which several daemons can share.

    It is `parent/digsigd-XXXXXXXX`, mode 0700, with a mark (`marks.py`). The daemon holds an exclusive flock(2) on it
    while it runs, so a marked directory that is not locked was left by a crash. systemd-tmpfiles(8) leaves locked
    directories alone too. `own` means that the parent is private to this user: it is made if it is missing, and
    refused if another user owns it. The methods block, but only `open` can take long, if a crash left many files.
    """

    log = Logger()

    def __init__(self, parent: Path, *, own: bool = False) -> None:
        self._parent = parent
        self._own = own
        self._path: Path | None = None
        self._lock = _NEVER
        # Held while the directory is made, made again, removed, or gets a work directory.
        self._changing = threading.Lock()
        # What `open` left alone in the parent, as a text of bounded length.
        self.left_alone = ""
        self._in_memory = False

    @property
    def path(self) -> Path:
        """The directory. Raises `RuntimeError` if it is not open."""
        if self._path is None:
            raise RuntimeError("the work directory is not open")
        return self._path

    def open(self) -> None:
        """Make and lock the directory, and remove what crashed daemons of this user left in the parent.

        Raises `DigsigError` if the parent is missing, not writable or not safe, or has `crts` in its path. Raises
        `RuntimeError` if the directory is already open.
        """
        if self._path is not None:
            raise RuntimeError("the work directory is already open")
        try:
            parent = self._prepare_parent()
            self._path, self._lock = _make_locked(parent)
            self._in_memory = Mount.of(self._lock).in_memory
            try:
                self.left_alone = _clean(parent, self._lock)
            except StrandedError:
                # Without its mark, later daemons do not remove it and what was moved into it.
                os.unlink(mark_of(self._lock, self._path.name) or "", dir_fd=self._lock)
                os.close(self._lock)
                self._path = None
                raise
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise DigsigError(
                "the work directory cannot be used", hint=error.strerror or "", detail=str(error)
            ) from error
        if self.left_alone:
            self.log.warn("left alone in {path}: {names}", path=parent, names=self.left_alone, event="workdir")

    def new(self, name: str) -> Workdir:
        """Make the work directory of one request, mode 0700. `name` comes from the daemon, never from a client.

        Raises `DigsigError` if it cannot be made, also if it exists already, `Busy` once the root was closed,
        `RuntimeError` if it was never open, and `ValueError` for an invalid name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid name for a work directory")
        name = name.replace(_SPOILS, "crt-s")
        try:
            # Without the lock, `close` in another thread could take the directory away and this bring it back.
            with self._changing:
                if self._path is None and self._lock != _NEVER:
                    raise shutting_down()
                if not self._is_there():
                    self._make_again()
                path = self.path / name
                path.mkdir(0o700)
                try:
                    return Workdir(path, in_memory=self._in_memory)
                except OSError:
                    path.rmdir()
                    raise
        except OSError as error:
            raise failed(error) from error

    def _is_there(self) -> bool:
        """Return whether our path still leads to the directory that we have locked."""
        return _leads_to(self.path, self._lock)

    def _make_again(self) -> None:
        """Make the directory again after something removed it. Requests in progress fail, but not later ones."""
        self.log.warn("{path} was removed: making a new directory", path=self._path, event="workdir")
        path, lock = _make_locked(self._prepare_parent())
        os.close(self._lock)
        self._path, self._lock = path, lock

    def _prepare_parent(self) -> Path:
        """Check that the parent is safe, and return its real path. Raises `DigsigError` and `OSError`."""
        if self._own:
            _make_own(self._parent)
        parent = self._parent.resolve(strict=True)
        _check_parent(parent)
        return parent

    def close(self) -> None:
        """Remove the directory with all its content, and release the lock. Further calls do nothing."""
        with self._changing:
            if self._path is None:
                return
            path, self._path = self._path, None
            try:
                mark = mark_of(self._lock, path.name) or ""
                if _leads_to(path, self._lock):
                    remove_open(self._lock, path, last=mark)
                else:
                    # It was moved away. Whatever has its name now is not ours.
                    empty(self._lock, mark)
            except OSError as error:
                # The next start tries again.
                self.log.warn("{path} cannot be removed: {error}", path=path, error=error)
            os.close(self._lock)


def _leads_to(path: Path, descriptor: int) -> bool:
    """Return whether a path is that of an open directory."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _make_own(parent: Path) -> None:
    """Make a private directory of this user, unless it exists already. Raises `DigsigError` and `OSError`."""
    if _may_be_replaced(parent.parent.stat().st_mode):
        raise _unsafe("the folder that contains it is writable for all users and has no sticky bit", parent)
    with suppress(FileExistsError):
        parent.mkdir(0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode):
        hint = "it is not a directory (it may be a link); remove it"
    elif status.st_uid != os.geteuid():
        hint = f"it belongs to user {status.st_uid}, but must belong to user {os.geteuid()}; remove it"
    elif status.st_mode & 0o077:
        hint = (
            f"it has mode {stat.S_IMODE(status.st_mode):04o}, which lets other users access it; change the mode to 0700"
        )
    else:
        return
    raise _unsafe(f"{hint}, or set daemon.workdir", parent)


def _check_parent(parent: Path) -> None:
    if _SPOILS in str(parent):
        raise _unsafe(f"its path must not contain {_SPOILS!r}", parent)
    if _may_be_replaced(parent.stat().st_mode):
        raise _unsafe(
            "it is writable for all users and has no sticky bit, so any user could replace directories in it", parent
        )


def _may_be_replaced(mode: int) -> bool:
    """Return whether any user may rename entries of a directory with this mode."""
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _unsafe(hint: str, parent: Path) -> DigsigError:
    return DigsigError("the work directory cannot be used", hint=hint, detail=str(parent))


def _make_locked(parent: Path) -> tuple[Path, int]:
    """Make, lock and mark a directory, while other daemons may be cleaning up in the same parent.

    Until the directory is marked, only daemons of earlier releases take it for a leftover. Such a daemon either holds
    the lock, or has removed the directory from its path. In both cases, make another directory.
    """
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            if _SPOILS in path.name:
                path.rmdir()
                continue
            lock = os.open(path, DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            if locked(lock) and os.path.samestat(os.fstat(lock), path.lstat()):
                os.fchmod(lock, 0o700)
                write_mark(lock, path.name)
                return path, lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            path.rmdir()
            raise
        os.close(lock)
    raise OSError(errno.EBUSY, "something removes or locks every new directory here", str(parent))


def _clean(parent: Path, own: int) -> str:
    """Remove what crashed daemons left. Return what was left alone, as a text."""
    folder = os.open(parent, DIRECTORY)
    try:
        return remove_leftovers(folder, own)
    finally:
        os.close(folder)
