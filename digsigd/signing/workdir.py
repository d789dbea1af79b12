"""The work directory of one request."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from digsigd.errors import DigsigError, NoSpace, out_of_descriptors
from digsigd.signing.removal import DIRECTORY, empty, remove_tree

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# More files than a request has.
_FILES = 64


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

    def take(self, name: str) -> int:
        """Open a file of this directory for reading, and remove its name: nothing can reach it by that any more.

        Returns the descriptor. Raises `OSError` as `open` does.
        """
        descriptor = self.open(name)
        try:
            os.unlink(name, dir_fd=self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._names.remove(name)
        return descriptor

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
            if not self._is_at_path():
                # It was moved away, with the keys in it. Whatever has its name now goes as well.
                empty(self._folder)
            remove_tree(self.path)
        except OSError as error:
            raise DigsigError("a work directory cannot be removed", detail=f"{self.path}: {error}") from error
        self._done()

    def _is_at_path(self) -> bool:
        """Return whether the path still leads to the directory that was opened."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._folder))
        except FileNotFoundError:
            return False

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
            if not self._is_at_path():
                return False
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
