"""Key tarballs in a folder of this host."""

from __future__ import annotations

import os
import stat
import time
from errno import EACCES
from itertools import islice
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as LateError
from twisted.internet.interfaces import IReactorTime

from digsigd.errors import BadTarball, KeyStoreFailed, KeyStoreTimeout, NoKeys
from digsigd.keys.exposed import leads_out, store_findings
from digsigd.keys.local import is_local
from digsigd.keys.source import TARBALL, Fetched, InThread, being_written, checked
from digsigd.names import MACHINE
from digsigd.settings.permissions import Finding

# A file written twice within one tick of the file system's clock looks unchanged, so a younger file is read again next
# time. Kernels tick every 1 to 10 ms. Some network file systems tick only every second; there the inode or size shows
# a change, as long as files are replaced as a whole.
_YOUNG_NS = 50_000_000
# A file that was not written to for this long counts as finished.
_PAUSE_OF_WRITERS_NS = 10_000_000_000
_TRIES = 5
# So many entries of the folder are listed.
_MOST_MACHINES = 20_000
_PAUSE = 0.05
# For so many seconds after a thread has looked at a tarball on a local file system, the kernel has what stat(2) needs
# in memory.
_HOT = 60.0


class FileSource:
    """A `file://` key store. It reads in threads, because a network file system can hang.

    Whether a tarball has changed is seen without one where that waits for nothing: handing a call to a thread and back
    takes thirty times as long as the call.
    """

    def __init__(
        self, root: Path, *, max_tarball: int, timeout: float, clock: IReactorTime, in_thread: InThread
    ) -> None:
        self._root = root
        self._max_tarball = max_tarball
        self._timeout = timeout
        self._clock = clock
        self._in_thread = in_thread
        # Until when what is known of a machine's tarball is looked at without a thread.
        self._hot: dict[str, float] = {}

    def __str__(self) -> str:
        return self._root.as_uri()

    async def fetch(self, machine: str, known: Any) -> Fetched:
        """Implement `KeySource.fetch`. The version is the file's identity in stat(2): inode, size and times."""
        path = self._root / checked(machine) / TARBALL
        hot = known is not None and self._clock.seconds() < self._hot.get(machine, 0.0)
        if hot and _is_unchanged(self._root, path, machine, known):
            return Fetched(None, known)
        self._hot.pop(machine, None)
        fetched, local = await self._in_time(
            self._in_thread(_read_and_look, self._root, path, machine, self._max_tarball, known)
        )
        if local:
            self._hot[machine] = self._clock.seconds() + _HOT
        return cast(Fetched, fetched)

    async def check(self) -> None:
        """Implement `KeySource.check`: the folder must exist and be readable."""
        await self._in_time(self._in_thread(_check_root, self._root))

    async def machines(self) -> list[str]:
        """Return the machines that have a tarball, in order. Raises `KeyStoreFailed`, `KeyStoreTimeout`."""
        found: list[str] = await self._in_time(self._in_thread(_machines_in, self._root))
        return found

    async def findings(self) -> list[Finding]:
        """Return what is not safe about the folder. Raises `KeyStoreTimeout`."""
        found: list[Finding] = await self._in_time(self._in_thread(store_findings, self._root))
        return found

    async def close(self) -> None:
        """Implement `KeySource.close`. Nothing is open."""

    async def _in_time(self, reading: Deferred[Any]) -> Any:
        try:
            return await reading.addTimeout(self._timeout, self._clock)
        except LateError:
            raise KeyStoreTimeout("the key store did not answer in time", detail=str(self)) from None


def _unreadable(error: OSError) -> KeyStoreFailed:
    """Return the error for a store or a tarball that cannot be read. What to do is for the operator alone."""
    advice = ": give it to a group of the daemon's user, with mode 0640, folders 0750" if error.errno == EACCES else ""
    return KeyStoreFailed("the key store cannot be read", detail=f"{error}{advice}")


def _machines_in(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_MACHINES) if MACHINE.fullmatch(entry.name))
    except OSError as error:
        raise _unreadable(error) from None
    return [name for name in names if os.path.exists(root / name / TARBALL)]  # noqa: PTH110 - thousands of them


def _check_root(root: Path) -> None:
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise KeyStoreFailed("the key store cannot be read", detail=f"{root} is not a folder")
        if not os.access(root, os.R_OK | os.X_OK):
            raise _unreadable(PermissionError(EACCES, os.strerror(EACCES), str(root)))
    except OSError as error:
        raise _unreadable(error) from None


def _is_unchanged(root: Path, path: Path, machine: str, known: object) -> bool:
    """Return whether the tarball is the known one. If not, or if it cannot be opened, `_read` finds out why."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_place(root, path, machine, descriptor)
            return _identity(os.fstat(descriptor)) == known
        finally:
            os.close(descriptor)
    except (OSError, BadTarball):
        return False


def _read_and_look(root: Path, path: Path, machine: str, max_tarball: int, known: Any) -> tuple[Fetched, bool]:
    return _read(root, path, machine, max_tarball, known), is_local(path)


def _read(root: Path, path: Path, machine: str, max_tarball: int, known: Any) -> Fetched:
    for _ in range(_TRIES):
        try:
            # A FIFO at this path must not block the thread.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            _check_root(root)
            raise NoKeys(
                f"there are no keys for machine {machine!r}",
                hint="check the machine name; if it is right, add its key tarball to the signing host's key store",
                detail=str(path),
            ) from None
        except OSError as error:
            raise _unreadable(error) from None
        try:
            _check_place(root, path, machine, descriptor)
            status = os.fstat(descriptor)
            before = _identity(status)
            if before == known:
                return Fetched(None, known)
            version = None if _is_young(status) else before
            data = _bytes_of(descriptor, path, max_tarball)
            after = os.fstat(descriptor)
        except OSError as error:
            raise _unreadable(error) from None
        finally:
            os.close(descriptor)
        if _identity(after) == before and after.st_size == len(data):
            return Fetched(data, version, unfinished=_age(after.st_mtime_ns) < _PAUSE_OF_WRITERS_NS)
        time.sleep(_PAUSE)  # another process is writing the file; this is a thread
    raise being_written(machine, f"{path} changed while it was read")


def _check_place(root: Path, path: Path, machine: str, descriptor: int) -> None:
    """Raise `BadTarball` if the open file is not in the machine's folder: a link could give it another's keys."""
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - " (deleted)" may be at the end
    except FileNotFoundError:  # no /proc
        real = os.path.realpath(path)
    if leads_out(root, machine, real):
        raise BadTarball(
            f"the key tarball of machine {machine!r} is outside its folder in the key store",
            hint="the operator has to replace the link by the tarball",
            detail=f"{path} is {real}",
        )


def _bytes_of(descriptor: int, path: Path, max_tarball: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeyStoreFailed("the key store cannot be read", detail=f"{path} is not a regular file")
    if status.st_size > max_tarball:
        raise BadTarball(f"the key tarball has {status.st_size} bytes, more than the limit of {max_tarball}")
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read(max_tarball + 1)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _is_young(status: os.stat_result) -> bool:
    return _age(max(status.st_mtime_ns, status.st_ctime_ns)) < _YOUNG_NS


def _age(written_ns: int) -> int:
    """Return the age in nanoseconds. The clock of a file server can be ahead of ours."""
    return abs(time.time_ns() - written_ns)
