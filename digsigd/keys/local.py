"""Which file systems are of this host alone, so that looking up a path that was just used waits for nothing."""

from __future__ import annotations

import os
from pathlib import Path

# Types in the sense of filesystems(5). Unlike these, network file systems and those in user space (FUSE) can hang;
# overlayfs can have either below it. btrfs has device numbers of its own for subvolumes, and is found where it has not.
_LOCAL = frozenset({b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs", b"tmpfs", b"ramfs", b"devtmpfs"})


def is_local(path: Path) -> bool:
    """Return whether `path` and all folders above it are known to be on local file systems. It blocks.

    Links on the way count as their targets do.
    """
    try:
        kinds = _kinds()
        found = {os.stat(one).st_dev for start in (path, path.resolve(strict=True)) for one in (start, *start.parents)}  # noqa: PTH116
    except (OSError, ValueError, RuntimeError):
        return False
    return all(kinds.get((os.major(one), os.minor(one))) in _LOCAL for one in found)


def _kinds() -> dict[tuple[int, int], bytes]:
    """Return the type of each mounted file system by its device number: proc_pid_mountinfo(5), fields 3 and 9."""
    kinds = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        major, _, minor = before.split(b" ")[2].partition(b":")
        kinds[int(major), int(minor)] = after.split(b" ")[0]
    return kinds
