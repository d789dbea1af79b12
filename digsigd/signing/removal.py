"""Remove directory trees with descriptors: follow no links, and never enter anything mounted in them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Requests have two or three levels. Deeper trees were not made by this program.
_DEEPEST = 64
_TRIES = 3
_FOR_GOOD = frozenset({errno.ENOENT, errno.EXDEV, errno.ENAMETOOLONG})
_MOUNT_ID = re.compile(rb"^mnt_id:\s*([0-9]+)$", re.MULTILINE)


class Mount(NamedTuple):
    """The mount that a file is on: its device, and the mount's id, which differs if a device is mounted twice.

    The id is None if /proc is not available: proc(5), /proc/pid/fdinfo.
    """

    device: int
    id: int | None

    @classmethod
    def of(cls, descriptor: int) -> Mount:
        """Return the mount of an open file."""
        found = None
        with suppress(OSError):
            # os.read is faster than a file object, and each request ends with several of these calls.
            info = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = _MOUNT_ID.search(os.read(info, 4096))
            finally:
                os.close(info)
        return cls(os.fstat(descriptor).st_dev, None if found is None else int(found[1]))

    @property
    def in_memory(self) -> bool:
        """Whether the file system is known to be one in memory, where no call waits for a disk or a server."""
        with suppress(OSError):
            for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
                # proc(5): the mount's id is first, and the type follows a hyphen after optional fields.
                before, _, after = line.partition(b" - ")
                if self.id is not None and before.startswith(b"%d " % self.id):
                    return after.startswith((b"tmpfs ", b"ramfs ", b"devtmpfs "))
        return False


def remove_tree(path: Path) -> None:
    """Remove a directory with all its content, also if its directories have modes that deny access. It need not exist.

    Nothing that is mounted in it is touched. Raises `OSError`.
    """
    with _opened(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as parent:
        try:
            with _entered(path.name, parent, None) as folder:
                remove_open(folder, path)
        except OSError:
            if os.path.lexists(path):
                raise


def remove_open(folder: int, path: Path | str, *, parent: int | None = None, last: str = "") -> None:
    """Remove an open directory, which is `path` (relative to the open directory `parent`), and its entry `last` last.

    A process left by a crash may still write into it, so a failure is tried again. Raises `OSError`.
    """
    for left in reversed(range(_TRIES)):
        try:
            empty(folder, last)
            os.rmdir(path, dir_fd=parent)
        except OSError as error:
            if not left or error.errno in _FOR_GOOD:
                raise
        else:
            return


def empty(folder: int, last: str = "") -> None:
    """Remove all entries of an open directory, the entry `last` last. Raises `OSError`."""
    _empty(folder, Mount.of(folder), last, 0)


def check_tree(folder: int) -> None:
    """Raise `OSError` if something is mounted in an open directory, or if that cannot be checked. Change nothing."""
    mount = Mount.of(folder)
    if mount.id is None:
        raise OSError(errno.ENOSYS, "/proc does not show whether something is mounted in it")
    _check(folder, mount, 0)


def _empty(folder: int, mount: Mount, last: str, depth: int) -> None:
    _check_depth(depth)
    if stat.S_IMODE(os.fstat(folder).st_mode) & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(folder, stat.S_IRWXU)
    for name, is_folder in sorted(_entries(folder), key=lambda entry: (entry[0] == last, entry)):
        with suppress(FileNotFoundError):
            if is_folder:
                with _entered(name, folder, mount) as inner:
                    _empty(inner, mount, "", depth + 1)
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)


def _check(folder: int, mount: Mount, depth: int) -> None:
    _check_depth(depth)
    for name, is_folder in _entries(folder):
        # O_PATH needs no right to read the file, and has no effect on devices.
        with suppress(FileNotFoundError), _opened(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, folder) as place:
            _check_mount(place, mount)
        if is_folder:
            with suppress(FileNotFoundError, PermissionError), _opened(name, DIRECTORY, folder) as inner:
                _check_mount(inner, mount)
                _check(inner, mount, depth + 1)


def _check_mount(place: int, mount: Mount) -> None:
    if Mount.of(place) != mount:
        raise OSError(errno.EXDEV, "something is mounted in it")


def _check_depth(depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"it has more than {_DEEPEST} levels of directories")


def _entries(folder: int) -> list[tuple[str, bool]]:
    """Return the names of the entries and whether they are directories. A link is not a directory."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


@contextmanager
def _entered(name: str, parent: int, mount: Mount | None) -> Iterator[int]:
    """Open a directory of this user, and change its mode first if needed."""
    try:
        folder = os.open(name, DIRECTORY, dir_fd=parent)
    except PermissionError:
        with _opened(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, parent) as place:
            if mount is not None:
                _check_mount(place, mount)
            # fchmod(2) does not work with O_PATH. This path leads to the same file and follows no link.
            Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
        folder = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        if mount is not None:
            _check_mount(folder, mount)
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _opened(name: str | Path, flags: int, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
