"""Work directories: a private directory of this daemon, and in it one for each request."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from twisted.logger import Logger

from digsigd.errors import DigsigError, NoSpace, out_of_descriptors, shutting_down
from digsigd.signing.leftovers import StrandedError, locked, remove_leftovers
from digsigd.signing.marks import PREFIX, mark_of, write_mark
from digsigd.signing.removal import DIRECTORY, Mount, empty, remove_open, remove_tree

# cst makes the path of a key from the path of its certificate by replacing the first "crts" in it with "keys".
_SPOILS = "crts"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# More files than a request has.
_FILES = 64
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


class Workdir:
    """The work directory of one request.

    It is opened at once, and its files are opened from that descriptor, whatever cst does to names meanwhile. Raises
    `OSError` if it is not a directory. `in_memory`: its file system is one in memory.
    """

    def __init__(self, path: Path, *, in_memory: bool = False) -> None:
        self.path = path
        self.in_memory = in_memory
        self._folder = os.open(path, DIRECTORY)
        self._removed = False
        # The names made in it, and for each of its folders what identifies the folder and the names made there.
        self._names: list[str] = []
        self._folders: dict[str, tuple[tuple[int, int], list[str]]] = {}

    def __del__(self) -> None:
        if not getattr(self, "_removed", True):
            os.close(self._folder)

    @property
    def removed(self) -> bool:
        """Whether the directory was removed."""
        return self._removed

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Write a new file. `name` is a relative path. Its folders are made with mode 0700 if they are missing.

        Follows no links and overwrites nothing. Raises `DigsigError` if the file cannot be written, leaving no partial
        file, and `ValueError` if `name` is not a plain relative path.
        """
        self.write_all({name: data}, mode)

    def write_all(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        """Write new files as `write` does, with fewer system calls. Raises what `write` raises."""
        inside: dict[str, dict[str, bytes]] = {}
        for name, data in files.items():
            folder, _, last = name.rpartition("/")
            parts = name.split("/")
            if any(part in {"", ".", ".."} or "\0" in part for part in parts):
                raise ValueError(f"{name!r} is not a relative path of a file")
            inside.setdefault(folder, {})[last] = data
        try:
            for folder, those in inside.items():
                self._write_into(folder, those, mode)
        except OSError as error:
            raise failed(error) from error

    def _write_into(self, folder: str, files: Mapping[str, bytes], mode: int) -> None:
        if not folder:
            for name, data in files.items():
                _write_new(self._folder, name, data, mode)
                self._names.append(name)
            return
        descriptor = self._folder
        try:
            for part in folder.split("/"):
                descriptor = _step_into(descriptor, part, keep=descriptor == self._folder)
            if "/" not in folder and folder not in self._folders:
                self._folders[folder] = (_identity(descriptor), [])
            for name, data in files.items():
                _write_new(descriptor, name, data, mode)
                if folder in self._folders:
                    self._folders[folder][1].append(name)
        finally:
            if descriptor != self._folder:
                os.close(descriptor)

    def create(self, name: str) -> BinaryIO:
        """Open a new file for writing, mode 0600. Follows no links and overwrites nothing. Raises `OSError`."""
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=self._folder)
        self._names.append(name)
        return os.fdopen(descriptor, "wb")

    def enter(self, name: str, links: Sequence[str], made: Sequence[str] = ()) -> None:
        """Make the folder `name`, with links to entries of this directory. Raises `DigsigError` if that fails.

        `made` are names of files that others will make in it: those are removed fastest.
        """
        try:
            os.mkdir(name, 0o700, dir_fd=self._folder)
            folder = os.open(name, DIRECTORY, dir_fd=self._folder)
            try:
                self._folders[name] = (_identity(folder), [*links, *made])
                for link in links:
                    os.symlink(f"../{link}", link, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise failed(error) from error

    def open(self, name: str) -> int:
        """Open a file for reading, and return its descriptor. `name` is a relative path.

        Follows no links, and waits for nobody. Raises `OSError`, also if it is not a regular file.
        """
        *folders, last = name.split("/")
        folder = self._folder
        try:
            for part in folders:
                inner = os.open(part, DIRECTORY, dir_fd=folder)
                if folder != self._folder:
                    os.close(folder)
                folder = inner
            return open_regular(last, folder)
        finally:
            if folder != self._folder:
                os.close(folder)

    def size_of(self, name: str) -> int | None:
        """Return the size of a regular file, by its relative path; None if there is none.

        Raises `Busy` if nobody can tell.
        """
        try:
            descriptor = self.open(name)
        except OSError as error:
            if busy := out_of_descriptors(error):
                raise busy from error
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def read(self, name: str, most: int) -> bytes:
        """Return the start of a file, at most `most` bytes. Raises `OSError` as `open` does."""
        with os.fdopen(self.open(name), "rb", buffering=0) as file:
            # `most` bytes would be allocated, and overwritten when they are freed.
            return file.read(min(most, os.fstat(file.fileno()).st_size)) or b""

    def check_space(self, size: int) -> None:
        """Raise `NoSpace` unless the file system has room for files of `size` bytes in all."""
        check_space(self.path, size)

    def remove(self) -> None:
        """Remove the directory with all its content. Further calls do nothing.

        Blocks while the file system frees the files. Raises `DigsigError` if something cannot be removed.
        """
        if self.remove_known():
            return
        try:
            remove_tree(self.path)
        except OSError as error:
            raise DigsigError("a work directory cannot be removed", detail=f"{self.path}: {error}") from error
        self._done()

    def _done(self) -> None:
        self._removed = True
        os.close(self._folder)

    def remove_known(self) -> bool:
        """Remove what was made here, by its names, and the directory. Return whether that was all there was.

        Looking at everything in it, as `remove` does, takes three times as many system calls, and longer for what cst
        may have left beside its blob.
        """
        if self._removed:
            return True
        try:
            for name, (identity, names) in self._folders.items():
                folder = os.open(name, DIRECTORY, dir_fd=self._folder)
                try:
                    if _identity(folder) != identity:
                        # Something else has been moved or mounted there.
                        return False
                    for one in names:
                        os.unlink(one, dir_fd=folder)
                finally:
                    os.close(folder)
                os.rmdir(name, dir_fd=self._folder)
            for one in self._names:
                os.unlink(one, dir_fd=self._folder)
            self.path.rmdir()
        except OSError:
            return False
        self._done()
        return True


def open_regular(path: str | Path, folder: int | None = None, *, follow: bool = False) -> int:
    """Open a regular file for reading. Raises `OSError`; for anything but a regular file without waiting for it."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def check_space(path: Path, size: int) -> None:
    """Raise `NoSpace` unless the file system of a directory has room for `size` bytes and a few files more."""
    try:
        room = os.statvfs(path)
    except OSError as error:
        raise failed(error) from error
    # A file system without a fixed number of files says that it has none.
    if room.f_bavail * room.f_frsize < size or (room.f_files and room.f_favail < _FILES):
        raise NoSpace(detail=f"{path}: {room.f_bavail * room.f_frsize} bytes and {room.f_favail} files are free")


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


def _step_into(folder: int, name: str, *, keep: bool) -> int:
    """Open a folder in `folder`, make it if needed, and close `folder` unless it is to be kept."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    inner = os.open(name, DIRECTORY, dir_fd=folder)
    if not keep:
        os.close(folder)
    return inner


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _write_new(folder: int, name: str, data: bytes, mode: int) -> None:
    descriptor = os.open(name, _NEW_FILE, mode, dir_fd=folder)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise


def failed(error: OSError) -> DigsigError:
    """Return the error of a request whose files cannot be written: `NoSpace`, `Busy`, or a fault of this host."""
    if error.errno in _FULL:
        return NoSpace(detail=str(error))
    if busy := out_of_descriptors(error):
        return busy
    return DigsigError("this signing host cannot write the files of the request", detail=str(error))
