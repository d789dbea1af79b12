"""Private directories: one for this daemon, in it one for each request, and none left over."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from digsigd.errors import DigsigError

PREFIX = "digsigd-"
# cst makes a key's path from its certificate's by putting `keys` for the first of these anywhere in it.
_SPOILS = "crts"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Far more than daemons ever start at once.
_TRIES = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkRoot:
    """The daemon's own directory in `parent`, which several daemons may share.

    It is `parent/digsigd-XXXXXXXX`, mode 0700, and carries an exclusive flock(2) on itself as long as its
    daemon lives: whoever can take that lock has found one that a crash left. systemd-tmpfiles(8) leaves a
    locked directory alone as well. Its methods block; none takes long but `open` where a crash left much.
    """

    log = Logger()

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._path: Path | None = None
        self._lock = -1
        self._making = threading.Lock()

    @property
    def path(self) -> Path:
        """The directory, once it is open."""
        if self._path is None:
            raise RuntimeError("the work directory is not open")
        return self._path

    def open(self) -> None:
        """Remove what crashed daemons of this user left in the parent, then make the directory and lock it.

        Raises DigsigError if the parent is missing, cannot be written, is not safe, or has `crts` in its
        path.
        """
        if self._path is not None:
            raise RuntimeError("the work directory is open already")
        try:
            parent = self._parent.resolve(strict=True)
            _check_parent(parent)
            with os.scandir(parent) as entries:
                names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
            for name in names:
                self._remove_if_left(parent / name)
            self._path, self._lock = _make_locked(parent)
        except OSError as error:
            raise DigsigError(
                "the work directory cannot be used", hint=error.strerror or "", detail=str(error)
            ) from error

    def new(self, name: str) -> Workdir:
        """Make the directory of one request, mode 0700. `name` is our own, never a client's text.

        Raises DigsigError if it cannot be made, for one because there is one of that name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a work directory")
        name = name.replace(_SPOILS, "crt-s")
        try:
            try:
                (self.path / name).mkdir(0o700)
            except FileNotFoundError:
                self._make_again()
                (self.path / name).mkdir(0o700)
        except OSError as error:
            raise _failed(error) from error
        return Workdir(self.path / name)

    def _make_again(self) -> None:
        """Somebody who cleans up has removed the directory. Requests under way fail; others need not."""
        with self._making:
            if self.path.exists():
                return
            self.log.warn("{path} is gone, another is made", path=self._path, event="workdir")
            path, lock = _make_locked(self.path.parent)
            os.close(self._lock)
            self._path, self._lock = path, lock

    def close(self) -> None:
        """Remove the directory with all that is in it, and give up the lock. A second time does nothing."""
        if self._path is not None:
            try:
                _remove(self._path)
            except OSError as error:
                # The next start tries again.
                self.log.warn("{path} cannot be removed: {error}", path=self._path, error=error)
            os.close(self._lock)
            self._path = None

    def _remove_if_left(self, path: Path) -> None:
        """Remove a directory that is ours by its owner, and whose daemon is gone."""
        try:
            lock = os.open(path, _DIRECTORY)
        except OSError:
            return  # a link, a file, another user's, or gone
        try:
            if os.fstat(lock).st_uid == os.geteuid() and _locked(lock):
                # Held to the end, so that a daemon which made it just now and was about to lock it notices.
                _remove(path)
        except OSError as error:
            self.log.warn("what a crash left cannot be removed: {path}: {error}", path=path, error=error)
        finally:
            os.close(lock)


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
            folder = os.open(self.path, _DIRECTORY)
            try:
                for part in folders:
                    folder = _step_into(folder, part)
                _write_new(folder, last, data, mode)
            finally:
                os.close(folder)
        except OSError as error:
            raise _failed(error) from error

    def remove(self) -> None:
        """Remove the directory with all that is in it. Removing twice is removing once.

        It blocks for as long as the file system takes to free the files. Raises DigsigError if something
        resists.
        """
        if self._removed:
            return
        try:
            _remove(self.path)
        except OSError as error:
            raise DigsigError("a work directory cannot be removed", detail=str(error)) from error
        self._removed = True


def _check_parent(parent: Path) -> None:
    mode = parent.stat().st_mode
    if _SPOILS in str(parent):
        hint = f"its path must not contain {_SPOILS!r}"
    elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        hint = "all users may write to it and it has no sticky bit, so any could put another in its place"
    else:
        return
    raise DigsigError("the work directory cannot be used", hint=hint, detail=str(parent))


def _make_locked(parent: Path) -> tuple[Path, int]:
    """Make a directory and lock it, however many daemons clean up around here meanwhile.

    Between the two, a starting daemon may take it for a dead one's. It then has the lock, or it is done and
    the directory we can lock is no longer there under its name: in either case, take another.
    """
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            if _SPOILS in path.name:
                path.rmdir()
                continue
            lock = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            if _locked(lock) and os.path.samestat(os.fstat(lock), path.lstat()):
                return path, lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            path.rmdir()
            raise
        os.close(lock)
    raise OSError(errno.EBUSY, "something removes or locks whatever is made here", str(parent))


def _locked(descriptor: int) -> bool:
    """Whether the lock could be taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _step_into(folder: int, name: str) -> int:
    """Open a folder in `folder`, made if need be, and close `folder`."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    inner = os.open(name, _DIRECTORY, dir_fd=folder)
    os.close(folder)
    return inner


def _write_new(folder: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise


def _remove(path: Path) -> None:
    """Remove a directory tree, following no link, whatever the modes of the directories in it."""
    for last in (False, False, True):
        try:
            shutil.rmtree(path)
        except OSError:
            # Gone, being changed by somebody at this moment, or a directory in it is not to be written.
            if not os.path.lexists(path):
                return
            if last:
                raise
            _open_up(path)
        else:
            return


def _open_up(path: Path) -> None:
    """Make every directory of a tree our own to change, from the top, so that the walk gets into each."""
    _open_up_one(path)
    for folder, names, _ in os.walk(path):
        for name in names:
            _open_up_one(Path(folder, name))


def _open_up_one(folder: Path) -> None:
    with suppress(OSError):
        if not folder.is_symlink():
            folder.chmod(0o700)


def _failed(error: OSError) -> DigsigError:
    if error.errno in _FULL:
        return DigsigError("this signing host has no room left for a request", detail=str(error))
    return DigsigError("this signing host cannot write a request's files", detail=str(error))
