"""The cage that cst runs in: the layers that work on this host, found by trying them.

The launcher (`launcher/`, a program in C) replaces the shell script: it sets the limits and, with what the kernel lets
it, makes namespaces, restricts files with Landlock and system calls with seccomp. Where it was not built, bubblewrap
makes namespaces behind the script; where that is missing too, Python restricts files (`confine.py`), and where nothing
works, the script alone starts cst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from digsigd.signing.start import LOADER, Limits, Needs, Script, Start, numbers_of

LAUNCHER = Path(__file__).with_name("launcher") / "digsigd-launcher"
# A library that gives cst a temporary file in its own directory, where it can have no /tmp of its own.
TMPFILE = LAUNCHER.with_name("digsigd-tmpfile.so")
# The launcher in Python, which has only Landlock.
CONFINE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("confine.py")))
# Where the dynamic loader finds the system's libraries. Not all are on every system.
_LIBRARIES = (
    "/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib",
    "/etc/ld.so.cache",
)  # fmt: skip
# The layers of the launcher by their letters, the one that fails most often first.
_NAMES = {
    "n": "namespaces (user, mount, pid, net, ipc)",
    "l": "Landlock",
    "s": "seccomp",
}
_TRY_SECONDS = 10.0
# prctl(2), mallopt(3)
_M_PERTURB = -6
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


@dataclass(frozen=True, slots=True)
class Cage:
    """How runs of cst start on this host.

    `told` says which layers there are. `missing` says what does not work, and why; `weak` means that Landlock or
    seccomp is among that.
    """

    start: Start
    told: str
    missing: tuple[str, ...]
    weak: bool


def strongest(paths: Sequence[str | os.PathLike[str]], launcher: Path = LAUNCHER) -> Cage:
    """Return the strongest cage that works here. Blocks for some milliseconds: it starts programs.

    `paths` are what cst may read and execute besides its program. Raises `CstFailed` on a host without a shell.
    """
    extra = tuple(os.fspath(path) for path in paths)
    if not os.access(launcher, os.X_OK):
        return _without(extra, "the launcher is not built: install digsigd where there is a C compiler")
    missing = {}
    working, told = "", ""
    for layer in _NAMES:
        told, problem = _try((str(launcher),), layer, extra)
        if problem:
            missing[layer] = f"{_NAMES[layer]}: {problem}"
        else:
            working += layer
    while working:
        told, problem = _try((str(launcher),), working, extra)
        if not problem:
            break
        # Each works, but not all of them together.
        missing[working[0]] = f"{_NAMES[working[0]]}: {problem}"
        working = working[1:]
    if not working:
        return _without(extra, *missing.values())
    names = [_NAMES[layer] + (f" (ABI {told})" if layer == "l" else "") for layer in working]
    return Cage(Launcher(launcher, working, extra), ", ".join(names), tuple(missing.values()), "ls" not in working)


def _without(extra: tuple[str, ...], *missing: str) -> Cage:
    """Return the best of what works without the launcher."""
    found = shutil.which("bwrap", path="/usr/bin:/bin")
    if found is None:
        missing += ("bwrap: not installed",)
    else:
        if problem := _problem([found, "--unshare-all", "--ro-bind", "/", "/", "/bin/true"])[1]:
            missing += (f"bwrap: {problem}",)
        else:
            return Cage(Bubblewrap(found, extra), "bubblewrap (namespaces)", (*missing, "Landlock", "seccomp"), True)
    abi, problem = _try(CONFINE, "l", extra)
    if not problem:
        names = f"{_NAMES['l']} (ABI {abi}), set by Python"
        return Cage(Launcher(CONFINE, "l", extra), names, (*missing, "seccomp"), True)
    if not any(one.startswith(_NAMES["l"]) for one in missing):
        missing += (f"{_NAMES['l']}: {problem}",)
    return Cage(Script(), "none: only limits and a session", missing, True)


def _try(launcher: tuple[str, ...], layers: str, extra: tuple[str, ...]) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="digsigd-try-") as folder:
        places = [word for path in extra for word in ("run", path)]
        return _problem([*launcher, "try", "1", "layers", layers, *_system(), "directory", folder, *places])


def _problem(command: list[str]) -> tuple[str, str]:
    """Run a command. Return what it said, and if it failed, why."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"LC_ALL": "C"},
            timeout=_TRY_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode == 0:
        return said, ""
    # The kernel has other errors for what it does not know; a filter makes this one, or ends the process.
    forbidden = said.endswith(f"{_NAMES['l']}: {os.strerror(errno.EPERM)}")
    if forbidden or done.returncode == -signal.SIGSYS:
        return said, "a filter of system calls forbids it (SystemCallFilter= of a systemd unit?)"
    return said, said.rpartition("\n")[2][:200] or f"exit code {done.returncode}"


def _system() -> list[str]:
    return [word for path in _LIBRARIES for word in ("read-if-there", path)] + ["read", "/dev/null"]


class Launcher:
    """The launcher, or the words that start another, with these layers. `extra` is what cst may read and execute."""

    def __init__(self, launcher: Path | Sequence[str], layers: str, extra: tuple[str, ...] = ()) -> None:
        self._first = [*([str(launcher)] if isinstance(launcher, Path) else launcher), "layers", layers]
        self._own_tmp = "n" in layers
        self._extra = [word for path in extra for word in ("run", path)]

    def command(self, cwd: str, limits: Limits, needs: Needs, executable: str) -> list[str]:
        """Implement `Start`."""
        soft, hard, memory, file_size, files = map(int, numbers_of(limits))
        words = [*self._first, "parent", str(os.getpid()), *_libraries_for(needs), *self._extra]
        for option, values in (
            ("read-if-there", needs.read),
            ("write-if-there", needs.write),
            ("port", map(str, needs.ports)),
        ):
            words += [word for value in values for word in (option, value)]
        if needs.module:
            words += ["module", "sockets" if any(map(_is_socket, needs.write)) else "plain"]
        if needs.temporary:
            words += ["tmp", "own"] if self._own_tmp else ["preload", str(TMPFILE)] if TMPFILE.is_file() else []
        return [
            *words, "directory", cwd, *_program(executable, needs), "cpu", str(soft), "hard-cpu", str(hard),
            "memory", str(memory << 10), "file-size", str(file_size << 9), "open-files", str(files), "--",
        ]  # fmt: skip


class Bubblewrap:
    """The script, and bubblewrap behind it."""

    def __init__(self, bwrap: str, extra: tuple[str, ...] = ()) -> None:
        self._script = Script()
        self._first = [bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--dev", "/dev"]
        self._extra = extra

    def command(self, cwd: str, limits: Limits, needs: Needs, executable: str) -> list[str]:
        """Implement `Start`."""
        words = [*self._script.command(cwd, limits, needs, executable), *self._first]
        if needs.ports:
            words.append("--share-net")
        if needs.temporary:
            words += ["--tmpfs", "/tmp"]  # noqa: S108 - of its own
        libraries = _LIBRARIES if needs.module or not needs.libraries else ()
        own = (needs.libraries,) if needs.libraries else ()
        for path in (*libraries, *own, *self._extra, *needs.read, executable):
            words += ["--ro-bind-try", path, path]
        for path in (*needs.write, cwd):
            words += ["--dev-bind-try", path, path]
        return [*words, "--chdir", cwd, "--"]


def _libraries_for(needs: Needs) -> list[str]:
    """Return the options for what the dynamic loader reads: the program's own libraries, or the system's."""
    if not needs.libraries:
        return _system()
    return ["read", needs.libraries, *(_system() if needs.module else ["read", "/dev/null"])]


def _program(executable: str, needs: Needs) -> list[str]:
    # The kernel executes the loader, which only reads the program.
    return ["read", executable, "run", f"{needs.libraries}/{LOADER}"] if needs.libraries else ["run", executable]


def _is_socket(path: str) -> bool:
    return Path(path).is_socket()


def protect_memory() -> None:
    """Keep this process's memory from others, and what it starts from gaining rights.

    It cannot be read by others of its user nor dumped; children can again, unless they are in a cage. What is freed is
    overwritten, so that keys are in memory no longer than they are kept; objects of less than 512 bytes, which Python
    does not free one by one, only with their neighbours. Where the C library has no such function, that is left out.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        library.mallopt(_M_PERTURB, 0x5A)
