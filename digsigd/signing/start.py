"""How a run is started: by a shell script that sets its limits, where there is no cage (`cage.py`)."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass
from typing import Protocol

from digsigd.errors import CstFailed

# Twisted starts a process with posix_spawn, which does not make a session, change the directory or set limits.
# setsid and a shell do that in 1.5 ms of CPU time; setsid, prlimit and `env -C` took 2.1 ms.
# Every value is a positional parameter, so the shell interprets none of them. The soft limit of CPU time is set first,
# because a hard limit below the soft one is refused. It stays below the hard limit, at which the kernel sends KILL
# instead of XCPU. -v counts KiB, -f 512 bytes. The script then waits for a line, so a run in the queue is ready when
# its turn comes. If the daemon dies meanwhile, `read` fails and the script ends.
# What the script and the launcher begin their own lines with.
NAME = "digsigd-start"
# The dynamic loader in the folder of a cst's own libraries.
LOADER = "ld-linux-x86-64.so.2"
_SCRIPT = (
    'exec 2>&1; umask 077; cd -- "$1" && unset PWD OLDPWD && ulimit -S -t "$2" && ulimit -H -t "$3" '
    '&& ulimit -v "$4" && ulimit -f "$5" && ulimit -n "$6" && ulimit -c 0 && read -r _ || exit 126; '
    'shift 6; exec "$@" </dev/null'
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each process of a run: CPU time in seconds, bytes of memory, bytes of any file, open files.

    A limit above the daemon's hard limit is lowered to it. Core dumps are off.
    """

    cpu_seconds: int
    memory: int
    file_size: int
    open_files: int


def numbers_of(limits: Limits) -> list[str]:
    """Return soft and hard limit of CPU time, memory in KiB, file size in 512 bytes, open files: as ulimit has them."""
    cpu = _below_hard(resource.RLIMIT_CPU, limits.cpu_seconds)
    return [
        str(cpu),
        str(_below_hard(resource.RLIMIT_CPU, cpu + 1)),
        str(_below_hard(resource.RLIMIT_AS, limits.memory) >> 10),
        str(_below_hard(resource.RLIMIT_FSIZE, limits.file_size + 511) >> 9),
        str(_below_hard(resource.RLIMIT_NOFILE, limits.open_files)),
    ]


def _below_hard(which: int, wanted: int) -> int:
    hard = resource.getrlimit(which)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run may use besides its own directory, its program and the system's libraries.

    Paths to read, paths to write (a folder's files, a socket, a device) and TCP ports to connect to. `module` means
    that a PKCS #11 module runs in it, which may have threads. `libraries` is a folder with a dynamic loader and the
    program's own libraries. The system's are used besides if there is a module. `temporary` means that it makes a
    temporary file with tmpfile(3), which is in /tmp.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    module: bool = False
    libraries: str = ""
    temporary: bool = False


NOTHING = Needs()


def words_of(executable: str, needs: Needs) -> list[str]:
    """Return the words that start a program, with its own libraries if it has some."""
    if not needs.libraries:
        return [executable]
    folder = needs.libraries
    return [f"{folder}/{LOADER}", "--library-path", folder, "--argv0", executable, executable]


class Start(Protocol):
    """A way to start a program: the command in front of it.

    With `Needs.libraries`, the words of the program are those of `words_of`.
    """

    def command(self, cwd: str, limits: Limits, needs: Needs, executable: str) -> list[str]:
        """Return the words of a command to which the program's words and its arguments are appended."""


class Script:
    """The script. Raises `CstFailed` without setsid or a shell."""

    def __init__(self) -> None:
        self._words = [_find("setsid"), _find("dash", "sh"), "-c", _SCRIPT, NAME]

    def command(self, cwd: str, limits: Limits, needs: Needs, executable: str) -> list[str]:  # noqa: ARG002
        """Implement `Start`. It keeps the program from nothing."""
        return [*self._words, cwd, *numbers_of(limits)]


def _find(*names: str) -> str:
    """Return the absolute path of the first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name, path="/usr/bin:/bin") or shutil.which(name):
            return os.path.abspath(found)  # noqa: PTH100 - resolved, a link to busybox would lose its name
    raise CstFailed("cst cannot be run on this host", detail=f"{' or '.join(names)} is missing")
