"""Private directories: one for this daemon, in it one for each request, and none left over."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from twisted.logger import Logger

from digsigd.errors import DigsigError
from digsigd.signing.leftovers import StrandedError, locked, remove_leftovers
from digsigd.signing.marks import PREFIX, mark_of, write_mark
from digsigd.signing.removal import DIRECTORY, empty, remove_open, remove_tree

# cst makes a key's path from its certificate's by putting `keys` for the first of these anywhere in it.
_SPOILS = "crts"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Far more than daemons ever start at once.
_TRIES = 100


class WorkRoot:
    """The daemon's own directory in `parent`, which several daemons may share.

    It is `parent/digsigd-XXXXXXXX`, mode 0700, holds a mark (`marks.py`) and carries an exclusive flock(2) on itself as
    long as its daemon lives: a marked one whose lock can be taken is what a crash left. systemd-tmpfiles(8) leaves a
    locked directory alone as well. `own` says that the parent is of this user alone: it is made where it is missing,
    and refused where it is anybody else's. Its methods block; none takes long but `open` where a crash left much.
    """

    log = Logger()

    def __init__(self, parent: Path, *, own: bool = False) -> None:
        self._parent = parent
        self._own = own
        self._path: Path | None = None
        self._lock = -1
        self._making = threading.Lock()
        # What is in the parent beside directories of daemons, and was left alone: in words, of bounded length.
        self.left_alone = ""

    @property
    def path(self) -> Path:
        """The directory, once it is open."""
        if self._path is None:
            raise RuntimeError("the work directory is not open")
        return self._path

    def open(self) -> None:
        """Make the directory and lock it, and remove what crashed daemons of this user left in the parent.

        Raises DigsigError if the parent is missing, cannot be written, is not safe, or has `crts` in its
        path.
        """
        if self._path is not None:
            raise RuntimeError("the work directory is open already")
        try:
            parent = self._prepare_parent()
            self._path, self._lock = _make_locked(parent)
            try:
                self.left_alone = _clean(parent, self._lock)
            except StrandedError:
                # Without its mark it stays for good, with what is in it.
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
        """Make the directory of one request, mode 0700. `name` is our own, never a client's text.

        Raises DigsigError if it cannot be made, for one because there is one of that name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a work directory")
        name = name.replace(_SPOILS, "crt-s")
        try:
            if not self._is_there():
                self._make_again()
            (self.path / name).mkdir(0o700)
        except OSError as error:
            raise _failed(error) from error
        return Workdir(self.path / name)

    def _is_there(self) -> bool:
        """Whether what has our name is the directory that we have locked."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._lock))
        except OSError:
            return False

    def _make_again(self) -> None:
        """Somebody who cleans up has taken the directory away. Requests under way fail; others need not."""
        with self._making:
            if self._is_there():
                return
            self.log.warn("{path} is gone, another is made", path=self._path, event="workdir")
            path, lock = _make_locked(self._prepare_parent())
            os.close(self._lock)
            self._path, self._lock = path, lock

    def _prepare_parent(self) -> Path:
        """Where the parent really is, once it is found to be safe. Raises DigsigError and OSError."""
        if self._own:
            _make_own(self._parent)
        parent = self._parent.resolve(strict=True)
        _check_parent(parent)
        return parent

    def close(self) -> None:
        """Remove the directory with all that is in it, and give up the lock. A second time does nothing."""
        if self._path is not None:
            try:
                mark = mark_of(self._lock, self._path.name) or ""
                if self._is_there():
                    remove_open(self._lock, self._path, last=mark)
                else:
                    # It was moved away. What has its name now, if anything, is none of ours.
                    empty(self._lock, mark)
            except OSError as error:
                # The next start tries again.
                self.log.warn("{path} cannot be removed: {error}", path=self._path, error=error)
            os.close(self._lock)
            self._path = None


class Workdir:
    """The private directory of one request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._removed = False

    @property
    def removed(self) -> bool:
        """Whether nothing of it is left."""
        return self._removed

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Write a new file. `name` is relative and may have folders, which are made with mode 0700.

        Follows no link and overwrites nothing. Raises DigsigError if it cannot be written; what of it was
        written is removed.
        """
        *folders, last = name.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in (*folders, last)):
            raise ValueError(f"{name!r} is no relative path of a file")
        try:
            folder = os.open(self.path, DIRECTORY)
            try:
                for part in folders:
                    folder = _step_into(folder, part)
                _write_new(folder, last, data, mode)
            finally:
                os.close(folder)
        except OSError as error:
            raise _failed(error) from error

    def create(self, name: str) -> BinaryIO:
        """Open a new file to write to, mode 0600. Follows no link and overwrites nothing. Raises OSError."""
        descriptor = os.open(self.path / name, _NEW_FILE, 0o600)
        return os.fdopen(descriptor, "wb")

    def remove(self) -> None:
        """Remove the directory with all that is in it. Removing twice is removing once.

        It blocks for as long as the file system takes to free the files. Raises DigsigError if something
        resists.
        """
        if self._removed:
            return
        try:
            remove_tree(self.path)
        except OSError as error:
            raise DigsigError("a work directory cannot be removed", detail=f"{self.path}: {error}") from error
        self._removed = True


def _make_own(parent: Path) -> None:
    """Make a directory of this user's own, unless it is there already. Raises DigsigError and OSError."""
    if _may_be_replaced(parent.parent.stat().st_mode):
        raise _unsafe("all users may write to the folder that it is in, which has no sticky bit", parent)
    with suppress(FileExistsError):
        parent.mkdir(0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode):
        hint = "where its folder is to be is something else, perhaps a link to elsewhere; remove that"
    elif status.st_uid != os.geteuid():
        hint = f"its folder belongs to user {status.st_uid}, and is to be user {os.geteuid()}'s; remove it"
    elif status.st_mode & 0o077:
        hint = (
            f"its folder has mode {stat.S_IMODE(status.st_mode):04o}, so others may look into it, and is to have 0700"
        )
    else:
        return
    raise _unsafe(f"{hint}, or set daemon.workdir", parent)


def _check_parent(parent: Path) -> None:
    if _SPOILS in str(parent):
        raise _unsafe(f"its path must not contain {_SPOILS!r}", parent)
    if _may_be_replaced(parent.stat().st_mode):
        raise _unsafe(
            "all users may write to it and it has no sticky bit, so any could put another in its place", parent
        )


def _may_be_replaced(mode: int) -> bool:
    """Whether anybody may rename what is in a directory of this mode."""
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def _unsafe(hint: str, parent: Path) -> DigsigError:
    return DigsigError("the work directory cannot be used", hint=hint, detail=str(parent))


def _make_locked(parent: Path) -> tuple[Path, int]:
    """Make a directory, lock it and mark it, however many daemons clean up around here meanwhile.

    Until it is marked no daemon takes it for a dead one's, but for those of earlier releases. One of those then has the
    lock, or it is done and the directory we can lock is no longer there under its name: in either case, take another.
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
    raise OSError(errno.EBUSY, "something removes or locks whatever is made here", str(parent))


def _clean(parent: Path, own: int) -> str:
    """Remove what crashes left; what was left alone, in words."""
    folder = os.open(parent, DIRECTORY)
    try:
        return remove_leftovers(folder, own)
    finally:
        os.close(folder)


def _step_into(folder: int, name: str) -> int:
    """Open a folder in `folder`, made if need be, and close `folder`."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    inner = os.open(name, DIRECTORY, dir_fd=folder)
    os.close(folder)
    return inner


def _write_new(folder: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(name, _NEW_FILE, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise


def _failed(error: OSError) -> DigsigError:
    if error.errno in _FULL:
        return DigsigError("this signing host has no room left for a request", detail=str(error))
    return DigsigError("this signing host cannot write a request's files", detail=str(error))
